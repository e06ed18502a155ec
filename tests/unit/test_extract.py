# SPDX-License-Identifier: GPL-3.0-or-later
"""An archive is unpacked as PostgreSQL wrote it, or not at all: none of its names may lead out of the target."""

from __future__ import annotations

import contextlib
import io
import os
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import Corrupt, Unreachable
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg.osuser import Identity, current_identity
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.restore.extract import extract, scan


def entry(name, content=b"", *, kind=tarfile.REGTYPE, link="", mode=0o600):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.size = kind, link, mode, len(content)
    return info, content


def directory(name, mode=0o700):
    return entry(name, kind=tarfile.DIRTYPE, mode=mode)


def tar(*entries):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for info, content in entries:
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def root(tmp_path):
    path = tmp_path / "target" / "root"
    path.mkdir(parents=True)
    return path


def unpack(raw, root, **options):
    chunks = [raw] if isinstance(raw, bytes) else raw
    return extract(chunks, str(root), owner=current_identity(), name="base.tar", **options)


def below(root):
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None for path in sorted(root.rglob("*"))
    }


def outside(root):
    """Everything beside the target that was not there at first."""
    return [path for path in root.parent.parent.rglob("*") if root not in [path, *path.parents] and path != root.parent]


def test_files_and_directories_come_out_with_content_and_mode(root):
    done = unpack(tar(entry("PG_VERSION", b"18\n"), directory("base"), entry("base/1", b"x" * 9000, mode=0o640)), root)
    assert below(root) == {"PG_VERSION": b"18\n", "base": None, "base/1": b"x" * 9000}
    assert (root / "base/1").stat().st_mode & 0o777 == 0o640
    assert (done.files, done.size_bytes) == (2, 9003)


def test_missing_directories_are_made_private(root):
    unpack(tar(entry("a/b/c", b"1")), root)
    assert (root / "a/b").stat().st_mode & 0o777 == 0o700


def test_dots_and_slashes_that_mean_nothing_are_dropped(root):
    unpack(tar(directory("./"), entry("./PG_VERSION", b"1"), entry("base//1", b"2")), root)
    assert below(root) == {"PG_VERSION": b"1", "base": None, "base/1": b"2"}


def test_held_files_are_returned_and_not_written(root):
    raw = tar(entry("global/pg_control", b"control", mode=0o600), entry("PG_VERSION", b"18\n"))
    done = unpack(raw, root, hold=lambda name: name == "global/pg_control")
    assert done.held == {"global/pg_control": b"control"}
    assert not (root / "global" / "pg_control").exists()
    assert done.files == 2


@given(
    st.dictionaries(st.text("abc", min_size=1, max_size=4), st.binary(max_size=3000), max_size=5),
    st.integers(1, 700),
)
def test_where_the_chunks_are_cut_does_not_matter(tmp_path_factory, files, size):
    root = tmp_path_factory.mktemp("cut")
    raw = tar(*(entry(name, content) for name, content in files.items()))
    unpack([raw[start : start + size] for start in range(0, len(raw), size)], root)
    assert below(root) == files


def test_long_names_come_out_whole(root):
    name = "pg_tblspc/" + "d" * 90 + "/" + "f" * 80  # ustar's prefix field
    unpack(tar(entry(name, b"x")), root)
    assert (root / name).read_bytes() == b"x"


def test_a_name_that_is_no_utf8_comes_out_as_it_is(root):
    unpack(tar(entry("caf\udce9", b"x")), root)
    assert os.listdir(os.fsencode(root)) == [b"caf\xe9"]


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "//x", "../x", "a/../../x", "a/..", "..", "base/../../../../x", "./../x"],
)
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.DIRTYPE])
def test_a_name_that_points_outside_is_refused_before_anything_of_it_exists(root, name, kind):
    raw = tar(entry("good", b"1"), entry(name, b"" if kind == tarfile.DIRTYPE else b"evil", kind=kind))
    with pytest.raises(Corrupt, match=r"base\.tar .*points outside") as caught:
        unpack(raw, root)
    assert "another backup" in caught.value.hint
    assert below(root) == {"good": b"1"}
    assert outside(root) == []


@pytest.mark.parametrize(
    ("kind", "link"),
    [
        (tarfile.SYMTYPE, "/etc"),
        (tarfile.SYMTYPE, ".."),
        (tarfile.SYMTYPE, "inside"),
        (tarfile.LNKTYPE, "/etc/passwd"),
        (tarfile.LNKTYPE, "good"),
        (tarfile.CHRTYPE, ""),
        (tarfile.BLKTYPE, ""),
        (tarfile.FIFOTYPE, ""),
        (tarfile.CONTTYPE, ""),
        (tarfile.GNUTYPE_SPARSE, ""),
        (tarfile.XHDTYPE, ""),
        (tarfile.GNUTYPE_LONGNAME, ""),
    ],
)
def test_only_files_and_directories_are_made(root, kind, link):
    raw = tar(entry("good", b"1"), entry("way", kind=kind, link=link), entry("way/in", b"evil"))
    with pytest.raises(Corrupt, match="neither file nor directory"):
        unpack(raw, root)
    assert below(root) == {"good": b"1"}
    assert outside(root) == []


