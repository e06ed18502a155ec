# SPDX-License-Identifier: GPL-3.0-or-later
"""Taking backups: one use case per file, read from the top."""
