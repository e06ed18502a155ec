# SPDX-License-Identifier: GPL-3.0-or-later
"""Pending migrations on last night's backup: what production will see, before it sees it."""
