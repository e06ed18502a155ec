# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which cluster, where its backups lie, and whose processes are at work on the host."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  cluster:
    description:
      - The name of the database cluster. Its backups lie below this name in every repository.
      - The settings file of this name is read, so that modules, the C(dbops) command and scheduled runs agree. What a
        task gives is laid over it.
    type: str
    required: true
  config:
    description:
      - The settings file of the cluster, a JSON document.
      - By default C(/etc/dbops/<cluster>.json), which may be missing; a file that is named here must exist.
    type: path
  repository:
    description:
      - The name of the only repository to use, when the cluster has several.
      - By default what is written goes to all of them, and what is read comes from the first one that has it.
    type: str
  repositories:
    description: The repositories of the cluster, instead of those in the settings file.
    type: list
    elements: dict
    suboptions:
      name:
        description: What the repository is called in messages and results.
        type: str
        default: default
      type:
        description:
          - Where its bytes lie. V(local) is a directory of the host, which may be a mounted network file system.
        type: str
        choices: [local]
        default: local
      path:
        description: The absolute path of its directory. It should lie on another disk than the data directory.
        type: path
        required: true
notes:
  - Times are ISO 8601 in UTC, sizes are bytes, and durations are seconds.
"""

    HOST = r"""
options:
  os_user:
    description:
      - The operating system's user that the cluster belongs to.
      - By default, when the module runs as C(root), the owner of the data directory, or C(postgres) when that is not
        known; else the user that the module runs as.
    type: str
  bin_dir:
    description:
      - The directory of PostgreSQL's programs. By default the one that fits the server's major version is found.
    type: path
  data_directory:
    description: The cluster's data directory. By default the server is asked.
    type: path
  state_path:
    description:
      - Where this host keeps scratch files of its runs.
      - By default C(/var/lib/dbops/<cluster>) for C(root), else below the home directory.
    type: path
notes:
  - Run it as C(root), or as the user that the cluster belongs to. As C(root) it starts PostgreSQL's programs as that
    user.
"""

    COMPRESSION = r"""
options:
  compression:
    description: How new backups are compressed. What is not given is what the settings file says.
    type: dict
    suboptions:
      codec:
        description: The method. The engine's own default is V(zstd).
        type: str
        choices: [none, gzip, zstd, lz4]
      level:
        description:
          - V(1) to V(9) for V(gzip), V(1) to V(22) for V(zstd), V(0) to V(12) for V(lz4). By default a fast one.
        type: int
      threads:
        description: The number of threads; V(0) is one for each CPU, at most four.
        type: int
      server_side:
        description:
          - Whether the server compresses a physical backup, which saves network. V(auto) decides by what both can
            do.
        type: str
        choices: [auto, always, never]
"""

    ENCRYPTION = r"""
options:
  encryption:
    description:
      - How new objects are encrypted, and which keys open those that are there. What is not given is what the settings
        file says.
      - To write, public keys are enough. What opens the objects is needed only where something is restored.
    type: dict
    suboptions:
      method:
        description: What new objects are encrypted with. The engine's own default is V(none).
        type: str
        choices: [none, gpg, age]
      recipients:
        description:
          - Who is to read them. With V(gpg) fingerprints of public keys in O(encryption.homedir), with V(age)
            recipients that begin with C(age1), C(ssh-ed25519) or C(ssh-rsa).
        type: list
        elements: str
      recipient_files:
        description: Files with one exported public key each for V(gpg), or with one recipient in a line for V(age).
        type: list
        elements: path
      identity_files:
        description:
          - Files with private keys. Exported gpg keys, age identities and SSH keys may stand together, so that an
            archive with objects of several methods and generations of keys can be read.
        type: list
        elements: path
      homedir:
        description: A GnuPG home directory with public keys, with private keys, or with an agent that holds them.
        type: path
      passphrase_file:
        description: A file with the passphrase of the gpg private keys in its first line.
        type: path
"""
