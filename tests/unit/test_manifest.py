# SPDX-License-Identifier: GPL-3.0-or-later
"""The WAL that a backup needs stands in its manifest, however long that is."""

from __future__ import annotations

import json

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.backup.manifest import wal_range
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import Corrupt
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.record import WalRange

SEGMENT = 16 << 20


def manifest(path, ranges, files=3, checksum="0" * 64):
    """As the server writes it: one file a line, WAL ranges behind them, its own checksum last."""
    lines = [
        json.dumps({"Path": f"base/1/{number}", "Size": 8192, "Checksum-Algorithm": "CRC32C", "Checksum": "9b3d5f11"})
        for number in range(files)
    ]
    text = '{ "PostgreSQL-Backup-Manifest-Version": 2,\n"System-Identifier": 7,\n"Files": [\n' + ",\n".join(lines)
    text += '\n],\n"WAL-Ranges": [\n' + ",\n".join(json.dumps(item) for item in ranges)
    text += f'\n],\n"Manifest-Checksum": "{checksum}"}}\n'
    path.write_text(text)
    return str(path)


def wal(timeline, start, stop):
    return {"Timeline": timeline, "Start-LSN": start, "End-LSN": stop}


@pytest.mark.parametrize("files", [0, 1, 5000])
def test_the_range_is_found_behind_any_number_of_files(tmp_path, files):
    path = manifest(tmp_path / "m", [wal(1, "0/2000028", "0/2000120")], files)
    assert wal_range(path, segment_size=SEGMENT) == WalRange(1, "0/2000028", "0/2000120", SEGMENT)


def test_over_a_switch_of_timeline_the_range_goes_from_the_oldest_to_the_newest(tmp_path):
    """The server writes the newest timeline first (basebackup_incremental's AddWALInfoToBackupManifest)."""
    path = manifest(tmp_path / "m", [wal(3, "0/A000000", "0/B000000"), wal(2, "0/9000000", "0/A000000")])
    assert wal_range(path, segment_size=SEGMENT) == WalRange(3, "0/9000000", "0/B000000", SEGMENT)


def test_positions_are_compared_as_numbers(tmp_path):
    path = manifest(tmp_path / "m", [wal(2, "10/0", "10/8"), wal(1, "9/FFFFFFFF", "10/0")])
    assert wal_range(path, segment_size=SEGMENT).start_lsn == "9/FFFFFFFF"


@pytest.mark.parametrize("content", ["", "{}", '{"Files": []}\n', '"WAL-Ranges": [', '"WAL-Ranges": []', "\0" * 9])
def test_a_manifest_that_names_no_wal_is_corrupt(tmp_path, content):
    path = tmp_path / "m"
    path.write_text(content)
    with pytest.raises(Corrupt, match="backup_manifest"):
        wal_range(str(path), segment_size=SEGMENT)


def test_a_damaged_range_is_corrupt(tmp_path):
    path = tmp_path / "m"
    for damaged in ('[{"Timeline": 1}]', "[1]", '[{"Timeline": 1, "Start-LSN": "x", "End-LSN": "y"}]', "[nonsense]"):
        path.write_text(f'{{"WAL-Ranges": {damaged}}}')
        with pytest.raises(Corrupt, match="backup_manifest"):
            wal_range(str(path), segment_size=SEGMENT)
