# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which migrations, in which database, and what becomes of what is found about them."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  path:
    description: The directory of the migrations on the host. By default that of the settings file.
    type: path
"""

    DATABASE = r"""
options:
  database:
    description: The database. By default that of the settings file's section C(migrations), else C(login_db).
    type: str
"""

    BUDGETS = r"""
options:
  max_seconds:
    description: A budget for one file, in seconds.
    type: float
  max_exclusive:
    description: A budget for one file's ACCESS EXCLUSIVE locks on tables that were there before, in seconds.
    type: float
"""

    FINDINGS = r"""
options:
  reports:
    description: Files on the host to write the findings to.
    type: dict
    suboptions:
      json:
        description: A list of findings.
        type: path
      junit:
        description: JUnit's XML. A test case is a version, or a file where files alone are looked at.
        type: path
      sarif:
        description: SARIF 2.1.0.
        type: path
      github:
        description: Annotations, as GitHub Actions reads them from a job's output.
        type: path
      gitlab:
        description: GitLab's Code Quality report.
        type: path
  fail_on_findings:
    description: Whether an error among the findings fails the task.
    type: bool
    default: true
"""
