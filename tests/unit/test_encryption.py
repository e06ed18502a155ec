# SPDX-License-Identifier: GPL-3.0-or-later
"""Encryption with real keys of gpg and age: what goes in comes back with the right key, and with no other."""

from __future__ import annotations

import collections
import itertools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.codec import keyring, openpgp
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.codec.ciphers import (
    HEAD_BYTES,
    cipher,
    cipher_named,
)
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.codec.stamp import stamped, stamped_keys
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.codec.stream import Outgoing, Shape, incoming
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import (
    BadInput,
    Corrupt,
    NoKey,
    Refused,
    Unreachable,
)
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg.walfile import wal_name
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.archive import Stored, WalArchive, pack
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.repository import Repository
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import RepositorySettings, from_mapping
from tests.support.keys import KeyMaker, KeyPair, both, opening
from tests.support.physical import flip_a_bit

METHODS = ["gpg", "age"]
CONTENT = (os.urandom(1 << 20), b"x" * 700_000, b"end")


@pytest.fixture(scope="module")
def maker(tmp_path_factory: pytest.TempPathFactory) -> KeyMaker:
    return KeyMaker(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def keys(maker: KeyMaker) -> dict[str, KeyPair]:
    return {f"{method} {name}": maker.make(method, name) for method in METHODS for name in ("one", "two")}


def encryption(section: dict):
    return from_mapping({"cluster": "main", "encryption": section}).encryption


def encrypted(section: dict, content=CONTENT) -> bytes:
    return b"".join(cipher(encryption(section)).encrypt(iter(content)))


def decrypted(method: str, section: dict, stored: bytes) -> bytes:
    return b"".join(cipher_named(method, encryption(section)).decrypt([stored]))


@pytest.mark.parametrize("method", METHODS)
def test_the_private_key_brings_back_what_the_public_one_locked(keys, method):
    pair = keys[f"{method} one"]
    stored = encrypted(pair.settings)
    assert CONTENT[1][:100] not in stored
    assert decrypted(method, pair.opening, stored) == b"".join(CONTENT)
    assert decrypted(method, pair.opening, encrypted(pair.settings, [])) == b""


@pytest.mark.parametrize("method", METHODS)
def test_each_of_two_recipients_opens_it_alone(keys, method):
    one, two = keys[f"{method} one"], keys[f"{method} two"]
    stored = encrypted(both(one, two))
    for pair in (one, two):
        assert decrypted(method, pair.opening, stored) == b"".join(CONTENT)
    assert set(cipher(encryption(both(one, two))).key_ids()) == {one.key_id, two.key_id}


@pytest.mark.parametrize("method", METHODS)
def test_without_the_right_key_it_is_told_that_the_key_is_missing(keys, method):
    stored = encrypted(keys[f"{method} one"].settings)
    other = "age" if method == "gpg" else "gpg"
    for wrong in (keys[f"{method} two"].opening, keys[f"{other} one"].opening):
        with pytest.raises(NoKey) as caught:
            decrypted(method, wrong, stored)
        assert "identity_files" in caught.value.hint


def test_gpg_without_any_keyring_says_which_key_it_needs(keys, tmp_path):
    stored = encrypted(keys["gpg one"].settings)
    with pytest.raises(NoKey, match=keys["gpg one"].key_id):
        decrypted("gpg", {"homedir": str(tmp_path)}, stored)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("damage", [lambda raw: flip_a_bit(raw, 0.7), lambda raw: raw[:-30], lambda raw: raw + b"more"])
def test_damage_is_corrupt_and_never_a_missing_key(keys, method, damage):
    pair = keys[f"{method} one"]
    with pytest.raises(Corrupt):
        decrypted(method, pair.opening, damage(encrypted(pair.settings)))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [0, 10, 70_000, 5 << 20])
def test_the_first_bytes_tell_whether_it_opens(keys, method, size):
    one, two = keys[f"{method} one"], keys[f"{method} two"]
    head = encrypted(one.settings, [os.urandom(size)])[:HEAD_BYTES]
    cipher_named(method, encryption(one.opening)).check_opens(head)
    with pytest.raises(NoKey):
        cipher_named(method, encryption(two.opening)).check_opens(head)


def test_an_expired_key_encrypts_nothing_more_and_still_opens_what_it_did(maker):
    pair = maker.gpg("expiring", expires="seconds=3")
    stored = encrypted(pair.settings)
    until_expired = itertools.repeat(cipher(encryption(pair.settings)), 1000)
    with pytest.raises(BadInput, match="cannot be used"):
        collections.deque((it.key_ids() for it in until_expired), maxlen=0)
    assert decrypted("gpg", pair.opening, stored) == b"".join(CONTENT)


