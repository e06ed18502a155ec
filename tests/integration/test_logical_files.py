# SPDX-License-Identifier: GPL-3.0-or-later
"""Dump files that anyone made, given by path: every kind comes back, damaged ones do not, evil ones do no harm."""

from __future__ import annotations

import random
import tarfile

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import BadInput, Corrupt, ToolFailed
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.repository import open_repository
from tests.support.dumps import compressed, databases, dumped, nothing_changed, pg_dump, restored
from tests.support.servers import content_hashes, differences


@pytest.fixture
def files(place):
    path = place / "files"
    path.mkdir()
    return path


FILES = {
    "plain": ["-Fp"], "inserts": ["-Fp", "--inserts"], "custom": ["-Fc"], "uncompressed": ["-Fc", "-Z0"],
    "tar": ["-Ft"], "directory": ["-Fd"],
}  # fmt: skip


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_file_comes_back_whatever_its_name_says(server, settings, files, kind, jobs):
    path = pg_dump(server, files / "misleading.sql.gz", *FILES[kind])
    result = restored(settings, file=str(path), databases={"": "copy"}, jobs=jobs)
    assert differences(content_hashes(server, "shop"), content_hashes(server, "copy")) == []
    assert any("were not compared" in warning for warning in result["warnings"])
    assert not restored(settings, file=str(path), validate_only=True)["changed"]


@pytest.mark.parametrize("kind", ["plain", "custom", "tar"])
@pytest.mark.parametrize("codec", ["gzip", "zstd", "lz4"])
def test_a_compressed_file_comes_back(server, settings, files, kind, codec):
    path = compressed(pg_dump(server, files / "shop.dump", *FILES[kind]), codec, ".bin")
    restored(settings, file=str(path), databases={"": "copy"})
    assert differences(content_hashes(server, "shop"), content_hashes(server, "copy")) == []


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("inside", ["", "shop"])
def test_a_tar_of_a_dump_directory_comes_back(server, settings, files, mode, inside):
    path = pg_dump(server, files / "shop.dir", "-Fd")
    with tarfile.open(files / "shop.tar", mode) as archive:
        archive.add(path, arcname=inside or ".")
    restored(settings, file=str(files / "shop.tar"), databases={"": "copy"})
    assert differences(content_hashes(server, "shop"), content_hashes(server, "copy")) == []


