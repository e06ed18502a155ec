# SPDX-License-Identifier: GPL-3.0-or-later
"""One archive in one repository: first writer wins, what comes back is what went in, and headers are believed last."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.cli.main import main
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.codec.stamp import CODECS, STAMP_READ, stamp, stamped
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.codec.stream import Shape
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import (
    BadInput,
    Corrupt,
    DbopsError,
    NotFound,
    Refused,
)
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg.wal import segment_name
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg.walfile import (
    HEADER_BYTES,
    Kind,
    check_segment,
    page_header,
    wal_name,
)
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.archive import Stored, WalArchive, pack
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.repository import Repository
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import RepositorySettings, from_mapping

NAME = wal_name("000000010000000000000003")
NAMES = [NAME.text, f"{NAME.text}.partial", f"{NAME.text}.00000028.backup", "00000002.history"]
SIZES = st.sampled_from([1 << 20, 16 << 20, 64 << 20, 1 << 30])


@pytest.fixture
def archive(tmp_path: Path) -> WalArchive:
    return WalArchive(Repository(RepositorySettings(path=str(tmp_path)), "main"), "73")


def put(archive: WalArchive, text: str, content: bytes, codec: str = "zstd") -> Stored:
    return archive.put_packed(pack(wal_name(text), [content], Shape(codec)))


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("text", NAMES)
def test_every_kind_of_file_comes_back_under_every_codec(archive: WalArchive, codec: str, text: str):
    assert put(archive, text, b"content" * 1000, codec) is Stored.NEW
    assert put(archive, text, b"content" * 1000, codec) is Stored.IDENTICAL
    assert archive.get(wal_name(text)) == b"content" * 1000
    with pytest.raises(Refused, match="other content"):
        put(archive, text, b"another", codec)
    assert archive.get(wal_name(text)) == b"content" * 1000


@pytest.mark.parametrize("other", CODECS)
def test_a_name_is_taken_whatever_the_codec_was(archive: WalArchive, other: str):
    put(archive, NAME.text, b"one", "gzip")
    with pytest.raises(Refused):
        put(archive, NAME.text, b"two", other)
    assert put(archive, NAME.text, b"one", other) is Stored.IDENTICAL
    assert len(list(archive.files())) == 1


def test_a_partial_segment_is_never_taken_for_the_whole_one(archive: WalArchive):
    put(archive, f"{NAME.text}.partial", b"half")
    with pytest.raises(NotFound):
        archive.get(NAME)
    assert not archive.has(NAME)
    assert put(archive, NAME.text, b"whole") is Stored.NEW


def test_a_repository_knows_the_systems_that_archived_into_it(archive: WalArchive):
    assert not archive.is_known()
    put(archive, NAME.text, b"x")
    assert archive.is_known()
    assert not WalArchive(archive.repository, "74").is_known()


def test_what_was_given_up_stays_marked_and_is_no_wal_file(archive: WalArchive):
    archive.mark_dropped(NAME.text, "full")
    archive.mark_dropped(NAME.text, "full, again")
    assert archive.dropped() == [NAME.text]
    assert list(archive.files()) == []
    assert not archive.has(NAME)


@given(sha256=st.text("0123456789abcdef", min_size=64, max_size=64), codec=st.sampled_from(CODECS), rest=st.binary())
def test_a_stamp_is_read_from_the_first_bytes_alone(sha256: str, codec: str, rest: bytes):
    assert stamped((stamp(codec, sha256) + rest)[:STAMP_READ]) == sha256


@given(st.text(max_size=40))
def test_only_what_the_server_names_is_a_name(text: str):
    try:
        name = wal_name(text)
    except BadInput:
        return
    assert name.text == text
    assert name.kind in Kind


def header(system: int, timeline: int, address: int, size: int, magic: int = 0xD110, info: int = 2) -> bytes:
    return struct.pack("<HHIQI4xQII", magic, info, timeline, address, 0, system, size, 8192)


@given(size=SIZES, number=st.integers(0, 1 << 20), timeline=st.integers(1, 1 << 31), older=st.integers(0, 3))
def test_a_segment_is_taken_under_its_own_name_and_under_no_other(size: int, number: int, timeline: int, older: int):
    address = number * size
    name = wal_name(segment_name(timeline, address, size))
    found = page_header(header(73, max(1, timeline - older), address, size), where="it")
    check_segment(name, found, size_bytes=size, system_identifier="73", where="it")
    other = wal_name(segment_name(timeline, address + size, size))
    with pytest.raises(Corrupt):
        check_segment(other, found, size_bytes=size, system_identifier="73", where="it")
    with pytest.raises(Corrupt):
        check_segment(name, found, size_bytes=size - 1, system_identifier="73", where="it")
    with pytest.raises(Refused):
        check_segment(name, found, size_bytes=size, system_identifier="74", where="it")
    newer = page_header(header(73, timeline + 1, address, size), where="it")
    with pytest.raises(Corrupt):
        check_segment(name, newer, size_bytes=size, system_identifier="73", where="it")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_header_or_corrupt(content: bytes):
    try:
        found = page_header(content, where="it")
    except Corrupt:
        return
    assert len(content) >= HEADER_BYTES
    assert found.segment_size >= 1 << 20


@pytest.mark.parametrize(
    "wrong",
    [{"codec": "none"}, {"standby_get_exit": 2}, {"spool_path": "relative"}, {"workers": 0}, {"linger": 3},
     {"drop_wal_when_free_below": 0}, {"codec": "gzip", "level": 10}],
)  # fmt: skip
def test_archiving_settings_that_cannot_be_meant_are_refused(wrong: dict[str, object]):
    with pytest.raises(BadInput):
        from_mapping({"cluster": "main", "archiving": wrong})


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["wal", "get", NAME.text, "pg_wal/RECOVERYXLOG"], 255),
        (["wal", "get"], 255),
        (["wal", "get", "--nonsense"], 255),
        (["wal", "push", "pg_wal/x"], 2),
        (["wal", "push"], 2),
    ],
)
def test_called_directly_it_never_says_missing_unless_that_is_proven(
    tmp_path: Path, words: list[str], code: int, capsys: pytest.CaptureFixture[str]
):
    config = tmp_path / "main.json"
    config.write_text(json.dumps({"cluster": "main", "host": {"state_path": str(tmp_path)}}))
    assert main(["--config", str(config), *words]) == code
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_settings_that_cannot_be_read_are_no_proof_either(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["--config", str(tmp_path / "none.json"), "wal", "get", NAME.text, "x"]) == 255
    assert main(["--config", str(tmp_path / "none.json"), "wal", "push", "x"]) in range(1, 126)
    del capsys


def test_no_flipped_bit_gets_past(archive: WalArchive, tmp_path: Path):
    """Some bits mean nothing, such as a skippable frame's number: then the content is the right one."""
    content = b"".join(str(number).encode() for number in range(2000))
    put(archive, NAME.text, content)
    path = next(tmp_path.rglob(f"{NAME.text}*"))
    good = path.read_bytes()
    refused = 0
    for position in range(0, len(good), 3):
        path.write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
        try:
            assert archive.get(NAME) == content
        except DbopsError:
            refused += 1
    assert refused > len(good) / 3 - 10


@pytest.mark.parametrize("codec", CODECS)
def test_whole_content_under_a_stamp_that_is_not_its_own_is_corrupt(archive: WalArchive, tmp_path: Path, codec: str):
    """As when parts of two objects are swapped: each codec's own checksum would be satisfied."""
    put(archive, NAME.text, b"content", codec)
    path = next(tmp_path.rglob(f"{NAME.text}*"))
    path.write_bytes(stamp(codec, "0" * 64) + path.read_bytes()[len(stamp(codec, "0" * 64)) :])
    with pytest.raises(Corrupt, match="checksum differs"):
        archive.get(NAME)
    with pytest.raises(Refused):
        put(archive, NAME.text, b"content", codec)