def test_a_key_that_expires_soon_is_told(maker):
    soon, later = maker.gpg("soon", expires="12d"), maker.gpg("later", expires="400d")
    found = cipher(encryption(both(soon, later))).warnings()
    assert len(found) == 1
    assert soon.key_id in found[0]


def test_a_passphrase_comes_from_its_file_and_stands_in_no_command_line(maker):
    pair = maker.gpg("locked", passphrase="open sesame 4711")
    stored = encrypted(pair.settings)
    assert decrypted("gpg", pair.opening, stored) == b"".join(CONTENT)
    wrong = pair.passphrase.with_name("wrong")
    wrong.write_text("no idea\n")
    for section in ({"identity_files": [str(pair.secret)]}, {**pair.opening, "passphrase_file": str(wrong)}):
        with pytest.raises(NoKey, match="passphrase") as caught:
            decrypted("gpg", section, stored)
        assert "sesame" not in str(caught.value)
        assert "no idea" not in str(caught.value)


def test_an_operators_keyring_serves_both_ways(maker):
    pair = maker.gpg("ring")
    home = str(pair.public.with_name("ring.home"))
    section = {"method": "gpg", "recipients": ["ring@example.org"], "homedir": home}
    assert decrypted("gpg", section, encrypted(section)) == b"".join(CONTENT)
    with pytest.raises(BadInput, match="nobody@"):
        encrypted({**section, "recipients": ["nobody@example.org"]})
    subprocess.run(["gpgconf", "--homedir", home, "--kill", "gpg-agent"], check=True)


def test_an_ssh_key_is_a_recipient_of_age(tmp_path):
    if not shutil.which("ssh-keygen"):
        raise AssertionError("ssh-keygen is needed for this test: .ci/run installs it")
    secret = tmp_path / "id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", secret], check=True)
    public = secret.with_suffix(".pub").read_text().strip()
    section = {"method": "age", "recipients": [public]}
    assert decrypted("age", {"identity_files": [str(secret)]}, encrypted(section)) == b"".join(CONTENT)
    said = subprocess.run(["ssh-keygen", "-lf", secret], capture_output=True, text=True, check=True).stdout
    assert cipher(encryption(section)).key_ids() == (said.split()[1],)


def test_keyrings_are_gone_afterwards_and_those_of_the_dead_are_swept(keys, monkeypatch, request):
    short = Path(tempfile.mkdtemp(prefix="dbops"))  # an agent's socket needs a short path
    request.addfinalizer(lambda: shutil.rmtree(short))
    monkeypatch.setattr("tempfile.tempdir", str(short))
    dead = subprocess.Popen(["true"])
    dead.wait()
    left = short / f"dbops-gpg-{os.getuid()}-{dead.pid}-abc"
    left.mkdir()
    keyring.forget_keyrings()
    pair = keys["gpg one"]
    assert decrypted("gpg", pair.opening, encrypted(pair.settings)) == b"".join(CONTENT)
    assert not left.exists()
    (made,) = short.iterdir()
    assert made.stat().st_mode & 0o777 == 0o700
    keyring.forget_keyrings()
    assert list(short.iterdir()) == []


@pytest.mark.parametrize("method", METHODS)
def test_a_missing_program_is_told_with_its_package(keys, method, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda *_arguments, **_more: None)
    with pytest.raises(Unreachable, match="not installed"):
        encrypted(keys[f"{method} one"].settings)


@pytest.mark.parametrize("method", METHODS)
def test_an_error_of_the_source_ends_the_stream_and_is_told_as_it_is(keys, method):
    def broken():
        yield b"some" * 100_000
        raise Corrupt("the disk is sick.")

    with pytest.raises(Corrupt, match="the disk is sick"):
        encrypted(keys[f"{method} one"].settings, broken())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_a_stream_is_compressed_first_and_names_its_keys(keys, method, codec):
    pair = keys[f"{method} one"]
    shape = Shape(codec, cipher=cipher(encryption(pair.settings)))
    passing = Outgoing(CONTENT, shape)
    stored = list(passing)
    assert shape.suffix == (".zst" if codec == "zstd" else "") + f".{method}"
    assert shape.cipher.keys_of(passing.head) == (pair.key_id,)
    reader = cipher_named(method, encryption(pair.opening))
    again = incoming(stored, name="it", codec=codec, stored=passing.stored, plain=passing.plain, cipher=reader)
    assert b"".join(again) == b"".join(CONTENT)
    wrong = cipher_named(method, encryption(keys[f"{method} two"].opening))
    with pytest.raises(NoKey, match="the object"):
        list(incoming(stored, name="the object", codec=codec, stored=passing.stored, plain=None, cipher=wrong))


# -- WAL


NAME = wal_name("000000010000000000000003")