@pytest.mark.parametrize("kind", ["plain", "custom", "uncompressed", "tar", "gz", "dirtar"])
def test_a_truncated_file_is_refused_wherever_it_was_cut(server, settings, files, kind):
    path = pg_dump(server, files / "whole", *FILES.get(kind, ["-Fd"] if kind == "dirtar" else ["-Fp"]))
    if kind == "gz":
        path = compressed(path, "gzip", ".gz")
    if kind == "dirtar":
        with tarfile.open(files / "whole.tar", "w") as archive:
            archive.add(path, arcname="")
        path = files / "whole.tar"
    content = path.read_bytes().rstrip(b"\n\0")
    cut = files / "cut"
    for length in [0, 1, len(content) - 1, *(random.randrange(len(content)) for _number in range(6))]:
        cut.write_bytes(content[:length])
        with pytest.raises((Corrupt, BadInput, ToolFailed)):
            restored(settings, file=str(cut), validate_only=True)
    cut.write_bytes(content[: len(content) * 3 // 4])
    with nothing_changed(server), pytest.raises((Corrupt, ToolFailed)):
        restored(settings, file=str(cut), databases={"": "copy"})


@pytest.mark.parametrize(
    ("script", "error", "words"),
    [
        ("\\connect postgres\ncreate table stray ();\n", BadInput, "would leave the database"),
        ("CREATE TABLE a ();\n\\c postgres\ncreate table stray ();\n", ToolFailed, "restricted"),
        ("create table a (); \\! touch {}\n", ToolFailed, "restricted"),
        ("select 1 \\g |touch\\ {}\n", ToolFailed, "restricted"),
        ("create table a ();\nselect nonsense;\ncreate table b ();\n", ToolFailed, "nonsense"),
    ],
)
def test_a_script_stays_in_its_database_and_runs_no_programs(server, settings, files, script, error, words):
    path, touched = files / "evil.sql", server.base / "touched"
    path.write_text(script.format(touched) + "-- PostgreSQL database dump complete\n--\n")
    with nothing_changed(server), pytest.raises(error, match=words):
        restored(settings, file=str(path), databases={"": "copy"})
    assert not touched.exists()
    assert server.value("select to_regclass('stray')") is None


def test_a_key_that_a_script_tells_does_not_open_restricted_mode(server, settings, files):
    path, touched = files / "evil.sql", server.base / "touched"
    path.write_text(
        f"--\n\\restrict abc\ncreate table a ();\n\\unrestrict abc\n\\! touch {touched}\n"
        + "-- filler\n" * 2000
        + "-- PostgreSQL database dump complete\n--\n\\unrestrict abc\n"
    )
    with nothing_changed(server), pytest.raises(ToolFailed):
        restored(settings, file=str(path), databases={"": "copy"})
    assert not touched.exists()


def test_rows_that_look_like_commands_are_only_rows(server, settings, repository_path, files):
    server.sql("create table lines (line text)", database="shop")
    for line in (
        "CREATE DATABASE evil;",
        "\\connect postgres",
        "\\.",
        "-- PostgreSQL database cluster dump",
        "DROP DATABASE",
    ):
        server.sql("insert into lines values (%s)", (line,), database="shop")
    plain = server.engine_settings(repository_path, backup={"databases": ["shop"], "dump_format": "plain"})
    dumped(plain)
    restored(plain, databases={"shop": "ours"})
    pg_dump(server, files / "lines.sql", "-t", "lines")
    restored(settings, file=str(files / "lines.sql"), databases={"": "theirs"})
    rows = server.sql("select line from lines", database="shop")
    assert server.sql("select line from lines", database="ours") == rows
    assert server.sql("select line from lines", database="theirs") == rows


def test_a_script_of_ones_own_without_the_closing_comment_needs_allow_errors(server, settings, files):
    path = files / "own.sql"
    path.write_text("create table a as select 5 as n;\n")
    with nothing_changed(server), pytest.raises(Corrupt, match="closing comment"):
        restored(settings, file=str(path), databases={"": "copy"})
    restored(settings, file=str(path), databases={"": "copy"}, allow_errors=True)
    assert server.value("select n from a", database="copy") == 5


def test_errors_that_are_allowed_are_told(server, settings, files):
    server.psql("create role gone; grant select on orders to gone", database="shop")
    path = pg_dump(server, files / "shop.dump", "-Fc")
    server.psql("revoke select on orders from gone; drop role gone", database="shop")
    with nothing_changed(server), pytest.raises(ToolFailed, match="gone"):
        restored(settings, file=str(path), databases={"": "copy"})
    result = restored(settings, file=str(path), databases={"": "copy"}, allow_errors=True)
    assert any("gone" in warning for warning in result["warnings"])
    assert server.value("select count(*) from orders", database="copy") == 10000


@pytest.mark.parametrize(
    ("entry", "words"),
    [("../../escaped", "no dump of pg_dump has"), ("/tmp/escaped", "no dump of pg_dump has"), ("link", "link")],
)
def test_a_tar_that_points_outside_is_refused(server, settings, files, entry, words):
    path = pg_dump(server, files / "shop.dir", "-Fd")
    with tarfile.open(files / "evil.tar", "w") as archive:
        archive.add(path / "toc.dat", arcname="toc.dat")
        info = tarfile.TarInfo(entry)
        if entry == "link":
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    with nothing_changed(server), pytest.raises(Corrupt, match=words):
        restored(settings, file=str(files / "evil.tar"), databases={"": "copy"})


def test_a_cluster_dump_and_what_is_no_dump_are_refused(server, settings, files):
    (files / "all.sql").write_text("--\n-- PostgreSQL database cluster dump\n--\nCREATE DATABASE evil;\n")
    (files / "noise").write_bytes(b"\0\1\2" * 1000)
    for name, words in (("all.sql", "whole cluster"), ("noise", "neither an archive")):
        with nothing_changed(server), pytest.raises(BadInput, match=words):
            restored(settings, file=str(files / name), databases={"": "copy"})
    assert "evil" not in databases(server)


def test_a_file_can_replace_a_database_too(server, settings, files):
    path = pg_dump(server, files / "shop.dump", "-Fc")
    server.sql("alter database shop set work_mem = '7MB'")
    server.sql("delete from orders", database="shop")
    result = restored(settings, file=str(path), databases={"": "shop"}, existing="replace")
    assert server.value("select count(*) from orders", database="shop") == 10000
    assert server.value("show work_mem", database="shop") == "7MB"  # what a file does not tell stays as it was
    assert open_repository(settings).catalog().entry(result["safety_backup"])
