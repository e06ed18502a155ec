# SPDX-License-Identifier: GPL-3.0-or-later
"""Getting them back: one use case per file, read from the top."""
