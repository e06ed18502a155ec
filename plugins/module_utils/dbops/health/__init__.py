# SPDX-License-Identifier: GPL-3.0-or-later
"""Is it protected: facts are gathered once, pure checks judge them, every output is rendered from the findings."""
