# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator decides about one cluster: the settings file, checked before anything is touched.

Both doors read the same file, `/etc/dbops/<cluster>.json`; modules lay their options over it. An unknown or
ill-typed key is an error that names the key, since a misspelt `retension` would otherwise keep nothing.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Optional

from .errors import BadInput, NotFound, Unreachable
from .schema import between, build, one_of, overlay
from .settings_canary import CanarySettings
from .settings_encryption import EncryptionSettings
from .settings_environment import laid_in
from .settings_environment_file import environment_of
from .settings_health import HealthSettings
from .settings_migrations import MigrationSettings
from .settings_notifications import NotificationSettings
from .settings_repositories import RepositorySettings
from .settings_retention import RetentionSettings
from .settings_verify import VerifySettings

__all__ = ("RepositorySettings", "RetentionSettings")  # besides what is defined here

DEFAULT_DIRECTORY = "/etc/dbops"
CODECS = ("none", "gzip", "zstd", "lz4")
ARCHIVE_CODECS = ("zstd", "gzip", "lz4")
LEVELS = {"none": (0, 0), "gzip": (1, 9), "zstd": (1, 22), "lz4": (0, 12)}
METHODS = ("physical", "logical")
DUMP_FORMATS = ("custom", "directory", "plain")
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


@dataclass(frozen=True)
class ConnectionSettings:
    """How to reach the server; the names are community.postgresql's. No password: a passfile holds it."""

    login_host: str = ""
    login_port: int = 5432
    login_user: str = "postgres"
    login_unix_socket: str = ""
    login_db: str = "postgres"
    passfile: Optional[str] = None
    ssl_mode: str = "prefer"
    ca_cert: Optional[str] = None
    ssl_cert: Optional[str] = None
    ssl_key: Optional[str] = None
    connect_timeout_s: int = 10
    connect_params: dict[str, str] = field(default_factory=dict)
    session_role: Optional[str] = None

    def check(self) -> None:
        one_of("connection.ssl_mode", self.ssl_mode, SSL_MODES)
        between("connection.login_port", self.login_port, 1, 65535)
        between("connection.connect_timeout_s", self.connect_timeout_s, 1, 600)


@dataclass(frozen=True)
class HostSettings:
    """The database host: whose processes, which tools, where scratch files may lie."""

    os_user: Optional[str] = None  # None: the owner of the data directory when we are root, else ourselves
    bin_dir: Optional[str] = None  # None: found by the server's major version
    data_directory: Optional[str] = None  # None: the server says
    config_paths: tuple[str, ...] = ()  # besides those that the server names
    state_path: Optional[str] = None  # None: /var/lib/dbops/<cluster> as root, else below the home directory

    def check(self) -> None:
        for name in ("bin_dir", "data_directory", "state_path"):
            path = getattr(self, name)
            if path is not None and not os.path.isabs(path):
                raise BadInput(f"host.{name} must be an absolute path, got {path!r}.", hint="Begin it with a slash.")


@dataclass(frozen=True)
class CompressionSettings:
    codec: str = "zstd"
    level: Optional[int] = None  # None: the codec's fast level
    threads: int = 0  # 0: one per CPU, at most 4
    server_side: str = "auto"

    def check(self) -> None:
        one_of("compression.codec", self.codec, CODECS)
        one_of("compression.server_side", self.server_side, ("auto", "always", "never"))
        between("compression.threads", self.threads, 0, 64)
        if self.level is not None:
            low, high = LEVELS[self.codec]
            between("compression.level", self.level, low, high)


