# SPDX-License-Identifier: GPL-3.0-or-later
"""RECOVER.md as a repository holds it, followed to the letter, with nothing but what it says is needed."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.backup import take
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.codec.ciphers import cipher
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.codec.stream import Shape
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg.walfile import wal_name
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.progress import Silent
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo import rekey
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.archive import WalArchive, pack
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.repository import open_repository
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import from_mapping
from tests.support.dumps import dumped
from tests.support.keys import KeyMaker
from tests.support.physical import (
    add_rows,
    add_tablespace,
    assert_same_content,
    objects_of,
    repository_of,
    restored,
    taken,
)
from tests.support.servers import ProgramFailed, cluster_hashes, content_hashes, differences

TOOLS = ["sh", "cat", "chmod", "cut", "date", "grep", "gzip", "head", "ls", "ln", "lz4", "mkdir", "mv", "rm", "sed",
         "sha256sum", "tail", "tar", "zstd"]  # fmt: skip
KEY_TOOLS = ["age", "gpg", "gpgconf"]
CODECS = ["none", "gzip", "lz4", "zstd"]


@pytest.fixture
def by_hand(server, settings, place):
    """Run blocks of RECOVER.md by their tags, in the repository, as the server's user, with shell variables set."""
    program_directory = place / "bin"
    program_directory.mkdir()
    for tool in [*TOOLS, *KEY_TOOLS]:
        found = shutil.which(tool)
        assert found, f"{tool} is needed for this test: .ci/run installs it"
        (program_directory / tool).symlink_to(found)

    def run(*tags, **variables):
        text = (repository_of(settings) / "RECOVER.md").read_text()
        blocks = dict(re.findall(r"^```sh (\w+)\n(.*?)^```$", text, re.M | re.S))
        script = [
            "set -e",
            f"PATH={program_directory}:{server.installation.bin_dir}",
            f"cd {repository_of(settings)}",
            *(f"{name}='{value}'" for name, value in variables.items()),
            *(blocks[tag] for tag in ("setup", *tags)),
        ]
        return server.os_user.run([program_directory / "sh", "-c", "\n".join(script)])

    return run


@pytest.fixture
def new(server, place):
    """A directory in which the server's user may make others."""
    return server.os_user.own_directory(place / "new", 0o755)


@pytest.mark.parametrize("codec", CODECS)
def test_a_full_backup_of_every_codec(server, repository_path, settings, place, new, by_hand, codec):
    record = taken(server.engine_settings(repository_path, compression={"codec": codec}))
    before = cluster_hashes(server)
    said = by_hand("check", "full", "verify", LABEL=record.label, TARGET=new / "data")
    assert said.count("good") == len(record.objects)
    server.kill()
    assert_same_content(server, new / "data", place / "over", before)


def test_a_full_backup_with_tablespaces(server, settings, place, new, by_hand):
    oids = {name: add_tablespace(server, place / name, name) for name in ("fast", "slow")}
    record = taken(settings)
    before = cluster_hashes(server)
    by_hand("full", LABEL=record.label, TARGET=new / "data")
    for name, oid in oids.items():
        by_hand("tablespace", LABEL=record.label, TARGET=new / "data", OID=oid, SPACE=new / name)
    by_hand("verify", TARGET=new / "data")
    server.stop()
    for path in (server.data, place / "fast", place / "slow"):
        path.rename(f"{path}.lost")
    assert_same_content(server, new / "data", place / "over", before)


@pytest.mark.parametrize("codec", ["zstd", "gzip"])
def test_a_chain_with_a_tablespace(server, repository_path, place, new, by_hand, codec):
    if server.installation.major < 17:
        return  # there are no such backups
    settings = server.engine_settings(repository_path, compression={"codec": codec})
    add_tablespace(server, place / "fast", "fast")
    labels = [taken(settings).label]
    for number in range(2):
        add_rows(server, 200, f"round {number}")
        server.sql('insert into "in fast" select n from generate_series(1, 500) n', database="shop")
        labels.append(taken(settings, type="incremental").label)
    before = cluster_hashes(server)
    for directory in ("work", "spaces"):
        server.os_user.own_directory(new / directory)
    places = {"WORK": new / "work", "SPACES": new / "spaces", "TARGET": new / "data"}
    by_hand("incremental", "verify", CHAIN=" ".join(labels), **places)
    server.stop()
    for path in (server.data, place / "fast", new / "work"):
        path.rename(f"{path}.lost")
    assert_same_content(server, new / "data", place / "over", before)


def test_a_backup_of_a_standby_becomes_a_primary(server, repository_path, place, new, by_hand):
    standby = server.standby(place / "standby")
    record = taken(standby.engine_settings(repository_path))
    by_hand("full", "verify", LABEL=record.label, TARGET=new / "data")
    assert_same_content(server, new / "data", place / "over", cluster_hashes(server))


def test_after_a_recovery_by_hand_the_next_backup_is_full(server, settings, new, by_hand):
    """As after a restore by the engine: nothing is built on what the cluster was before."""
    if server.installation.major < 17:
        return
    record = taken(settings)
    by_hand("full", "verify", LABEL=record.label, TARGET=new / "data")
    server.stop()
    shutil.rmtree(server.data)
    (new / "data").rename(server.data)
    server.start()
    plan = take.plan(settings, take.Request(method="physical", type="incremental"))
    assert plan.type == "full"
    assert "restored" in plan.why


