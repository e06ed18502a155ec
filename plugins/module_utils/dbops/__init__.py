# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine of dbops.postgres: a plain Python package that needs no Ansible.

Rooms, from the top; imports point down only:
cli > restore > backup > repo > {pg, store, codec} > settings > errors, progress.
"""

from __future__ import annotations

__version__ = "1.0.0"
