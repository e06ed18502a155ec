# SPDX-License-Identifier: GPL-3.0-or-later
"""Throwaway PostgreSQL servers on this machine, for the demo and for the tests; never for anybody's data."""

from __future__ import annotations