@pytest.mark.parametrize("damage", ["changed", "missing", "added"])
def test_the_check_sees_damage(settings, by_hand, damage):
    record = taken(settings)
    by_hand("check", LABEL=record.label)
    path = objects_of(settings, record.label)[record.objects[-1].name]
    if damage == "changed":
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    elif damage == "missing":
        path.unlink()
    else:
        path.with_name("stranger").write_text("hello")
        os.chmod(path.with_name("stranger"), 0o644)
    with pytest.raises(ProgramFailed, match="BAD"):
        by_hand("check", LABEL=record.label)


@pytest.mark.parametrize(
    ("dump_format", "codec"), [("custom", "zstd"), ("plain", "gzip"), ("directory", "lz4"), ("plain", "none")]
)
def test_a_dump_of_every_format_and_codec(server, repository_path, new, by_hand, dump_format, codec):
    settings = server.engine_settings(
        repository_path, backup={"dump_format": dump_format}, compression={"codec": codec}
    )
    record = dumped(settings)
    item = next(item for item in record.objects if item.database == "shop")
    name = re.sub(r"\.(zst|gz|lz4)$", "", item.name)
    server.os_user.own_directory(new / "work")
    connection = {"PGHOST": server.sockets, "PGPORT": server.port, "PGUSER": "postgres"}
    exported = {f"export {key}": value for key, value in connection.items()}
    said = by_hand("check", "dump", LABEL=record.label, FILE=name, NEW="shop2", WORK=new / "work", **exported)
    assert "BAD" not in said
    assert differences(content_hashes(server, "shop"), content_hashes(server, "shop2")) == []


def test_the_instructions_are_those_of_this_cluster(server, settings):
    taken(settings)
    text = (repository_of(settings) / "RECOVER.md").read_text()
    assert "`main`" in text
    assert "@" not in re.sub(r'"\$@"', "", text)


def test_a_restore_by_the_engine_and_one_by_hand_are_the_same(server, settings, place, new, by_hand):
    record = taken(settings)
    restored(settings, target=str(place / "engine"))
    by_hand("full", "verify", LABEL=record.label, TARGET=new / "data")

    def files(top):
        return {str(path.relative_to(top)) for path in top.rglob("*")}

    assert files(place / "engine") == files(new / "data")


@pytest.fixture
def keys(server, place):
    """A pair of each method; what RECOVER.md has one set so that its private key is found."""
    maker = KeyMaker(place / "keys")
    home = server.os_user.own_directory(place / "gnupg")
    made = {"gpg": (maker.gpg("hand"), {"export GNUPGHOME": home}), "age": (maker.age("hand"), {})}
    for pair, _variables in made.values():
        os.chown(pair.secret, server.os_user.uid, server.os_user.gid)
    server.os_user.run(["gpg", "--homedir", home, "--batch", "--quiet", "--import", made["gpg"][0].secret])
    made["age"][1]["IDENTITY"] = made["age"][0].secret
    yield made
    server.os_user.run(["gpgconf", "--homedir", home, "--kill", "gpg-agent"])


@pytest.mark.parametrize(("method", "codec"), [("gpg", "zstd"), ("age", "zstd"), ("age", "none")])
def test_an_encrypted_backup_of_every_method(server, repository_path, place, new, by_hand, keys, method, codec):
    pair, variables = keys[method]
    settings = server.engine_settings(repository_path, compression={"codec": codec}, encryption=pair.settings)
    record = taken(settings)
    before = cluster_hashes(server)
    said = by_hand("check", "full", "verify", LABEL=record.label, TARGET=new / "data", **variables)
    assert said.count("good") == len(record.objects)
    dump = dumped(settings)
    name = next(item.name for item in dump.objects if item.database == "shop").partition(".dump")[0] + ".dump"
    server.os_user.own_directory(new / "work")
    exported = {"PGHOST": server.sockets, "PGPORT": server.port, "PGUSER": "postgres"}
    variables.update({f"export {key}": value for key, value in exported.items()})
    by_hand("dump", LABEL=dump.label, FILE=name, NEW="shop2", WORK=new / "work", **variables)
    assert differences(content_hashes(server, "shop"), content_hashes(server, "shop2")) == []
    server.kill()
    assert_same_content(server, new / "data", place / "over", before)


def test_a_backup_that_was_encrypted_anew(server, settings, place, new, by_hand, keys):
    record = taken(settings)
    before = cluster_hashes(server)
    pair, variables = keys["gpg"]
    rekeying = server.engine_settings(Path(settings.repositories[0].path), encryption=pair.settings)
    rekey.run(rekey.plan(rekeying), Silent())
    by_hand("check", "full", "verify", LABEL=f"{record.label}/rekeyed-1", TARGET=new / "data", **variables)
    server.kill()
    assert_same_content(server, new / "data", place / "over", before)


@pytest.mark.parametrize("method", ["gpg", "age", None])
def test_an_archived_segment(server, settings, new, by_hand, keys, method):
    taken(settings)
    pair, variables = keys[method] if method else (None, {})
    chosen = cipher(from_mapping({"cluster": "main", "encryption": pair.settings}).encryption) if pair else None
    archive = WalArchive(open_repository(settings), "73")
    for name in ("000000010000000000000001", "00000002.history"):
        content = [name.encode() * 1000]
        archive.put_packed(pack(wal_name(name), content, Shape("zstd", cipher=chosen)))
        by_hand("wal", SYSTEM="73", SEGMENT=name, OUTPUT=new / name, **variables)
        assert (new / name).read_bytes() == content[0]
