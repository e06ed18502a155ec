# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the attributes of the modules mean; each module says how far it supports them."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and tell what it would do, without changing anything.
  diff_mode:
    description: Returns what is there before and after, when in diff mode.
  idempotent:
    description: When run twice in a row outside check mode, with the same arguments, the second run changes nothing.
  platform:
    description: The operating systems of the hosts that it works on.
    support: full
    platforms: posix
"""

    ACTION_GROUP = r"""
options: {}
attributes:
  action_group:
    description: Use C(group/dbops.postgres.all) in C(module_defaults) to set defaults for all modules at once.
    support: full
    membership:
      - dbops.postgres.all
"""

    PROGRESS = r"""
options: {}
attributes:
  async:
    description: Supports the C(async) keyword.
    support: full
  action:
    description: Has an action plugin of the same name, which runs on the controller.
    support: full
    details:
      - It starts the module in the background and shows a line of progress at times; the result is the module's.
      - A connection that breaks meanwhile does no harm. A play that is stopped by hand does not stop the module either.
        A task that exceeds its C(timeout) does.
      - Set the variable C(dbops_live_progress) to V(false) to run the module plainly. It does so by itself in check
        mode,
        under C(no_log), and where the host cannot run it in the background.
"""
