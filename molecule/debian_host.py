# SPDX-License-Identifier: GPL-3.0-or-later
"""A real host for a scenario: `debian_host.py <base> able|create|remove`. Debian 13, PostgreSQL 17, systemd, ssh.

Its root file system is built once by mmdebstrap, into .cache; `create` boots a copy-on-write copy of it under
systemd-nspawn, on a bridge of its own with no way out, and writes `vars.json` with how to get in. `able` tries all that
and exits with 77 where this machine cannot do it. `remove` leaves nothing behind but the image. All of it needs root.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

SKIPPED = 77
IMAGE = Path(__file__).resolve().parent.parent / ".cache" / "debian-host"
SUITE, MAJOR = "trixie", 17
PACKAGES = (
    "systemd", "systemd-sysv", "dbus", "udev", "iproute2", "openssh-server", "sudo", "ca-certificates", "cron",
    "python3", "python3-psycopg2", "python3-zstandard", f"postgresql-{MAJOR}", "zstd",
)  # fmt: skip
# Debian makes a cluster by itself. A scenario makes its own: a directory of the image cannot be renamed on an overlay.
HOOKS = (f'chroot "$1" pg_dropcluster {MAJOR} main', 'chroot "$1" systemctl enable systemd-networkd ssh')
BRIDGE, GATEWAY, ADDRESS = "dbops-molecule", "198.18.213.1/24", "198.18.213.11"  # RFC 2544: no network is called that
NETWORK = f"[Match]\nName=host0\n[Network]\nAddress={ADDRESS}/24\n"


class Unable(Exception):
    """This machine cannot make such a host; its words say why."""


def able(base: Path) -> None:
    remove(base)  # of a run that was killed
    try:
        create(base)
    except Unable as exc:
        sys.stderr.write(f"no Debian host can be booted here: {exc}\n")
        sys.exit(SKIPPED)
    finally:
        remove(base)


def create(base: Path) -> None:
    image = _image()
    base.mkdir(mode=0o755)
    root, key = base / "root", base / "id"
    for path in (root, base / "upper", base / "work"):
        path.mkdir()
    _tool("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
    layers = f"lowerdir={image},upperdir={base / 'upper'},workdir={base / 'work'}"
    _tool("mount", "-t", "overlay", "-o", layers, "overlay", root)
    _write(root / "etc/systemd/network/10-host0.network", NETWORK, 0o644)
    _write(root / "root/.ssh/authorized_keys", (base / "id.pub").read_text(), 0o600)
    if not Path(f"/sys/class/net/{BRIDGE}").exists():
        _tool("ip", "link", "add", BRIDGE, "type", "bridge")
        _tool("ip", "address", "add", GATEWAY, "dev", BRIDGE)
    _tool("ip", "link", "set", BRIDGE, "up")
    words = ["--quiet", "--boot", "--register=no", "--keep-unit", f"--network-bridge={BRIDGE}", f"--directory={root}"]
    with open(base / "console.log", "wb") as console:
        booted = subprocess.Popen(
            [_program("systemd-nspawn"), *words],
            stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    (base / "pid").write_text(str(booted.pid))
    ssh = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
    until = time.monotonic() + 60
    ask = ["ssh", "-i", key, *ssh, "-o", "ConnectTimeout=2", f"root@{ADDRESS}", "systemctl", "is-active", "ssh"]
    while subprocess.run(ask, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode != 0:
        if booted.poll() is not None or time.monotonic() > until:
            said = (base / "console.log").read_text(errors="replace").strip().splitlines()
            raise Unable(f"it did not come up: {' / '.join(said[-3:]) or 'not a word from it'}")
        time.sleep(0.2)
    known = {"address": ADDRESS, "key": str(key), "ssh_args": " ".join(ssh)}
    (base / "vars.json").write_text(json.dumps(known))


def remove(base: Path) -> None:
    if not base.exists():
        return
    if base.is_symlink() or base.lstat().st_uid != os.geteuid():
        sys.exit(f"{base} is not ours: look at it and remove it by hand.")
    with contextlib.suppress(OSError, ValueError):
        _end(int((base / "pid").read_text()))
    if os.path.ismount(base / "root"):
        _tool("umount", "--lazy", base / "root")
    shutil.rmtree(base)
    if Path(f"/sys/class/net/{BRIDGE}").exists():
        _tool("ip", "link", "delete", BRIDGE)


def _image() -> Path:
    """The root file system, built anew when what belongs into it has changed."""
    if os.geteuid() != 0:
        raise Unable("only root can mount, bridge and boot")
    recipe, root = IMAGE / "recipe", IMAGE / "root"
    wanted = "\n".join((SUITE, *PACKAGES, *HOOKS))
    if recipe.exists() and recipe.read_text() == wanted:
        return root
    shutil.rmtree(IMAGE, ignore_errors=True)
    IMAGE.mkdir(parents=True)
    hooks = [f"--customize-hook={hook}" for hook in HOOKS]
    _tool("mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}", *hooks, SUITE, root)
    recipe.write_text(wanted)
    return root


def _end(pid: int) -> None:
    """SIGTERM is an orderly shutdown, for which nobody waits long; then whatever is left of it goes."""
    if b"systemd-nspawn" not in Path(f"/proc/{pid}/cmdline").read_bytes():
        return
    inside = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    os.kill(pid, signal.SIGTERM)
    until = time.monotonic() + 15
    while Path(f"/proc/{pid}/cmdline").exists() and _alive(pid) and time.monotonic() < until:
        time.sleep(0.1)
    for left in (*map(int, inside), pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(left, signal.SIGKILL)


def _alive(pid: int) -> bool:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    return False


def _write(path: Path, text: str, mode: int) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise Unable(f"{name} is not installed")
    return found


def _tool(name: str, *words: str | Path) -> None:
    done = subprocess.run(
        [_program(name), *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise Unable(f"{name} ended with {done.returncode}: {' / '.join(done.stderr.strip().splitlines()[-3:])}")


if __name__ == "__main__":
    {"able": able, "create": create, "remove": remove}[sys.argv[2]](Path(sys.argv[1]))
