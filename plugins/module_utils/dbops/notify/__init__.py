# SPDX-License-Identifier: GPL-3.0-or-later
"""Telling people: what is due to whom is decided purely, each channel delivers, a failure changes nothing else."""
