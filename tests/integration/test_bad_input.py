# SPDX-License-Identifier: GPL-3.0-or-later
"""What cannot be right is refused with the next step, and nothing is touched: one test for each line of the list."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
from datetime import datetime, timedelta, timezone

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.backup import take
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.codec.stream import Shape
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import (
    BadInput,
    Busy,
    Corrupt,
    NotFound,
    Refused,
    ToolFailed,
    Unreachable,
)
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.progress import Silent
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo import layout
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.record import to_json
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.repository import open_repository
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.restore import physical
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import from_mapping
from tests.support.disks import make_read_only, make_writable
from tests.support.physical import (
    add_rows,
    add_tablespace,
    catalog_of,
    changed_bytes,
    flip_a_bit,
    labels_of,
    objects_of,
    repository_of,
    restored,
    taken,
    untouched,
    validated,
)
from tests.support.processes import dbops, settings_file
from tests.support.servers import PgServer, cluster_hashes, differences, installations, wait_until


def refused_backup(settings, error, words, repository=None):
    """A backup must fail like this, with a hint, and leave the repository as it was; the error."""
    with untouched(*([repository] if repository else [])):
        with pytest.raises(error, match=words) as caught:
            taken(settings)
    assert caught.value.hint
    return caught.value


def refused_restore(settings, error, words, **request):
    with pytest.raises(error, match=words) as caught:
        restored(settings, **request)
    assert caught.value.hint
    return caught.value


# -- the server


def test_a_server_that_is_down(server, settings, repository_path):
    server.stop()
    error = refused_backup(settings, Unreachable, "Cannot connect", repository_path)
    assert "running" in error.hint


def test_a_wrong_password(installation, place, repository_path):
    server = PgServer(installation, place / "pg", settings={"listen_addresses": "127.0.0.1"})
    server.create(tcp_auth="scram-sha-256")
    server.start()
    server.sql("create role keeper login replication password 'right'")
    passfile = place / "pgpass"
    passfile.write_text("*:*:*:*:wrong-secret\n")
    passfile.chmod(0o600)
    os.chown(passfile, server.os_user.uid, server.os_user.gid)
    connection = {"login_host": "127.0.0.1", "login_unix_socket": "", "login_user": "keeper", "passfile": str(passfile)}
    settings = server.engine_settings(repository_path, connection=connection)
    error = refused_backup(settings, Unreachable, "password of role 'keeper' was not accepted", repository_path)
    assert str(passfile) in error.hint
    assert "wrong-secret" not in str(error) + repr(error.__cause__)
    passfile.write_text("*:*:*:*:right\n")
    assert taken(settings).type == "full"


def test_a_role_without_replication(server, repository_path):
    server.sql("create role reader login in role pg_read_all_data, pg_read_all_settings")
    settings = server.engine_settings(repository_path, connection={"login_user": "reader"})
    error = refused_backup(settings, Refused, "lacks REPLICATION", repository_path)
    assert 'ALTER ROLE "reader" REPLICATION' in error.hint


def test_replication_that_pg_hba_does_not_allow(server, settings, repository_path):
    server.set_hba("local all all trust")
    wait_until(lambda: server.value("select count(*) from pg_hba_file_rules") == 1, "the new rules are loaded")
    with pytest.raises(ToolFailed, match=r"pg_hba\.conf") as caught:
        taken(settings)
    assert "pg_hba.conf" in caught.value.hint
    assert labels_of(settings) == []


def test_client_tools_of_another_major_version(server, repository_path):
    others = [item for item in installations() if item.major != server.installation.major]
    assert others, "two major versions are needed: .ci/run installs the second"
    settings = server.engine_settings(repository_path, host={"bin_dir": str(others[0].bin_dir)})
    error = refused_backup(settings, BadInput, f"The server is PostgreSQL {server.installation.major}", repository_path)
    assert f"PostgreSQL {others[0].major}" in error.hint


# -- the repository


def test_a_repository_that_is_not_there(server, place):
    settings = server.engine_settings(place / "unmounted")
    error = refused_backup(settings, Unreachable, "is not there")
    assert "Mount" in error.hint
    assert not (place / "unmounted").exists(), "a missing disk is never made up for"


def as_the_servers_user(server, action):
    """Run it in a child that is the server's OS user, since root may write anywhere; what it raised, as text."""
    if not server.os_user.is_somebody_else:
        return action()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(server.os_user.gid)
            os.setuid(server.os_user.uid)
            answer = action()
        except BaseException as exc:  # noqa: BLE001  # handed over to the parent, who asserts
            answer = f"{type(exc).__name__}: {exc}"
        os.write(writer, str(answer).encode()[:4000])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        answer = stream.read().decode()
    os.waitpid(pid, 0)
    return answer


