# SPDX-License-Identifier: GPL-3.0-or-later
"""What PostgreSQL knows: connections, tools per major version, control data. Nothing of storage."""