def test_a_link_that_was_there_before_is_not_followed(root, tmp_path):
    aim = tmp_path / "aim"
    aim.mkdir()
    (root / "base").symlink_to(aim)
    (root / "file").symlink_to(aim / "file")
    for name in ("base/1", "file"):
        with pytest.raises(Corrupt):
            unpack(tar(*[directory("base")] * (name == "base/1"), entry(name, b"evil")), root)
    assert list(aim.iterdir()) == []


def test_a_link_for_a_directory_that_no_entry_announces_is_not_followed_either(root, tmp_path):
    aim = tmp_path / "aim"
    aim.mkdir()
    (root / "base").symlink_to(aim)
    with pytest.raises(Corrupt):
        unpack(tar(entry("base/deep/1", b"evil")), root)
    assert list(aim.iterdir()) == []


@pytest.mark.parametrize("name", ["", ".", "./."])
def test_a_file_without_a_name_is_refused(root, name):
    raw = bytearray(tar(entry("x" * 9, b"1")))
    raw[0:9] = name.encode().ljust(9, b"\0")
    raw[148:156] = b"%06o\0 " % (sum(raw[:148]) + sum(b" " * 8) + sum(raw[156:512]))
    with pytest.raises(Corrupt, match="neither file nor directory"):
        unpack(bytes(raw), root)


def test_a_file_that_comes_twice_is_refused(root):
    with pytest.raises(Corrupt, match="twice"):
        unpack(tar(entry("PG_VERSION", b"18"), entry("PG_VERSION", b"15")), root)
    assert below(root) == {"PG_VERSION": b"18"}


def test_a_file_where_a_directory_must_be_is_refused(root):
    with pytest.raises(Corrupt, match="a directory must be"):
        unpack(tar(entry("base", b"1"), entry("base/1", b"2")), root)


@pytest.mark.parametrize("left", [1, 511, 512, 513, 700, 1536, 2047])
def test_an_archive_that_stops_early_is_corrupt_wherever_it_stops(root, left):
    raw = tar(entry("a", b"x" * 600), entry("b", b"y"))
    with pytest.raises(Corrupt, match=r"base\.tar ends too early"):
        unpack(raw[:left], root)
    with pytest.raises(Corrupt, match=r"base\.tar ends too early"):
        scan([raw[:left]], name="base.tar")


@pytest.mark.parametrize("raw", [b"\xff" * 2048, b"not a tar archive at all" * 100, b"\x00" * 511 + b"\x01" * 513])
def test_garbage_is_corrupt(root, raw):
    with pytest.raises(Corrupt, match=r"base\.tar is not a tar archive"):
        unpack(raw, root)
    assert below(root) == {}


@given(st.binary(max_size=3000))
def test_any_bytes_end_in_success_or_corrupt(raw):
    with contextlib.suppress(Corrupt):
        scan([raw], name="x")


@given(st.integers(0, 511), st.integers(1, 255))
def test_a_changed_byte_in_a_header_is_seen_or_harms_nobody(tmp_path_factory, position, change):
    raw = bytearray(tar(entry("base/name", b"content")))
    raw[position] = (raw[position] + change) % 256
    root = tmp_path_factory.mktemp("changed")
    try:
        unpack(bytes(raw), root)
    except Corrupt:
        assert below(root) in ({}, {"base": None})
    else:  # only the padding behind the header's last field is not under its checksum
        assert below(root) == {"base": None, "base/name": b"content"}


def test_scanning_finds_what_unpacking_writes(root):
    raw = tar(directory("base"), entry("base/1", b"x" * 9000), entry("empty"))
    assert scan([raw], name="base.tar") == {"base/1": 9000, "empty": 0}
    unpack(raw, root)
    assert {name: len(content) for name, content in below(root).items() if content is not None} == {
        "base/1": 9000,
        "empty": 0,
    }


def test_the_stream_is_read_to_its_end(root):
    """The hashes of what was stored are compared at the end of the stream: padding included."""
    seen = []

    def chunks():
        for chunk in (tar(entry("a", b"1")), b"\0" * 4096, b"padding"):
            seen.append(chunk)
            yield chunk

    unpack(chunks(), root)
    assert len(seen) == 3


def test_a_full_disk_is_unreachable_and_names_the_file(root, monkeypatch):
    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.write", full)
    with pytest.raises(Unreachable, match=r"base/1: No space left") as caught:
        unpack(tar(entry("base/1", b"x")), root)
    assert "Free space" in caught.value.hint


def test_everything_belongs_to_the_owner_asked_for(root, monkeypatch):
    """As root; seen in the calls, so that it is tested whoever runs the tests."""
    given_away = []
    owner = Identity("somebody", 4711, 4712, "/")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("os.fchown", lambda fd, uid, gid: given_away.append((uid, gid)))
    monkeypatch.setattr("os.chown", lambda path, uid, gid, **_: given_away.append((uid, gid)))
    extract([tar(directory("base"), entry("base/1", b"x"), entry("new/2", b"y"))], str(root), owner=owner, name="x")
    assert given_away == [(4711, 4712)] * 4