def test_a_repository_that_is_not_writable(server, settings, repository_path):
    import psycopg2.errorcodes  # noqa: F401  # before the child loses the right to read this Python's files

    os.chown(repository_path, os.geteuid(), os.getegid())
    repository_path.chmod(0o555)

    def attempt():
        with pytest.raises(Unreachable) as caught:
            taken(settings)
        return f"{type(caught.value).__name__}: {caught.value}"

    with untouched(repository_path):
        said = as_the_servers_user(server, attempt)
    assert "Unreachable" in said
    assert "Permission denied" in said
    assert "chown" in said


def test_a_repository_on_a_full_disk(server, small_disk):
    settings = server.engine_settings(small_disk, compression={"codec": "none"})
    with pytest.raises(Unreachable, match="No space left") as caught:
        taken(settings)
    assert "dbops expire" in caught.value.hint
    assert catalog_of(settings).entries == ()
    assert catalog_of(settings).unfinished == ()
    plan = take.plan(settings, take.Request(method="physical"))
    assert any("bytes free" in warning for warning in plan.warnings), "it was foreseen"


def test_a_repository_mounted_read_only(server, small_disk):
    settings = server.engine_settings(small_disk, compression={"codec": "gzip"})
    make_read_only(small_disk)
    error = refused_backup(settings, Unreachable, "Read-only file system", small_disk)
    assert "remount" in error.hint
    make_writable(small_disk)