def archive(path: Path, section: dict) -> WalArchive:
    return WalArchive(Repository(RepositorySettings(path=str(path)), "main", encryption=encryption(section)), "73")


def put(into: WalArchive, section: dict, content: bytes, text: str = NAME.text, codec: str = "zstd") -> Stored:
    return into.put_packed(pack(wal_name(text), [content], Shape(codec, cipher=cipher(encryption(section)))))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("codec", ["zstd", "gzip", "lz4"])
def test_wal_is_recognised_without_its_private_key_and_read_with_it(keys, tmp_path, method, codec):
    pair = keys[f"{method} one"]
    writer = archive(tmp_path, pair.settings)
    assert put(writer, pair.settings, b"segment", codec=codec) is Stored.NEW
    assert put(writer, pair.settings, b"segment", codec=codec) is Stored.IDENTICAL
    with pytest.raises(Refused, match="other content"):
        put(writer, pair.settings, b"another", codec=codec)
    with pytest.raises(NoKey):
        writer.get(NAME)
    assert archive(tmp_path, pair.opening).get(NAME) == b"segment"
    (item,) = writer.files()
    assert (item.codec, item.encryption) == (codec, method)


def test_an_archive_of_several_methods_and_keys_is_one(keys, tmp_path):
    every = [{}, *(keys[f"{method} {name}"].settings for method in METHODS for name in ("one", "two"))]
    names = [f"{number:024X}" for number in range(1, len(every) + 1)]
    for text, section in zip(names, every):
        assert put(archive(tmp_path, section), section, text.encode(), text) is Stored.NEW
    for section in every:  # whatever the settings are now, what is there is what was there
        for text in names:
            assert put(archive(tmp_path, section), section, text.encode(), text) is Stored.IDENTICAL
    reader = archive(tmp_path, opening(*keys.values()))
    assert [reader.get(wal_name(text)) for text in names] == [text.encode() for text in names]


def test_a_history_stays_readable(keys, tmp_path):
    section = keys["gpg one"].settings
    writer = archive(tmp_path, section)
    put(writer, section, b"1\t0/3000000\tpromoted\n", "00000002.history")
    assert writer.histories() == {2: "1\t0/3000000\tpromoted\n"}


@pytest.mark.parametrize("method", METHODS)
def test_the_head_of_a_wal_file_names_content_and_keys(keys, method):
    one, two = keys[f"{method} one"], keys[f"{method} two"]
    packed = pack(NAME, [b"segment"], Shape("zstd", cipher=cipher(encryption(both(one, two)))))
    head = b"".join(packed.chunks)[:1024]
    assert stamped(head) == packed.sha256
    assert set(stamped_keys(head)) == {one.key_id, two.key_id}


def test_gpg_itself_passes_over_the_note(keys, tmp_path):
    pair = keys["gpg one"]
    packed = pack(NAME, [b"segment"], Shape("gzip", cipher=cipher(encryption(pair.settings))))
    (tmp_path / "it.gz.gpg").write_bytes(b"".join(packed.chunks))
    home = pair.public.with_name("one.home")
    plain = subprocess.run(
        ["gpg", "--homedir", home, "--batch", "--quiet", "--decrypt", tmp_path / "it.gz.gpg"],
        capture_output=True,
        check=True,
    ).stdout
    assert subprocess.run(["gzip", "-dc"], input=plain, capture_output=True, check=True).stdout == b"segment"
    subprocess.run(["gpgconf", "--homedir", home, "--kill", "gpg-agent"], check=True)


@given(st.binary(max_size=300), st.binary(max_size=2000))
def test_any_bytes_are_read_as_packets_without_an_accident(note, garbage):
    assert openpgp.key_ids(garbage) == openpgp.key_ids(openpgp.comment(note) + garbage)


# -- settings


@pytest.mark.parametrize(
    ("section", "word"),
    [
        ({"method": "rot13"}, "encryption.method"),
        ({"method": "gpg"}, "nobody is named"),
        ({"method": "gpg", "recipients": ["0xABCD"]}, "keyring"),
        ({"method": "gpg", "recipient_files": ["key.asc"]}, "absolute path"),
        ({"method": "age", "recipients": ["me@example.org"]}, "no age recipient"),
        ({"method": "age", "recipients": ["AGE-SECRET-KEY-1QQQ"]}, "private key"),
        ({"method": "age", "recipients": ["age1q"] * 11}, "can be 10"),
        ({"method": "gpg", "homedir": "/x", "recipients": ["--output"]}, "cannot be a recipient"),
        ({"passphrase": "secret"}, "unknown key"),
    ],
)
def test_settings_that_cannot_be_right_are_refused(section, word):
    with pytest.raises(BadInput, match=word) as caught:
        encryption(section)
    assert "SECRET-KEY-1" not in str(caught.value)