@dataclass(frozen=True)
class ArchivingSettings:
    """How WAL goes into the repositories and comes back for replay."""

    codec: str = "zstd"  # not none: that could not carry the checksum of what it holds
    level: Optional[int] = None  # None: the codec's fast level
    workers: int = 2  # segments at a time, on the way out and back; above 1, one more on the way out
    spool_path: Optional[str] = None  # markers and prefetched WAL, outside the data directory; None: <state_path>/spool
    spool_max_bytes: int = 1 << 30  # what the spool may take in all; prefetching stays below it
    batch: int = 128  # how many segments the worker may be ahead of the server
    linger_s: int = 60  # how long the worker waits for more before it ends
    timeout_s: int = 60  # one push or one fetch; a store that hangs longer counts as away
    get_retry_s: int = 300  # how long restore_command asks again before it says that it cannot know
    prefetch_bytes: int = 128 << 20  # WAL fetched ahead of replay; 0: none
    standby_get_exit: int = 1  # a standby that cannot know: 1 waits and streams on, 255 shuts it down
    drop_wal_when_free_below: Optional[int] = None  # bytes; see wal/guard.py. None: never, the server stops first
    log_path: Optional[str] = None  # a line for each file that goes out or comes back; None: errors only, to the server

    def check(self) -> None:
        one_of("archiving.codec", self.codec, ARCHIVE_CODECS)
        if self.level is not None:
            low, high = LEVELS[self.codec]
            between("archiving.level", self.level, low, high)
        between("archiving.workers", self.workers, 1, 64)
        between("archiving.spool_max_bytes", self.spool_max_bytes, 0, 1 << 50)
        between("archiving.batch", self.batch, 1, 10_000)
        between("archiving.linger_s", self.linger_s, 0, 86_400)
        between("archiving.timeout_s", self.timeout_s, 1, 3_600)
        between("archiving.get_retry_s", self.get_retry_s, 0, 86_400)
        between("archiving.prefetch_bytes", self.prefetch_bytes, 0, 1 << 40)
        if self.standby_get_exit not in (1, 255):
            raise BadInput(
                f"archiving.standby_get_exit cannot be {self.standby_get_exit}.",
                hint="Choose 1 (a standby waits and streams on) or 255 (it shuts down).",
            )
        if self.drop_wal_when_free_below is not None:
            between("archiving.drop_wal_when_free_below", self.drop_wal_when_free_below, 1, 1 << 60)
        for name in ("spool_path", "log_path"):
            path = getattr(self, name)
            if path is not None and not os.path.isabs(path):
                raise BadInput(
                    f"archiving.{name} must be an absolute path, got {path!r}.", hint="Begin it with a slash."
                )


@dataclass(frozen=True)
class BackupSettings:
    """What one backup is by default; a run's own options are laid over it."""

    method: str = "physical"
    type: str = "full"
    databases: tuple[str, ...] = ()  # logical: empty means all that accept connections
    dump_format: str = "custom"
    jobs: int = 2  # logical, directory format: parallel pg_dump
    include_tables: tuple[str, ...] = ()
    exclude_tables: tuple[str, ...] = ()
    globals: bool = True
    checkpoint: str = "fast"
    max_rate_kib_s: Optional[int] = None
    max_chain: int = 14  # incrementals on one full before the next full is asked for
    row_counts: bool = True

    def check(self) -> None:
        one_of("backup.method", self.method, METHODS)
        one_of("backup.type", self.type, ("full", "incremental"))
        one_of("backup.dump_format", self.dump_format, DUMP_FORMATS)
        one_of("backup.checkpoint", self.checkpoint, ("fast", "spread"))
        between("backup.jobs", self.jobs, 1, 64)
        between("backup.max_chain", self.max_chain, 1, 1000)


@dataclass(frozen=True)
class Settings:
    cluster: str
    connection: ConnectionSettings = field(default_factory=ConnectionSettings)
    host: HostSettings = field(default_factory=HostSettings)
    repositories: tuple[RepositorySettings, ...] = ()
    compression: CompressionSettings = field(default_factory=CompressionSettings)
    backup: BackupSettings = field(default_factory=BackupSettings)
    retention: RetentionSettings = field(default_factory=RetentionSettings)
    archiving: ArchivingSettings = field(default_factory=ArchivingSettings)
    encryption: EncryptionSettings = field(default_factory=EncryptionSettings)
    verify: VerifySettings = field(default_factory=VerifySettings)
    migrations: MigrationSettings = field(default_factory=MigrationSettings)
    health: HealthSettings = field(default_factory=HealthSettings)
    canary: CanarySettings = field(default_factory=CanarySettings)
    notifications: NotificationSettings = field(default_factory=NotificationSettings)

    def check(self) -> None:
        check_cluster(self.cluster)
        names = [repository.name for repository in self.repositories]
        for name in names:
            if names.count(name) > 1:
                raise BadInput(f"Two repositories are called {name!r}.", hint="Give each repository its own name.")

    @property
    def state_path(self) -> str:
        """Where this host keeps locks, staging and progress; private to the cluster's OS user."""
        if self.host.state_path:
            return self.host.state_path
        if os.geteuid() == 0:
            return f"/var/lib/dbops/{self.cluster}"
        base = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
        return os.path.join(base, "dbops", self.cluster)

    @property
    def spool_path(self) -> str:
        """Where markers and prefetched WAL lie; the scripts that the server calls hold it as it was at their making."""
        return self.archiving.spool_path or os.path.join(self.state_path, "spool")

    def retention_of(self, repository: RepositorySettings) -> RetentionSettings:
        return self.retention if repository.retention is None else repository.retention

    def repository(self, name: Optional[str] = None) -> RepositorySettings:
        """The named repository, or the first one."""
        if not self.repositories:
            raise BadInput(
                f"No repository is configured for cluster {self.cluster!r}.",
                hint=f"Add one under `repositories` in {default_file(self.cluster)}, or pass its path.",
            )
        if name is None:
            return self.repositories[0]
        for repository in self.repositories:
            if repository.name == name:
                return repository
        known = ", ".join(repository.name for repository in self.repositories)
        raise BadInput(f"No repository is called {name!r} for cluster {self.cluster!r}.", hint=f"There is: {known}.")