def test_a_read_only_repository_can_still_be_read(server, settings, repository_path, place):
    if os.geteuid() != 0:
        pytest.skip("only root can mount a directory again, read-only")
    label = taken(settings).label
    before = cluster_hashes(server)
    subprocess.run(["mount", "--bind", repository_path, repository_path], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", repository_path], check=True)
        assert labels_of(settings) == [label]
        assert validated(settings)["verdict"] == "pass"
        restored(settings, target=str(place / "new"))
    finally:
        subprocess.run(["umount", "--lazy", repository_path], check=True)
    assert (place / "new" / "PG_VERSION").exists()
    assert differences(before, cluster_hashes(server)) == []


def test_two_backups_at_once(server, settings, repository_path, place):
    """The second names the first, at once, and leaves it alone."""
    slow = server.engine_mapping(
        repository_path, backup={"max_rate_kib_s": 16_384}, compression={"codec": "gzip", "threads": 1}
    )
    backups = repository_of(settings) / "backups"
    with dbops(settings_file(place / "main.json", slow), "backup") as first:
        wait_until(lambda: list(backups.rglob(".part-*")) or first.poll() is not None, "the first backup runs")
        with pytest.raises(Busy, match=f"process {first.pid} ") as caught:
            taken(settings)
        assert "Wait" in caught.value.hint
        assert first.wait(timeout=60) == 0, first.stdout.read()
    assert len(labels_of(settings)) == 1
    assert validated(settings)["verdict"] == "pass"


def test_a_clock_that_was_set_back(server, settings):
    """Labels order backups: one that would come before an existing one is refused, after a few seconds we wait."""
    record = taken(settings)
    later = datetime.now(timezone.utc) + timedelta(days=1)
    future = layout.label_for(later, "full")
    backups = repository_of(settings) / "backups"
    os.rename(backups / record.label, backups / future)
    (backups / future / "backup.json").unlink()
    (backups / future / "backup.json").write_bytes(
        to_json(type(record)(**{**record.__dict__, "label": future, "started": later, "stopped": later}))
    )
    with untouched(backups):
        with pytest.raises(Refused, match="The clock says") as caught:
            taken(settings)
    assert "timedatectl" in caught.value.hint


# -- what is asked for


def test_an_unknown_label_and_a_time_that_means_nothing(server, settings, place):
    label = taken(settings).label
    target = str(place / "new")
    error = refused_restore(settings, NotFound, "no backup", label="20200101T000000Z-full", target=target)
    assert label in error.hint
    refused_restore(settings, BadInput, "not a backup's label", label="../" + label, target=target)
    refused_restore(settings, BadInput, "not one certain instant", before="2026-11-22T13:05:00", target=target)
    refused_restore(settings, BadInput, "not one certain instant", before="13am", target=target)
    refused_restore(settings, NotFound, "had finished by", before="2020-01-01T00:00:00Z", target=target)
    assert not (place / "new").exists()


def test_a_target_that_is_not_empty_or_in_which_a_server_runs(server, settings, place):
    taken(settings)
    (place / "home").mkdir()
    (place / "home" / "letter").write_text("dear")
    with untouched(place / "home", settings=settings):
        refused_restore(settings, Refused, "is not empty", target=str(place / "home"))
        refused_restore(settings, Refused, "holds no cluster", target=str(place / "home"), in_place=True)
    before = cluster_hashes(server)
    refused_restore(settings, Refused, "is not empty")
    refused_restore(settings, Refused, "A server runs in", in_place=True)
    assert server.is_running
    assert differences(before, cluster_hashes(server)) == []


def test_a_settings_file_with_an_unknown_or_ill_typed_key(server, repository_path, place):
    for section, key, value, words in (
        ("backup", "retension", 3, "unknown key 'backup.retension'"),
        ("compression", "level", "fast", "compression.level must be"),
        ("compression", "codec", "rar", "compression.codec cannot be 'rar'"),
        ("connection", "login_port", "5432", "connection.login_port must be"),
        ("repositories", "", "/backups", "repositories must be"),
    ):
        mapping = server.engine_mapping(repository_path)
        if key:
            mapping.setdefault(section, {})[key] = value
        else:
            mapping[section] = value
        with pytest.raises(BadInput, match=words):
            from_mapping(mapping, where="settings")
        with dbops(settings_file(place / "bad.json", mapping), "backup") as process:
            said, _nothing = process.communicate(timeout=30)
        assert process.returncode == BadInput.exit_code
        assert key in said
    assert list(repository_path.iterdir()) == []


# -- damaged repositories


@pytest.fixture
def chain(server, settings, place):
    """A chain (17 and later; else one full) with tablespace and configuration, its server stopped: its labels.

    The first member is not compressed: no codec's checksum helps to find the damage in it.
    """
    (place / "etc").mkdir()
    (place / "etc" / "extra.conf").write_text("# by hand\n" * 20)
    host = {"config_paths": [str(place / "etc")]}
    settings = server.engine_settings(repository_of(settings).parent, host=host)
    plain = server.engine_settings(repository_of(settings).parent, host=host, compression={"codec": "none"})
    add_tablespace(server, place / "fast", "fast")
    labels = [taken(plain).label]
    if server.installation.major >= 17:
        add_rows(server)
        labels.append(taken(settings, type="incremental").label)
    server.stop()
    return labels


NEEDED = ("base", "tablespace", "manifest")  # of every member; WAL only of the last


def damages():
    return {
        "bit": flip_a_bit,
        "first bit": lambda raw: flip_a_bit(raw, 0),
        "last bit": lambda raw: flip_a_bit(raw, 1),
        "truncated": lambda raw: raw[: len(raw) // 2],
        "cut by one": lambda raw: raw[:-1],
        "empty": lambda raw: b"",
        "longer": lambda raw: raw + b"\0",
        "missing": None,
    }


def test_damage_in_any_object_is_found_by_validating_and_by_restoring(server, settings, place, chain):
    """Every object of every member, each damaged in another way: named, nothing left behind, the old untouched.

    A restore reads what it needs: it does not stumble over an inventory or an older member's WAL, and serves neither.
    """
    (place / "spaces").mkdir()
    kinds = damages()
    ways = iter(list(kinds) * 20)
    request = {"target": str(place / "new"), "tablespace_root": str(place / "spaces")}
    seen = set()
    with untouched(server.data):
        for label in chain:
            record = catalog_of(settings).entry(label).record
            for item in record.objects:
                path = objects_of(settings, label)[item.name]
                whole = path.read_bytes()
                way = next(ways)
                seen.add(item.kind)
                if kinds[way] is None:
                    path.unlink()
                else:
                    path.write_bytes(kinds[way](whole))
                with pytest.raises(Corrupt, match=item.name) as caught:
                    validated(settings)
                assert caught.value.hint, (way, item.name)
                if item.kind in NEEDED or (item.kind == "wal" and label == chain[-1]):
                    with pytest.raises(Corrupt, match=item.name):
                        restored(settings, **request)
                    assert not (place / "new").exists()
                    assert list((place / "spaces").iterdir()) == []
                    assert not list(place.glob("*.dbops-restore*"))
                path.write_bytes(whole)
    assert seen == {"base", "tablespace", "manifest", "wal", "config", "inventory"}
    assert validated(settings)["verdict"] == "pass", "everything was put back"


@pytest.mark.parametrize("way", [name for name in damages() if name != "missing"])
def test_damage_in_a_record_is_found(settings, place, chain, way):
    """A damaged backup.json is no backup that could be restored, and it is not forgotten either."""
    path = objects_of(settings, chain[-1])["backup.json"]
    changed_bytes(path, damages()[way])
    catalog = catalog_of(settings)
    assert list(catalog.unreadable) == [chain[-1]]
    for request in ({"label": chain[-1]}, {}):
        if request or len(chain) == 1:
            with pytest.raises((Corrupt, NotFound)) as caught:
                validated(settings, **request)
            assert not request or "backup.json" in caught.value.message
            with pytest.raises((Corrupt, NotFound)):
                restored(settings, target=str(place / "new"), tablespace_root=str(place), **request)
    assert not (place / "new").exists()


def test_one_bit_anywhere_in_the_smallest_objects(settings, chain):
    """Not just in the middle: all over inventory and record."""
    record = catalog_of(settings).entry(chain[-1]).record
    paths = objects_of(settings, chain[-1])
    for name, step in ((record.of_kind("inventory")[0].name, 97), ("backup.json", 31)):
        whole = paths[name].read_bytes()
        for position in range(0, len(whole), step * 3):
            paths[name].write_bytes(flip_a_bit(whole, position / len(whole)))
            with pytest.raises((Corrupt, Refused)):
                validated(settings, label=chain[-1])
        paths[name].write_bytes(whole)


def test_a_record_of_a_newer_format(settings, place, chain):
    path = objects_of(settings, chain[-1])["backup.json"]
    data = json.loads(path.read_bytes())
    path.write_text(json.dumps({**data, "format": 99, "something": "new"}))
    with untouched(repository_of(settings)):
        for act in (lambda: validated(settings, label=chain[-1]), lambda: restored(settings, label=chain[-1])):
            with pytest.raises(Corrupt, match="format 99") as caught:
                act()
            assert "newer dbops" in str(caught.value)


def test_objects_that_changed_places(server, settings, place):
    """Each is whole in itself, and in the wrong backup."""
    first = taken(settings)
    add_rows(server)
    second = taken(settings)
    for item in second.objects:
        older = objects_of(settings, first.label).get(item.name)
        newer = objects_of(settings, second.label)[item.name]
        kept = newer.read_bytes()
        if older is None or older.read_bytes() == kept:
            continue
        shutil.copyfile(older, newer)
        with pytest.raises(Corrupt, match=item.name):
            validated(settings, label=second.label)
        newer.write_bytes(kept)


def forged(settings, record, entries):
    """Replace base.tar by an archive of these entries, with a record that vouches for it."""
    repository = open_repository(settings)
    old = record.of_kind("base")[0]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, kind, link in entries:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, link
            member.size = 4 if kind == tarfile.REGTYPE else 0
            archive.addfile(member, io.BytesIO(b"evil"))
    path = objects_of(settings, record.label)
    path[old.name].unlink()
    path["backup.json"].unlink()
    new = repository.put_object(record.label, "base.tar", [buffer.getvalue()], Shape(record.codec), kind="base")
    objects = tuple(new if item.kind == "base" else item for item in record.objects)
    repository.publish(type(record)(**{**record.__dict__, "objects": objects}))


@pytest.mark.parametrize(
    "entries",
    [
        [("../evil", tarfile.REGTYPE, "")],
        [("/{place}/evil", tarfile.REGTYPE, "")],
        [("base/../../evil", tarfile.REGTYPE, "")],
        [("way", tarfile.SYMTYPE, ".."), ("way/evil", tarfile.REGTYPE, "")],
        [("evil", tarfile.LNKTYPE, "/etc/passwd")],
        [("evil", tarfile.CHRTYPE, "")],
    ],
)
def test_a_tar_entry_that_points_outside_the_target(server, settings, place, entries):
    record = taken(settings)
    forged(settings, record, [(name.format(place=str(place)[1:]), kind, link) for name, kind, link in entries])
    with untouched(server.sockets, settings=settings):
        for act in (lambda: validated(settings), lambda: restored(settings, target=str(place / "new"))):
            with pytest.raises(Corrupt, match=r"base\.tar") as caught:
                act()
            assert "Examine" in caught.value.hint or "examine" in caught.value.hint
    assert not (place / "new").exists()
    assert not list(place.rglob("evil"))


def test_an_archive_without_a_control_file_is_not_put_in_place(settings, place):
    record = taken(settings)
    forged(settings, record, [("PG_VERSION", tarfile.REGTYPE, ""), ("pg_wal", tarfile.DIRTYPE, "")])
    with pytest.raises(Corrupt, match="by the manifest"):
        validated(settings)
    refused_restore(settings, Corrupt, "pg_control", target=str(place / "new"))
    assert not (place / "new").exists()


def test_plans_on_a_damaged_repository_do_not_act(server, settings, place):
    """A plan reads the records only; nothing it does can make matters worse."""
    record = taken(settings)
    changed_bytes(objects_of(settings, record.label)["backup.json"], flip_a_bit)
    with untouched(repository_of(settings)):
        plan = take.plan(settings, take.Request(method="physical", max_age_s=3600))
        assert plan.needed, "a backup that cannot be read protects nobody"
        assert any(record.label in warning for warning in plan.warnings)
        with pytest.raises(NotFound):
            physical.plan(settings, physical.Request(target=str(place / "new")))
    result = take.run(plan, Silent())
    assert result["changed"]
    assert record.label in catalog_of(settings).unreadable, "and it is kept for examination"
