# SPDX-License-Identifier: GPL-3.0-or-later
"""Proving a backup by restoring it: beside everything, and up a ladder whose every rung has a verdict of its own."""
