# SPDX-License-Identifier: GPL-3.0-or-later
"""Physical backups of real servers: whatever the codec, the chain or the role, the same content comes back."""

from __future__ import annotations

import io
import json
import os
import tarfile
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.backup import take
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.backup.physical import server_compression
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import Refused
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg import server as pg_server
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg.wal import lsn_to_int
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.progress import Silent
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.repository import open_repository
from tests.support.physical import (
    add_rows,
    add_tablespace,
    assert_same_content,
    catalog_of,
    labels_of,
    objects_of,
    picture,
    record_of,
    repository_of,
    restored,
    running,
    taken,
    untouched,
    validated,
)
from tests.support.servers import PgServer, cluster_hashes, wait_until

CODECS = ["none", "gzip", "lz4", "zstd"]


def content(settings, record, kind):
    return b"".join(open_repository(settings).read_object(record.label, record.of_kind(kind)[0]))


def since_17(server):
    """On older servers the same test proves the refusal."""
    return server.installation.major >= 17


# -- there and back


def test_a_full_backup_brings_everything_back_after_the_data_directory_is_destroyed(server, settings, place):
    before = cluster_hashes(server)
    record = taken(settings)
    assert (record.type, record.parent, record.method) == ("full", None, "physical")
    server.kill()
    os.system(f"rm -rf '{server.data}'")
    result = restored(settings)
    assert (result["label"], result["target"]) == (record.label, str(server.data))
    assert_same_content(server, server.data, place / "over", before)


@pytest.mark.parametrize(
    ("codec", "server_side"), [*((codec, "auto") for codec in CODECS), ("lz4", "never"), ("zstd", "never")]
)
def test_every_codec_brings_the_same_back(server, repository_path, place, codec, server_side):
    settings = server.engine_settings(repository_path, compression={"codec": codec, "server_side": server_side})
    looked = pg_server.look(settings.connection, settings.host)
    by_server = server_compression(settings.compression, looked) is not None
    assert by_server == (server_side == "auto" and codec in looked.compressions)
    record = taken(settings)
    base = record.of_kind("base")[0]
    suffix = {"none": "", "gzip": ".gz", "lz4": ".lz4", "zstd": ".zst"}[codec]
    assert (base.name, base.codec, record.codec) == (f"base.tar{suffix}", codec, codec)
    assert (base.plain is None) == by_server
    assert base.stored.size_bytes == objects_of(settings, record.label)[base.name].stat().st_size
    assert validated(settings)["verdict"] == "pass"
    restored(settings, target=str(place / "new"))
    assert_same_content(server, place / "new", place / "over", cluster_hashes(server))


def test_what_is_written_while_the_backup_runs_does_no_harm(server, settings, place):
    """The WAL of the backup itself comes along: the copy is consistent as of its end."""

    done = threading.Event()

    def write():
        while not done.is_set():
            server.sql(
                "insert into orders (customer_id, amount, note) select n, n, 'more' from generate_series(1, 50) n",
                database="shop",
            )

    before = server.value("select count(*) from orders", database="shop")
    writer = threading.Thread(target=write)
    writer.start()
    try:
        wait_until(lambda: server.value("select count(*) from orders", database="shop") > before, "rows arrive")
        record = taken(settings)
    finally:
        done.set()
        writer.join()
    after = server.value("select count(*) from orders", database="shop")
    assert lsn_to_int(record.wal.stop_lsn) - lsn_to_int(record.wal.start_lsn) > 10_000, "it was written meanwhile"
    restored(settings, target=str(place / "new"))
    with running(server, place / "new", place / "over") as copy:
        assert before < copy.value("select count(*) from orders", database="shop") < after
        whole = "select count(*) % 50, count(*) from orders where note = 'more'"
        assert copy.sql(whole, database="shop")[0][0] == 0, "no half transaction"