def check_cluster(name: str) -> str:
    """Refuse a name that could not stand in a path."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", name):
        raise BadInput(
            f"{name!r} cannot be a cluster's name.",
            hint="Use 1 to 63 letters, digits, dots, dashes and underscores; the first a letter or digit.",
        )
    return name


def default_file(cluster: str) -> str:
    return os.path.join(DEFAULT_DIRECTORY, f"{cluster}.json")


def load(
    cluster: str,
    *,
    path: Optional[str] = None,
    overrides: Optional[Mapping[str, Any]] = None,
    environment: Optional[Mapping[str, str]] = None,
) -> Settings:
    """Settings of one cluster: its file, the environment file, the environment (this process's), `overrides` on top.

    Overrides have the file's shape, None values are ignored. Without an explicit `path` a missing default file is no
    error: the environment or the overrides may say everything.
    """
    file = path or default_file(check_cluster(cluster))
    data = stated_in(file, must_exist=path is not None)
    stated = data.setdefault("cluster", cluster)
    if stated != cluster:
        raise BadInput(
            f"{file} is about cluster {stated!r}, not {cluster!r}.", hint="Name the cluster that the file is about."
        )
    data = laid_in(Settings, data, environment_of(file, os.environ if environment is None else environment))
    return from_mapping(overlay(data, overrides or {}), where=file)


def stated_in(file: str, *, must_exist: bool = False) -> dict[str, Any]:
    """What the file says; nothing, where it need not be there and is not."""
    return read_file(file) if must_exist or os.path.exists(file) else {}


def read_file(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as stream:
            data = json.load(stream, object_pairs_hook=_without_duplicates)
    except FileNotFoundError as exc:
        raise NotFound(
            f"There is no settings file {path}.", hint="Run playbooks/setup.yml, or name the file with --config."
        ) from exc
    except (OSError, UnicodeDecodeError) as exc:
        raise Unreachable(f"Cannot read {path}: {exc}.", hint="Run as root or as the cluster's OS user.") from exc
    except (ValueError, RecursionError) as exc:
        raise BadInput(f"{path} is not JSON: {exc}.", hint="Mend the file, or run playbooks/setup.yml again.") from exc
    if not isinstance(data, dict):
        raise BadInput(f"{path} must hold one JSON object.", hint="See docs/operations.md for its shape.")
    return data


def from_mapping(data: Mapping[str, Any], *, where: str = "settings") -> Settings:
    settings = build(Settings, data, where=where)
    connection = _with_environment(settings.connection, data.get("connection") or {})
    connection.check()
    return replace(settings, connection=connection)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A key that is written twice would silently count once."""
    keys = [key for key, _value in pairs]
    for key in keys:
        if keys.count(key) > 1:
            raise ValueError(f"the key {key!r} is there twice")
    return dict(pairs)


def _with_environment(connection: ConnectionSettings, given: Mapping[str, Any]) -> ConnectionSettings:
    """libpq's PGPORT and PGUSER fill what nobody set, as in community.postgresql."""
    changes: dict[str, Any] = {}
    if "login_port" not in given and os.environ.get("PGPORT", "").isdigit():
        changes["login_port"] = int(os.environ["PGPORT"])
    if "login_user" not in given and os.environ.get("PGUSER"):
        changes["login_user"] = os.environ["PGUSER"]
    return replace(connection, **changes)
