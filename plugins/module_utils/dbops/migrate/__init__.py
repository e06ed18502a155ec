# SPDX-License-Identifier: GPL-3.0-or-later
"""Migrations: which files there are, running them, telling what a half-run one did, and rehearsing all of it."""

from __future__ import annotations
