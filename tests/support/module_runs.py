# SPDX-License-Identifier: GPL-3.0-or-later
"""A module run in this process, up to the result that it would print."""

from __future__ import annotations

import importlib
import signal
from typing import Any
from unittest import mock

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args

MODULES = "ansible_collections.dbops.postgres.plugins.modules"


class Ended(Exception):
    """What the module would have printed."""

    def __init__(self, result: dict[str, Any], *, failed: bool) -> None:
        super().__init__(result)
        self.result = {**result, "failed": failed}


def run_module(name: str, *, check: bool = False, **arguments: Any) -> dict[str, Any]:
    """The result; `warnings` are what it warned of."""
    warnings: list[str] = []

    def exit_json(_self: AnsibleModule, **result: Any) -> None:
        raise Ended(result, failed=False)

    def fail_json(_self: AnsibleModule, msg: str, **result: Any) -> None:
        raise Ended({"msg": msg, **result}, failed=True)

    module = importlib.import_module(f"{MODULES}.{name}")
    kept = signal.getsignal(signal.SIGTERM)
    try:
        with (
            patch_module_args({"_ansible_check_mode": check, **arguments}),
            mock.patch.multiple(
                AnsibleModule, exit_json=exit_json, fail_json=fail_json, warn=lambda _self, text: warnings.append(text)
            ),
            pytest.raises(Ended) as ended,
        ):
            module.main()
    finally:
        signal.signal(signal.SIGTERM, kept)
    return {**ended.value.result, "warnings": warnings}