def test_the_record_says_what_a_restore_has_to_know(server, settings):
    record = taken(settings, reason="before the upgrade")
    looked = pg_server.look(settings.connection, settings.host)
    assert record.system_identifier == looked.system_identifier
    assert record.postgres_version_num // 10000 == server.installation.major
    assert record.extra["data_checksums"] == server.value("show data_checksums") == "on"
    assert record.reason == "before the upgrade"
    assert not record.from_standby
    assert record.started < record.stopped <= record.started + timedelta(minutes=1)
    assert record.database_bytes == pytest.approx(looked.size_bytes, rel=0.1)
    assert [item.kind for item in record.objects] == ["base", "manifest", "wal", "inventory"]
    assert record.wal is not None
    position = "select %s::pg_lsn <= %s::pg_lsn and %s::pg_lsn <= pg_current_wal_lsn()"
    assert server.value(position, (record.wal.start_lsn, record.wal.stop_lsn, record.wal.stop_lsn))


def test_validating_passes_and_changes_nothing(server, settings):
    record = taken(settings)
    with untouched(repository_of(settings), settings=settings):
        found = validated(settings, label=record.label)
    assert found["verdict"] == "pass"
    assert [item["name"] for item in found["objects"]] == [item.name for item in record.objects]


def test_nothing_of_a_run_stays_behind_but_the_backup(server, settings):
    taken(settings)
    assert [path.name for path in server.state.iterdir()] == ["last-physical.json"]  # how it went
    assert list(repository_of(settings).rglob(".part-*")) == []
    assert server.value("select count(*) from pg_replication_slots") == 0


def test_files_in_the_repository_belong_to_whom_the_repository_belongs(server, settings, repository_path):
    taken(settings)
    owner = repository_path.stat().st_uid
    assert {path.lstat().st_uid for path in repository_path.rglob("*")} == {owner}
    assert all(path.stat().st_mode & 0o007 == 0 for path in repository_path.rglob("*")), "nothing is for everybody"


# -- incremental


def test_each_member_of_a_chain_brings_back_its_own_moment(server, settings, place):
    if not since_17(server):
        with pytest.raises(Refused, match="incremental") as caught:
            taken(settings, type="incremental")
        assert "type=full" in caught.value.hint
        assert labels_of(settings) == []
        return
    moments = []
    for number in range(3):
        add_rows(server, 200, f"round {number}")
        record = taken(settings, type="incremental")
        moments.append((record, cluster_hashes(server)))
    full, first, second = (record for record, _hashes in moments)
    assert [record.type for record in (full, first, second)] == ["full", "incremental", "incremental"]
    assert (first.parent, second.parent) == (full.label, first.label)
    assert second.of_kind("base")[0].stored.size_bytes < full.of_kind("base")[0].stored.size_bytes
    for record, hashes in moments:
        target = place / record.label
        result = restored(settings, label=record.label, target=str(target))
        assert result["chain"][-1] == record.label
        assert_same_content(server, target, place / f"over-{record.label}", hashes)
    assert validated(settings)["chain"] == [full.label, first.label, second.label]


def test_a_chain_of_client_compressed_backups_with_a_tablespace_comes_back(server, repository_path, place):
    if not since_17(server):
        return
    settings = server.engine_settings(repository_path, compression={"codec": "gzip"})
    oid = add_tablespace(server, place / "fast", "fast")
    taken(settings)
    server.sql('insert into "in fast" select n, null from generate_series(1, 500) n', database="shop")
    add_tablespace(server, place / "late", "late")
    taken(settings, type="incremental")
    before = cluster_hashes(server)
    (place / "spaces").mkdir()
    result = restored(settings, target=str(place / "new"), tablespace_root=str(place / "spaces"))
    assert result["tablespaces"][str(oid)] == str(place / "spaces" / str(oid))
    assert_same_content(server, place / "new", place / "over", before)


def test_without_summaries_switched_on_an_incremental_is_refused(server, settings):
    if not since_17(server):
        return
    taken(settings)
    server.sql("alter system set summarize_wal = off")
    server.sql("select pg_reload_conf()")
    server.settings.pop("summarize_wal")
    server.reload()
    wait_until(lambda: server.value("show summarize_wal") == "off", "summarize_wal is off")
    with pytest.raises(Refused, match="summarize_wal is off"):
        taken(settings, type="incremental")
    assert len(labels_of(settings)) == 1


