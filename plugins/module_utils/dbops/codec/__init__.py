# SPDX-License-Identifier: GPL-3.0-or-later
"""How bytes are shaped: compression (later encryption) and the stream pipeline."""
