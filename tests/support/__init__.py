# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests share: real servers."""

from __future__ import annotations