def full_instead(settings, words):
    """Ask for an incremental: it must become a full one, and both plan and record must be clear about it."""
    plan = take.plan(settings, take.Request(method="physical", type="incremental"))
    assert plan.type == "full"
    assert words in plan.why
    record = taken(settings, type="incremental")
    assert (record.type, record.parent) == ("full", None)
    return record


def test_a_chain_at_its_limit_is_followed_by_a_full_one(server, repository_path):
    if not since_17(server):
        return
    settings = server.engine_settings(repository_path, backup={"max_chain": 1})
    full = taken(settings)
    assert taken(settings, type="incremental").parent == full.label
    full_instead(settings, "max_chain")


def test_a_parent_whose_summaries_are_gone_is_followed_by_a_full_one(server, settings):
    if not since_17(server):
        return
    server.settings.pop("summarize_wal")
    server.reload()
    wait_until(lambda: server.value("show summarize_wal") == "off", "summarize_wal is off")
    taken(settings)
    add_rows(server)
    server.sql("checkpoint")
    server.sql("select pg_switch_wal()")
    add_rows(server)
    for path in (server.data / "pg_wal" / "summaries").iterdir():
        path.unlink()
    server.settings["summarize_wal"] = "on"
    server.sql("checkpoint")
    server.restart()
    wait_until(lambda: server.value("show summarize_wal") == "on", "summarize_wal is on")
    add_rows(server)
    server.sql("checkpoint")
    wait_until(lambda: server.value("select count(*) from pg_available_wal_summaries()"), "there is a summary")
    full_instead(settings, "summaries")


def test_a_parent_whose_manifest_is_damaged_is_followed_by_a_full_one(server, settings):
    if not since_17(server):
        return
    parent = taken(settings)
    path = objects_of(settings, parent.label)[parent.of_kind("manifest")[0].name]
    path.write_bytes(path.read_bytes()[:-20])
    progress = Silent()
    result = take.run(take.plan(settings, take.Request(method="physical", type="incremental")), progress)
    assert result["backup"]["type"] == "full"
    assert any(parent.label in warning for warning in progress.warnings)


def test_after_a_restore_the_next_one_is_full(server, settings, place):
    """Both histories go on from one position in WAL. Built on what was before, an incremental would mix them."""
    if not since_17(server):
        return
    first = taken(settings)
    add_rows(server, 20_000, "lost in the restore")
    server.sql("checkpoint")
    server.sql("vacuum full customers", database="shop")
    taken(settings, type="incremental")
    restored(settings, label=first.label, in_place=True, stop=True)
    server.start()
    for _number in range(
        4
    ):  # past the position that the other history had reached: the server itself sees no difference
        add_rows(server, 100, "after the restore")
        server.sql("select pg_switch_wal()")
    server.sql("checkpoint")
    full_instead(settings, "restored")
    add_rows(server, 10, "and on")
    record = taken(settings, type="incremental")
    assert record.type == "incremental"
    restored(settings, target=str(place / "new"))
    assert_same_content(server, place / "new", place / "over", cluster_hashes(server))


# -- from a standby, as a small role


def test_a_backup_of_a_standby_is_restored_as_a_primary(server, repository_path, place):
    add_rows(server)
    standby = server.standby(place / "standby")
    settings = standby.engine_settings(repository_path)
    record = taken(settings)
    assert record.from_standby
    before = cluster_hashes(server)
    restored(settings, target=str(place / "new"))
    assert not (place / "new" / "standby.signal").exists()
    assert_same_content(server, place / "new", place / "over", before)


