# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every module of this collection shares: the common options, and the way from the engine to Ansible's results.

A module is documentation, a spec and one call inside `DbopsModule.session`; what fails in there ends the module with
message, hint and error code. The engine itself knows nothing of this file.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, NoReturn

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.common.respawn import has_respawned, probe_interpreters_for_module, respawn_module

from .dbops import __version__, installed
from .dbops import settings as engine_settings
from .dbops.errors import BadInput, DbopsError, MissingLibrary, Refused, ToolFailed
from .dbops.pg.connection import password_in_passfile
from .dbops.pg.osuser import cluster_identity
from .dbops.progress import Silent, StatusFile, Step
from .dbops.settings import ConnectionSettings, Settings
from .dbops.settings_encryption import ENCRYPTIONS

# What the agent role installs. A host without it is fine: a module brings the engine along.
INTERPRETERS = (f"{installed.LIB_PATH}/venv/bin/python3", "/usr/bin/python3", "/usr/libexec/platform-python")
# Set by the action plugin of the module's name, which reads that file while the module works.
PROGRESS_FILE = "DBOPS_PROGRESS_FILE"

# No defaults here: what a task leaves out is what the settings file says, and then the engine's default.
CLUSTER: dict[str, Any] = {
    "cluster": {"type": "str", "required": True},
    "config": {"type": "path"},
    "repository": {"type": "str"},
    "repositories": {
        "type": "list",
        "elements": "dict",
        "options": {
            "name": {"type": "str", "default": "default"},
            "type": {"type": "str", "choices": ["local"], "default": "local"},
            "path": {"type": "path", "required": True},
        },
    },
}
CONNECTION: dict[str, Any] = {
    "login_host": {"type": "str"},
    "login_port": {"type": "int"},
    "login_user": {"type": "str"},
    "login_password": {"type": "str", "no_log": True},
    "login_unix_socket": {"type": "path"},
    "login_db": {"type": "str"},
    "ssl_mode": {"type": "str", "choices": list(engine_settings.SSL_MODES)},
    "ca_cert": {"type": "path"},
    "ssl_cert": {"type": "path"},
    "ssl_key": {"type": "path"},
    "connect_params": {"type": "dict"},
    "session_role": {"type": "str"},
}
HOST: dict[str, Any] = {
    "os_user": {"type": "str"},
    "bin_dir": {"type": "path"},
    "data_directory": {"type": "path"},
    "state_path": {"type": "path"},
}
ENCRYPTION: dict[str, Any] = {
    "encryption": {
        "type": "dict",
        "options": {
            "method": {"type": "str", "choices": list(ENCRYPTIONS)},
            "recipients": {"type": "list", "elements": "str"},
            "recipient_files": {"type": "list", "elements": "path"},
            "identity_files": {"type": "list", "elements": "path", "no_log": False},  # paths, and no keys
            "homedir": {"type": "path"},
            "passphrase_file": {"type": "path", "no_log": False},
        },
    },
}
# The engine's report formats (migrate/report.py), each with a file.
FINDINGS: dict[str, Any] = {
    "fail_on_findings": {"type": "bool", "default": True},
    "reports": {
        "type": "dict",
        "options": {form: {"type": "path"} for form in ("json", "junit", "sarif", "github", "gitlab")},
    },
}
COMPRESSION: dict[str, Any] = {
    "compression": {
        "type": "dict",
        "options": {
            "codec": {"type": "str", "choices": list(engine_settings.CODECS)},
            "level": {"type": "int"},
            "threads": {"type": "int"},
            "server_side": {"type": "str", "choices": ["auto", "always", "never"]},
        },
    },
}


