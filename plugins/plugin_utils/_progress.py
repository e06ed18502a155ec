# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines of progress in the play while a module works for minutes or hours.

The module is started with Ansible's own async, so it also survives a broken connection. While it works, one cheap shell
command per poll reads its status file and asks whether it is done. The result is the module's, unchanged.
"""

from __future__ import annotations

import contextlib
import json
import posixpath
import secrets
import shlex
import time
from collections.abc import Mapping
from typing import Any, Callable, NamedTuple, Optional, TypeVar

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible.utils.vars import merge_hash

from ..module_utils._module import PROGRESS_FILE

T = TypeVar("T")
display = Display()

SWITCH = "dbops_live_progress"
LONGEST_RUN_S = 30 * 86400  # async needs a limit; ours is the operator's patience, or the task's own `timeout`
GONE_S = 60  # no process and no result for so long: nobody will write one any more
OFFLINE_S = 600  # how long a host may be out of reach while its module works
SLOWEST_POLL_S = 2.0
SMALLER_UNITS = ("B", "kB", "MB", "GB")


class Job(NamedTuple):
    """A module that works on the host: its async id and result file, and the status file that it keeps writing."""

    id: str
    result_file: str
    status_file: str

    @property
    def pid_file(self) -> str:
        return f"{self.status_file}.pid"


class Glance(NamedTuple):
    """What one poll saw."""

    step: Optional[dict[str, Any]]
    finished: bool
    alive: bool


class Pace:
    """Decides which steps are worth a line: a new phase, 5 percent more, or a sign of life now and then."""

    def __init__(self) -> None:
        self._phase: Optional[str] = None
        self._percent = 0.0
        self._at = 0.0

    def due(self, step: Mapping[str, Any], now: float) -> bool:
        percent = step.get("percent")
        elapsed = now - self._at
        if step["phase"] == self._phase:
            moved = abs((percent or 0.0) - self._percent)
            few = percent is None or moved >= 1
            if not (elapsed >= 60 or (elapsed >= 10 and few) or (elapsed >= 1 and moved >= 5)):
                return False
        self._phase, self._percent, self._at = step["phase"], percent or 0.0, now
        return True


class ProgressAction(ActionBase):
    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp: Any = None, task_vars: Optional[dict[str, Any]] = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        del tmp
        variables = task_vars or {}
        if self._task.async_val:  # the task asks for async itself: Ansible polls, or nobody does
            native = getattr(self._connection, "has_native_async", False)
            return merge_hash(result, self._execute_module(task_vars=variables, wrap_async=not native))
        job = self._start(variables) if self._may_show(variables) else None
        if job is None:
            return merge_hash(result, self._execute_module(task_vars=variables))
        return merge_hash(result, self._accompany(job, variables))

    # -- starting

    def _may_show(self, variables: dict[str, Any]) -> bool:
        """A dry run is over at once, and `no_log` is taken at its word."""
        if self._task.check_mode or self._task.no_log:
            return False
        connection = self._connection
        if getattr(connection, "has_native_async", False) or getattr(connection, "always_pipeline_modules", False):
            return False
        return boolean(self._templar.template(variables.get(SWITCH, True)), strict=False)

    def _start(self, variables: dict[str, Any]) -> Optional[Job]:
        """The module at work in the background, or None when this host cannot do that and nothing has begun."""
        # Beside async's own files: there the module may write, whoever it becomes.
        directory = self.get_shell_option("async_dir", default="~/.ansible_async")
        name = f"dbops-progress-{secrets.token_hex(8)}"
        task = self._task
        asked, environment = task.async_val, task.environment
        task.async_val = LONGEST_RUN_S
        task.environment = [*(environment or []), {PROGRESS_FILE: posixpath.join(directory, name)}]
        try:
            started = self._execute_module(task_vars=variables, wrap_async=True)
        except AnsibleConnectionFailure:
            raise
        except AnsibleError as error:  # such as: no acl on the host, and the module is to become somebody unprivileged
            display.vv(f"No live progress, the module runs plainly: {error}")
            return None
        finally:
            task.async_val, task.environment = asked, environment
        if "ansible_job_id" not in started or "results_file" not in started:
            display.vv(f"No live progress, the module runs plainly: {started.get('msg', 'it did not start')}")
            return None
        result_file = started["results_file"]
        return Job(started["ansible_job_id"], result_file, posixpath.join(posixpath.dirname(result_file), name))

    # -- while it works

    def _accompany(self, job: Job, variables: dict[str, Any]) -> dict[str, Any]:
        try:
            if self._wait(job, variables.get("inventory_hostname", "")):
                return self._result(job, variables)
        except AnsibleConnectionFailure:
            raise  # it goes on without us; nobody is there to be told
        except BaseException:  # the task's `timeout`: what the play no longer waits for must not go on behind its back
            with contextlib.suppress(AnsibleError):
                self._stop(job)
            raise
        self._clean(job)
        return {
            "failed": True,
            "msg": "The module's process is gone and left no result: it was killed, or the host was restarted. "
            "Nothing that is incomplete is listed as a backup. Next: look at the host's log, then run it again.",
            "error_code": "error",
        }

    def _wait(self, job: Job, host: str) -> bool:
        """Show progress until there is a result; False when there will be none."""
        pace = Pace()
        pause_s = 0.2
        missing_since: Optional[float] = None
        while True:
            time.sleep(pause_s)
            pause_s = min(SLOWEST_POLL_S, pause_s * 1.3)
            glance = self._patiently(lambda: self._glance(job))
            now = time.monotonic()
            if glance.step is not None and pace.due(glance.step, now):
                display.display(f"[{host}] {line(glance.step)}")
            if glance.finished:
                return True
            if glance.alive:
                missing_since = None
            else:
                missing_since = now if missing_since is None else missing_since
                if now - missing_since > GONE_S:
                    return False

    def _glance(self, job: Job) -> Glance:
        status, result, pid = (shlex.quote(path) for path in (job.status_file, job.result_file, job.pid_file))
        answer = self._low_level_execute_command(
            f"cat {status} 2>/dev/null; echo; cat {result}; echo; "
            f"kill -0 $(cat {pid} 2>/dev/null) 2>/dev/null && echo alive; :"
        )
        return read_glance(answer["stdout"])

    def _result(self, job: Job, variables: dict[str, Any]) -> dict[str, Any]:
        arguments = {"jid": job.id, "mode": "status", "_async_dir": posixpath.dirname(job.result_file)}
        result = self._patiently(
            lambda: self._execute_module(
                module_name="ansible.legacy.async_status", module_args=dict(arguments), task_vars=variables
            )
        )
        for added_by_async in ("ansible_job_id", "started", "finished", "results_file", "stderr", "stderr_lines"):
            result.pop(added_by_async, None)
        with contextlib.suppress(AnsibleError):  # the result is here; a file that stays behind holds no secret
            self._clean(job)
        return result

    def _stop(self, job: Job) -> None:
        """End the module as SIGTERM does, cleaning up after itself, and wait a while for it."""
        pid, result = shlex.quote(job.pid_file), shlex.quote(job.result_file)
        self._low_level_execute_command(
            f"kill $(cat {pid}); n=0; while [ $n -lt 30 ] && grep -q '\"finished\": false' {result}; "
            "do n=$((n + 1)); sleep 1; done"
        )
        self._clean(job)

    def _clean(self, job: Job) -> None:
        paths = (job.result_file, job.status_file, job.pid_file)
        self._low_level_execute_command("rm -f " + " ".join(shlex.quote(path) for path in paths))

    def _patiently(self, ask: Callable[[], T]) -> T:
        """Ask again while the connection is broken, as long as there is hope: the module does not need it."""
        since = time.monotonic()
        while True:
            try:
                return ask()
            except AnsibleConnectionFailure as error:
                if time.monotonic() - since > OFFLINE_S:
                    raise
                display.vv(f"Out of reach, the module goes on: {error}")
                with contextlib.suppress(AnsibleError, AttributeError, NotImplementedError):
                    self._connection.reset()
                time.sleep(SLOWEST_POLL_S)


def read_glance(text: str) -> Glance:
    """Three lines: the status file's JSON or nothing, the result file's JSON, and `alive` or nothing."""
    status, result, alive = (text.split("\n") + ["", "", ""])[:3]
    known = _object(result)
    # async writes `started` and `finished: false` first; the module's own result replaces both.
    finished = known is not None and ("started" not in known or bool(known.get("finished")))
    step = _object(status)
    return Glance(step if step and "phase" in step else None, finished, alive.strip() == "alive")


def line(step: Mapping[str, Any]) -> str:
    """`base backup 33 % (1.2 GB of 3.6 GB, 240 MB/s, 10 s left)`, less what is not known."""
    percent, total, eta = step.get("percent"), step.get("total_bytes"), step.get("eta_s")
    done, rate = step.get("done_bytes") or 0, step.get("rate_bytes_per_s") or 0
    details = []
    if done or total:
        details.append(f"{size(done)} of {size(total)}" if total else size(done))
    if rate:
        details.append(f"{size(rate)}/s")
    if eta is not None and total and total / 100 <= done < total:  # in the first moments it is a wild guess
        details.append(f"{duration(eta)} left")
    if step.get("note"):
        details.append(str(step["note"]))
    head = step["phase"] if percent is None else f"{step['phase']} {percent:.0f} %"
    return f"{head} ({', '.join(details)})" if details else str(head)


def size(count: float) -> str:
    """Bytes for people, in powers of 1000: `999 B`, `1.2 GB`."""
    for unit in SMALLER_UNITS:
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def duration(seconds: float) -> str:
    """`10 s`, `4 min`, `2 h 5 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _object(text: str) -> Optional[dict[str, Any]]:
    try:
        data = json.loads(text)
    except ValueError:
        return None
    return data if isinstance(data, dict) else None
