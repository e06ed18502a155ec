# SPDX-License-Identifier: GPL-3.0-or-later
"""Continuous archiving: pushing WAL into repositories, and getting it back for replay."""

from __future__ import annotations
