# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cluster's answers say together: a model of plain data, and the page, files and pictures drawn of it."""