def test_a_role_with_the_least_rights_is_enough(server, repository_path, place):
    server.sql("create role keeper login replication")
    server.sql("grant pg_read_all_data, pg_read_all_settings to keeper")
    settings = server.engine_settings(repository_path, connection={"login_user": "keeper"})
    record = taken(settings)
    assert json.loads(content(settings, record, "inventory"))["databases"]
    if since_17(server):
        add_rows(server)
        assert taken(settings, type="incremental").parent == record.label
    before = cluster_hashes(server)
    restored(settings, target=str(place / "new"))
    assert_same_content(server, place / "new", place / "over", before)


# -- how old is young enough


def moments_later(settings, record, seconds, max_age_s=3600, **request):
    now = record.stopped + timedelta(seconds=seconds)
    return take.plan(settings, take.Request(method="physical", max_age_s=max_age_s, **request), now=now)


def test_a_backup_young_enough_means_that_nothing_is_done(server, settings):
    record = taken(settings)
    with untouched(repository_of(settings), settings=settings):
        plan = moments_later(settings, record, 1800)
        assert not plan.needed
        assert (plan.newest, plan.newest_age_s) == (record.label, 1800)
        result = take.run(plan, Silent())
        assert result["changed"] is False
        assert record.label in result["msg"]


def test_exactly_at_the_limit_it_is_young_enough_and_a_moment_later_not(server, settings):
    record = taken(settings)
    assert not moments_later(settings, record, 3600).needed
    assert moments_later(settings, record, 3600.001).needed
    assert not moments_later(settings, record, 0, max_age_s=0).needed


def test_force_takes_one_whatever_the_age(server, settings):
    record = taken(settings)
    assert moments_later(settings, record, 1, force=True).needed


def test_a_backup_of_the_future_is_not_young(server, settings):
    record = taken(settings)
    assert moments_later(settings, record, -10).needed


def test_a_backup_that_could_not_be_restored_is_not_young_enough(server, settings):
    if not since_17(server):
        return
    full = taken(settings)
    record = taken(settings, type="incremental")
    assert not moments_later(settings, record, 60, type="incremental").needed
    os.system(f"rm -rf '{repository_of(settings) / 'backups' / full.label}'")
    assert moments_later(settings, record, 60, type="incremental").needed


def test_the_plan_says_what_would_be_done_and_does_nothing(server, settings):
    taken(settings)
    with untouched(repository_of(settings), settings=settings):
        before = picture(server.state)
        plan = take.plan(settings, take.Request(method="physical", type="full"))
        shown = plan.preview()
        assert picture(server.state) == before
    assert shown["changed"] is True
    assert (shown["plan"]["method"], shown["plan"]["type"]) == ("physical", "full")
    assert shown["plan"]["estimated_bytes"] > 10_000_000
    assert shown["plan"]["free_bytes"] > 0


def test_a_repository_on_the_data_directorys_file_system_is_warned_about_loudly(server, settings, place):
    plan = take.plan(settings, take.Request(method="physical"))
    assert any("same file system" in warning for warning in plan.warnings)
    assert any("same file system" in warning for warning in take.run(plan, Silent())["warnings"])


def test_a_repository_elsewhere_is_not_warned_about(server):
    mine = server.data.stat().st_dev
    other = next(path for path in (Path("/dev/shm"), Path("/var/tmp")) if path.stat().st_dev != mine)
    elsewhere = server.os_user.own_directory(other / f"dbops-test-{os.getpid()}-{server.port}")
    try:
        plan = take.plan(server.engine_settings(elsewhere), take.Request(method="physical"))
        assert not any("same file system" in warning for warning in plan.warnings)
    finally:
        elsewhere.rmdir()


# -- what lies beside the data


def test_the_inventory_lists_extensions_roles_and_settings_and_no_secret(server, settings):
    server.sql("create extension pg_trgm" if _has(server, "pg_trgm") else "create extension if not exists plpgsql")
    server.sql("create role somebody")
    server.sql("alter system set primary_conninfo = 'host=nowhere password=sesame'")
    server.sql("select pg_reload_conf()")
    found = json.loads(content(settings, taken(settings), "inventory"))
    by_name = {row["name"]: row for row in found["databases"]}
    assert {row["name"] for row in by_name["postgres"]["extensions"]} == {
        name for (name,) in server.sql("select extname from pg_extension")
    }
    assert by_name["template0"]["extensions"] == []
    assert "somebody" in found["roles"]
    assert found["settings"]["wal_level"]["setting"] == "replica"
    assert "sesame" not in json.dumps(found)


