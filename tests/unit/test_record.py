# SPDX-License-Identifier: GPL-3.0-or-later
"""backup.json: read back as it was written, or refused."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.codec.stream import Side
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import Corrupt, Refused
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.record import (
    BackupRecord,
    StoredObject,
    TablespaceRecord,
    WalRange,
    from_iso,
    from_json,
    iso,
    to_json,
)

START = datetime(2026, 11, 22, 13, 5, 0, 123000, tzinfo=timezone.utc)
PHYSICAL = BackupRecord(
    label="20261122T130500Z-incr",
    cluster="main",
    method="physical",
    type="incremental",
    started=START,
    stopped=START + timedelta(minutes=3),
    system_identifier="7500000000000000001",
    postgres_version="18.1",
    postgres_version_num=180001,
    objects=(
        StoredObject("base.tar.zst", "base", "zstd", Side(10, "a" * 64)),
        StoredObject(
            "16400.tar.zst", "tablespace", "zstd", Side(11, "b" * 64), Side(90, "c" * 64), tablespace_oid=16400
        ),
    ),
    database_bytes=12345,
    parent="20261121T130500Z-full",
    wal=WalRange(1, "0/2000028", "0/3000000", 16 << 20),
    tablespaces=(TablespaceRecord(16400, "fast", "/mnt/fast"),),
    from_standby=True,
    host="db1",
    by="postgres",
    reason="before the upgrade",
    tool_version="1.0.0",
    notes=("a note",),
    extra={"glibc": "2.36"},
)


def sealed(data: dict[str, Any]) -> bytes:
    """What a writer of another version would have written."""
    body = json.dumps(data, indent=1, ensure_ascii=False).encode()[:-2]
    return body + b',\n "sha256_above": "' + hashlib.sha256(body).hexdigest().encode() + b'"\n}\n'


def changed(change: Callable[[dict[str, Any]], Any]) -> bytes:
    data = json.loads(to_json(PHYSICAL))
    del data["sha256_above"]
    change(data)
    return sealed(data)


def test_a_record_comes_back_as_it_was_written():
    assert from_json(to_json(PHYSICAL), where="x") == PHYSICAL
    assert from_json(changed(lambda data: None), where="x") == PHYSICAL  # so the changes below are what is refused


names = st.text(st.characters(codec=None), min_size=1, max_size=20)


@given(names, st.lists(names, max_size=3), st.dictionaries(names, names, max_size=3))
def test_names_of_any_letters_come_back(reason: str, databases: list[str], extra: dict[str, str]):
    record = dataclasses.replace(PHYSICAL, reason=reason, databases=tuple(databases), extra=extra)
    assert from_json(to_json(record), where="x") == record


def test_a_person_can_read_it():
    data = json.loads(to_json(PHYSICAL))
    assert (data["format"], data["started"], data["stored_bytes"]) == (1, "2026-11-22T13:05:00.123Z", 21)
    assert b"\n" in to_json(PHYSICAL)


@pytest.mark.parametrize("newer", [2, 99])
def test_a_newer_format_is_refused_with_its_number_and_the_way_out(newer: int):
    with pytest.raises(Refused, match=f"format {newer}") as caught:
        from_json(changed(lambda data: data.update(format=newer, something={"new": True})), where="x/backup.json")
    assert "x/backup.json" in caught.value.message
    assert "RECOVER.md" in caught.value.hint


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.update(colour="red"),
        lambda data: data["objects"][0].update(colour="red"),
        lambda data: data["wal"].update(colour="red"),
        lambda data: data.pop("format"),
        lambda data: data.update(format=0),
        lambda data: data.update(format="1"),
        lambda data: data.pop("label"),
        lambda data: data.pop("objects"),
        lambda data: data.update(objects=5),
        lambda data: data["objects"][0].pop("stored"),
        lambda data: data["objects"][0].pop("name"),
        lambda data: data["objects"][0].update(name="../../etc/passwd"),
        lambda data: data["objects"][0].update(name=".."),
        lambda data: data["objects"][0]["stored"].pop("sha256"),
        lambda data: data["wal"].pop("start_lsn"),
        lambda data: data.update(started="yesterday"),
        lambda data: data.update(started="2026-11-22T13:05:00"),
        lambda data: data.update(stopped=5),
    ],
)
def test_an_unknown_missing_or_impossible_key_is_corrupt(change: Callable[[dict[str, Any]], Any]):
    with pytest.raises(Corrupt, match=r"x/backup\.json"):
        from_json(changed(change), where="x/backup.json")


@pytest.mark.parametrize("raw", [b"", b"null", b"[]", b'"x"', b"5", b"{}", b"\x00\xff", b"[" * 100_000])
def test_what_is_no_record_at_all_is_corrupt(raw: bytes):
    with pytest.raises(Corrupt):
        from_json(raw, where="x")


def test_a_record_without_its_seal_is_corrupt():
    data = json.loads(to_json(PHYSICAL))
    del data["sha256_above"]
    with pytest.raises(Corrupt, match="sha256_above"):
        from_json(json.dumps(data, indent=1).encode(), where="x")


WRITTEN = to_json(PHYSICAL)


@given(st.integers(0, len(WRITTEN) * 8 - 1))
def test_any_flipped_bit_is_seen(bit: int):
    damaged = bytearray(WRITTEN)
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises((Corrupt, Refused)):  # refused: the format's digit may have become a newer one
        from_json(bytes(damaged), where="x")


@given(st.integers(0, len(WRITTEN) - 1))
def test_any_missing_end_is_seen(length: int):
    with pytest.raises(Corrupt):
        from_json(WRITTEN[:length], where="x")


@given(st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1), timezones=st.timezones()))
def test_times_are_utc_to_the_millisecond(moment: datetime):
    text = iso(moment)
    assert text.endswith("Z")
    assert abs(from_iso(text) - moment.astimezone(timezone.utc)) < timedelta(milliseconds=1)
