# SPDX-License-Identifier: GPL-3.0-or-later
"""What a server that was restored has to be told so that it finds its configuration."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import Refused
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg.datadir import last_config_file
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.restore.own_configuration import start_options


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "a b").mkdir()
    for path in ("data", "a b"):
        (tmp_path / path / "postgresql.conf").touch()
    return tmp_path / "data"


def run_with(data: Path, *words: str) -> None:
    quoted = "".join(f' "{word}"' for word in ("-D", str(data), *words))
    (data / "postmaster.opts").write_text(f"/usr/bin/postgres{quoted}\n")


@pytest.mark.parametrize("words", [("-c", "{}/a b/postgresql.conf"), ("--{}/a b/postgresql.conf",)])
def test_the_last_start_tells_where_it_is(data: Path, words: tuple[str, ...]):
    path = data.parent / "a b" / "postgresql.conf"
    run_with(data, *(word.replace("{}", f"config_file={data.parent}") for word in words))
    assert last_config_file(str(data)) == str(path)
    told = start_options(str(data), None, "-c port=1", old=str(data))
    assert shlex.split(told) == ["-c", f"config_file={path}", "-c", f"data_directory={data}", "-c", "port=1"]


def test_nothing_is_told_that_the_data_brings_along_or_somebody_says(data: Path):
    assert start_options(str(data), None, "") == ""
    assert last_config_file(str(data)) is None
    run_with(data, "-c", f"config_file={data}/postgresql.conf")
    assert start_options(str(data), None, "-c port=1", old=str(data)) == "-c port=1"
    given = f"-c config_file=/elsewhere -c data_directory={data}"
    assert start_options(str(data), "/nowhere/postgresql.conf", given) == given
    run_with(data, "-c", "config_file=relative")
    assert last_config_file(str(data)) is None
    (data / "postmaster.opts").write_text('an open "quote')
    assert last_config_file(str(data)) is None


def test_what_the_backup_says_is_believed_where_it_is_there(data: Path):
    there = data.parent / "a b" / "postgresql.conf"
    run_with(data, "-c", "config_file=/nowhere/postgresql.conf")
    assert f"config_file='{there}'" in start_options(str(data), str(there), "", old=str(data))
    with pytest.raises(Refused, match=r"/nowhere/postgresql\.conf, is not on this host"):
        start_options(str(data), None, "", old=str(data))


def test_a_configuration_that_somebody_names_starts_no_other_directory_than_this(data: Path):
    told = start_options(str(data), None, "-c config_file=/etc/postgresql/17/main/postgresql.conf")
    assert shlex.split(told)[:2] == ["-c", f"data_directory={data}"]