def _has(server: PgServer, extension: str) -> bool:
    return bool(server.value("select count(*) from pg_available_extensions where name = %s", (extension,)))


def configured_elsewhere(server, place):
    """Move the configuration out of the data directory, as Debian has it, with an include and a linked file."""
    etc = place / "etc"
    (etc / "conf.d").mkdir(parents=True)
    for name in ("postgresql.conf", "pg_hba.conf", "pg_ident.conf"):
        os.rename(server.data / name, etc / name)
    (etc / "conf.d" / "memory.conf").write_text("work_mem = '5MB'\n")
    (etc / "conf.d" / "wörk.conf").write_text("maintenance_work_mem = '20MB'\n")
    (place / "elsewhere.conf").write_text("statement_timeout = '1h'\n")
    (etc / "conf.d" / "linked.conf").symlink_to(place / "elsewhere.conf")
    long_name = etc / ("d" * 90) / ("f" * 90 + ".conf")
    long_name.parent.mkdir()
    long_name.write_text("temp_buffers = '9MB'\n")
    with open(etc / "postgresql.conf", "a") as stream:
        stream.write("include_dir = 'conf.d'\n")
        stream.write(f"include '{long_name.relative_to(etc)}'\n")
        stream.write(f"hba_file = '{etc}/pg_hba.conf'\nident_file = '{etc}/pg_ident.conf'\n")
        stream.write(f"data_directory = '{server.data}'\n")
        stream.write(f"include_if_exists = '{server.data}/throwaway.conf'\n")
    for path in [etc, *etc.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else 0o644)
    server.run(
        "pg_ctl", "-D", server.data, "-l", server.log, "-w", "start", "-o", f"-c config_file={etc}/postgresql.conf",
        keep_output=False,
    )  # fmt: skip
    return etc


def test_configuration_outside_the_data_directory_comes_along_with_its_includes(
    installation, templates, place, repository_path
):
    server = templates.server(installation, place / "pg")
    server.write_settings()
    etc = configured_elsewhere(server, place)
    assert server.value("show work_mem") == "5MB"
    assert server.value("show temp_buffers") == "9MB"
    extra = place / "extra"
    extra.mkdir()
    (extra / "ssl.crt").write_text("certificate")
    settings = server.engine_settings(repository_path, host={"config_paths": [str(extra)]})
    record = taken(settings)
    with tarfile.open(fileobj=io.BytesIO(content(settings, record, "config"))) as archive:
        names = set(archive.getnames())
    expected = {path for path in etc.rglob("*") if path.is_file()} | {extra / "ssl.crt"}
    assert names == {str(path).lstrip("/") for path in expected}
    assert validated(settings)["verdict"] == "pass"
    result = restored(settings, target=str(place / "new"), config_directory=str(place / "config"))
    assert result["config_directory"] == str(place / "config")
    for path in expected:
        assert (place / "config" / str(path).lstrip("/")).read_bytes() == path.read_bytes()


def test_without_such_files_there_is_no_config_archive(server, settings):
    assert taken(settings).of_kind("config") == []


def test_other_systems_backups_in_one_repository_are_told_apart(installation, templates, server, settings, place):
    """Two systems, one name: nobody's parent, nobody's "young enough"."""
    taken(settings)
    other = templates.server(installation, place / "other", fresh=True)
    other.start()
    theirs = other.engine_settings(repository_of(settings).parent)
    plan = take.plan(theirs, take.Request(method="physical", max_age_s=3600))
    assert plan.needed
    if since_17(server):
        plan = take.plan(theirs, take.Request(method="physical", type="incremental"))
        assert plan.type == "full"
    assert (
        record_of(settings, labels_of(settings)[0]).system_identifier
        == catalog_of(theirs).entries[0].record.system_identifier
    )
