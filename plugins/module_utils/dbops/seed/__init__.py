# SPDX-License-Identifier: GPL-3.0-or-later
"""Seed data: a profile becomes a plan, the plan rows, and the rows are proven to obey the domain."""