class DbopsModule:
    """An AnsibleModule with the cluster's options, and the engine's errors and warnings told in Ansible's way."""

    def __init__(self, argument_spec: Mapping[str, Any], **rules: Any) -> None:
        self._module = AnsibleModule(argument_spec={**CLUSTER, **argument_spec}, supports_check_mode=True, **rules)
        self.params: dict[str, Any] = self._module.params
        self.check_mode: bool = self._module.check_mode
        self._hide_passwords_of_connect_params()
        self._progress = _progress()
        # A killed module cleans up as a failed one does: its staging, its passfile, the backup that is not complete.
        signal.signal(signal.SIGTERM, _leave)

    def given(self, *names: str) -> dict[str, Any]:
        """Those of the named options that the task sets."""
        return {name: self.params[name] for name in names if self.params.get(name) is not None}

    def reports(self) -> dict[str, str]:
        """The report formats that the task names a file for."""
        return _without_none(self.params.get("reports") or {})

    @contextlib.contextmanager
    def session(self, **sections: Mapping[str, Any]) -> Iterator[tuple[Settings, Silent]]:
        """The cluster's settings with the task's options laid over, and the progress to report to.

        `sections` are more of them, such as `backup={"jobs": 4}`. An error inside ends the module.
        """
        self._warn_of_another_agent()
        try:
            settings = self._settings(sections)
            with self._with_password(settings) as connection:
                yield replace(settings, connection=connection), self._progress
        except DbopsError as error:
            self.fail(error)

    def require_confirmation(self, what: str) -> None:
        """Refused unless `confirm` is the cluster's name; a dry run needs none."""
        cluster = self.params["cluster"]
        if not self.check_mode and self.params["confirm"] != cluster:
            raise Refused(
                f"{what}, and that is not confirmed.", hint=f"Repeat with confirm={cluster}, or in check mode."
            )

    def exit(self, result: Mapping[str, Any], *, before: Any = None, after: Any = None) -> NoReturn:
        """End well; `before` and `after` are what `--diff` shows."""
        result = dict(result)
        for warning in dict.fromkeys([*result.pop("warnings", ()), *self._progress.warnings]):
            self._module.warn(warning)
        if before is not None or after is not None:
            result["diff"] = {"before": before, "after": after}
        self._module.exit_json(**result)

    def fail(self, error: DbopsError) -> NoReturn:
        """End badly. The screen shows `msg` alone, so the hint stands in it as well as beside it."""
        for warning in self._progress.warnings:
            self._module.warn(warning)
        details = {"hint": error.hint, "error_code": error.error_code}
        message = str(error)
        if isinstance(error, MissingLibrary):
            _respawn(error.library)
            message = f"{missing_required_lib(error.library)} {error.hint}"
        if isinstance(error, ToolFailed):
            details["stderr_tail"] = error.stderr_tail
        # The cause and not the error: that one would print its message twice.
        self._module.fail_json(msg=message, exception=error.__cause__, **details)

    def exit_with_findings(self, result: Mapping[str, Any], *, passed: bool) -> NoReturn:
        """End as `fail_on_findings` wants it."""
        if passed or not self.params["fail_on_findings"]:
            self.exit(result)
        self.fail_with(result, hint="Mend the files that the findings name.", error_code="migrations_failed")

    def fail_with(self, result: Mapping[str, Any], *, hint: str, error_code: str) -> NoReturn:
        """End badly although all was done: the answer itself is bad news, and is returned whole."""
        result = dict(result)
        for warning in dict.fromkeys([*result.pop("warnings", ()), *self._progress.warnings]):
            self._module.warn(warning)
        message = f"{result.pop('msg')} {hint}".strip()
        self._module.fail_json(msg=message, hint=hint, error_code=error_code, **result)

    # -- how

    def _settings(self, sections: Mapping[str, Mapping[str, Any]]) -> Settings:
        connection = self.given(*(name for name in CONNECTION if name != "login_password"))
        if "connect_params" in connection:
            connection["connect_params"] = {name: str(it) for name, it in connection["connect_params"].items()}
        overrides = {
            **self.given("repositories"),
            "connection": connection,
            "host": self.given(*HOST),
            "compression": _without_none(self.params.get("compression") or {}),
            "encryption": _without_none(self.params.get("encryption") or {}),
            **{name: _without_none(section) for name, section in sections.items()},
        }
        return engine_settings.load(self.params["cluster"], path=self.params["config"], overrides=overrides)

    def _with_password(self, settings: Settings) -> AbstractContextManager[ConnectionSettings]:
        password = self.params.get("login_password")
        if not password:
            return contextlib.nullcontext(settings.connection)
        if "passfile" in settings.connection.connect_params:
            raise BadInput(
                "login_password and connect_params.passfile both say where the password is.", hint="Give one of them."
            )
        identity = cluster_identity(settings.host.os_user, settings.host.data_directory)
        return password_in_passfile(settings.connection, password, identity)

    def _hide_passwords_of_connect_params(self) -> None:
        # They are refused later; until then, and in that very message's invocation, they are secrets all the same.
        parameters = self.params.get("connect_params") or {}
        secrets = (parameters.get(name) for name in ("password", "sslpassword"))
        self._module.no_log_values.update(str(secret) for secret in secrets if secret)

    def _warn_of_another_agent(self) -> None:
        there = installed.version()
        if there not in (None, __version__):
            self._module.warn(
                f"This host has dbops {there} installed, and the controller {__version__}. "
                "Next: run playbooks/setup.yml, so that scheduled backups are made by the same version."
            )


class _LiveProgress(StatusFile):
    def report(self, step: Step) -> None:
        with contextlib.suppress(OSError):  # a full home directory must not end a backup
            super().report(step)


def _progress() -> Silent:
    """The file that the action plugin named, with our process id beside it, both gone when we are; else nothing."""
    path = os.path.expanduser(os.environ.get(PROGRESS_FILE, ""))
    if not path:
        return Silent()

    def remove() -> None:
        for name in (path, path + ".pid"):
            with contextlib.suppress(OSError):
                os.unlink(name)

    atexit.register(remove)
    with contextlib.suppress(OSError):
        with open(path + ".pid", "w", encoding="ascii") as stream:
            stream.write(str(os.getpid()))
    return _LiveProgress(path)


def _respawn(library: str) -> None:
    """Go on under a Python that has the library. Returns when there is none, or when we already did."""
    if has_respawned():
        return
    interpreter = probe_interpreters_for_module(INTERPRETERS, library)
    if interpreter:
        respawn_module(interpreter)


def _leave(number: int, frame: Any) -> NoReturn:
    del frame
    raise SystemExit(128 + number)


def _without_none(section: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in section.items() if value is not None}
