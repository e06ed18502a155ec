# SPDX-License-Identifier: GPL-3.0-or-later
"""What is kept: layout, catalog, locks, retention."""
