# SPDX-License-Identifier: GPL-3.0-or-later
"""Where things lie in a repository. Every key is made here, and none anywhere else.

<root>/<cluster>/RECOVER.md
<root>/<cluster>/backups/<label>/backup.json    written last: a backup exists when this does
<root>/<cluster>/backups/<label>/<object>
<root>/<cluster>/backups/<label>/rekeyed-<n>/   the same once more, encrypted anew; counts with rekeyed/<label>-<n>.json
<root>/<cluster>/proofs/<label>/<UTC>.json      <root>/<cluster>/holds/<label>.json
<root>/<cluster>/wal/<system identifier>/...    see archive.py
<root>/<cluster>/adopted/<system identifier>.json
<root>/<cluster>/restore_points/<UTC>-<name>.json
"""

from __future__ import annotations

import re
from datetime import datetime, timezone
from urllib.parse import quote

from ..errors import BadInput

RECORD = "backup.json"
KINDS = {"full": "full", "incremental": "incr", "dump": "dump"}
_LABEL = re.compile(r"\d{8}T\d{6}Z-(full|incr|dump)")


def label_for(start: datetime, backup_type: str) -> str:
    return f"{start.astimezone(timezone.utc):%Y%m%dT%H%M%SZ}-{KINDS[backup_type]}"


def label_time(label: str) -> datetime:
    """When a backup of that label was started, to the second."""
    return datetime.strptime(check_label(label)[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)


def is_label(text: str) -> bool:
    return _LABEL.fullmatch(text) is not None


def check_label(label: str) -> str:
    if not is_label(label):
        raise BadInput(
            f"{label!r} is not a backup's label.", hint="Labels look like 20261122T130500Z-full; see dbops info."
        )
    return label


def backups(cluster: str) -> str:
    return f"{cluster}/backups/"


def backup(cluster: str, label: str) -> str:
    return f"{cluster}/backups/{label}/"


def stored_object(cluster: str, label: str, name: str, generation: int) -> str:
    return f"{backup(cluster, label)}{generation_directory(generation)}{name}"


def generation_directory(generation: int) -> str:
    """Objects that were encrypted anew lie in a directory of their own, with a record of their own."""
    return f"rekeyed-{generation}/" if generation else ""


def record(cluster: str, label: str, generation: int = 0) -> str:
    return stored_object(cluster, label, RECORD, generation)


def rekeyed_markers(cluster: str) -> str:
    return f"{cluster}/rekeyed/"


def rekeyed(cluster: str, label: str, generation: int) -> str:
    """From its presence on, the record of that generation is the backup's."""
    return f"{rekeyed_markers(cluster)}{label}-{generation}.json"


def holds(cluster: str) -> str:
    return f"{cluster}/holds/"


def hold(cluster: str, label: str) -> str:
    return f"{cluster}/holds/{label}.json"


def proofs(cluster: str) -> str:
    return f"{cluster}/proofs/"


def proof(cluster: str, label: str, finished: datetime, number: int = 0) -> str:
    """By the second in which it ended; `number` tells those of one second apart."""
    more = f"_{number}" if number else ""  # sorts behind the dot of .json
    return f"{proofs(cluster)}{label}/{finished.astimezone(timezone.utc):%Y%m%dT%H%M%SZ}{more}.json"


def wal(cluster: str) -> str:
    return f"{cluster}/wal/"


def wal_of(cluster: str, system_identifier: str) -> str:
    return f"{cluster}/wal/{system_identifier}/"


def dropped(cluster: str, system_identifier: str) -> str:
    """One empty object per segment that was acknowledged and not archived."""
    return f"{wal_of(cluster, system_identifier)}dropped/"


def adoptions(cluster: str) -> str:
    return f"{cluster}/adopted/"


def adopted(cluster: str, system_identifier: str) -> str:
    return f"{cluster}/adopted/{system_identifier}.json"


def sync_lock(cluster: str) -> str:
    """Held while another repository's backups are copied to here: what is unfinished then is no remains."""
    return f"{cluster}/sync"


def restore_points(cluster: str) -> str:
    return f"{cluster}/restore_points/"


def restore_point(cluster: str, moment: datetime, name: str) -> str:
    """Percent-encoded like a database's name: any 63 bytes may be one."""
    encoded = quote(name, safe="").replace(".", "%2E")
    return f"{restore_points(cluster)}{moment.astimezone(timezone.utc):%Y%m%dT%H%M%SZ}-{encoded}.json"


def recover_md(cluster: str) -> str:
    return f"{cluster}/RECOVER.md"


def database_object(database: str, extension: str) -> str:
    """An object's name for a database of any name: percent-encoded, so that a slash or a dot cannot wander.

    A database called globals is not to be taken for the globals.
    """
    encoded = quote(database, safe=" ").replace(".", "%2E").replace(" ", "%20")[:200]
    return f"{'%67lobals' if encoded == 'globals' else encoded}{extension}"
