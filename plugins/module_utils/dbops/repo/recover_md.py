# SPDX-License-Identifier: GPL-3.0-or-later
"""RECOVER.md: how to get everything back without this software. Its shell blocks are run, as they stand, by a test."""

from __future__ import annotations

_TEXT = r"""# How to recover cluster `@CLUSTER@` by hand

This directory was written by dbops.postgres. You do not need that software to recover: `tar`, `sha256sum`, the
decompressor that a file's ending names (`.zst` zstd, `.gz` gzip, `.lz4` lz4) and PostgreSQL's own programs are enough;
for files that end in `.gpg` or `.age` also that program, and a private key of one of those they were encrypted for.
Work as the OS user that PostgreSQL runs as. Never work in the old data directory: move it aside first.

`backups/` holds one directory per backup. A directory **without** `backup.json` is an unfinished backup: leave it.
`backup.json` says what the backup is (`method`, `type`, `parent`, `postgres_version_num`: 180006 is version 18.6) and
gives for each file its `stored` size and sha256.

**If this lies in an object store**, bring it to a disk with the cloud's own tool first: of `backups/` the directory of
the backup and those of its parents, and for a later point in time `wal/`. Names and bytes stay what they are.

```sh
aws s3 cp --recursive s3://BUCKET/PREFIX/@CLUSTER@/backups/LABEL backups/LABEL    # another server: --endpoint-url URL
gcloud storage cp --recursive gs://BUCKET/PREFIX/@CLUSTER@/backups/LABEL backups/
az storage blob download-batch --source CONTAINER --pattern 'PREFIX/@CLUSTER@/backups/LABEL/*' --destination .
```

All commands below start here, in the directory of this file, and need this function:

```sh setup
plain() {  # one stored file, decrypted and decompressed, whatever was done to it
  for file in "$1" "$1".zst "$1".gz "$1".lz4 "$1".gpg "$1".*.gpg "$1".age "$1".*.age; do
    [ -f "$file" ] || continue
    packed=${file%.gpg} packed=${packed%.age}
    case "$packed" in
      *.zst) opened "$file" | zstd -dc --long=31 ;;
      *.gz) opened "$file" | gzip -dc ;;
      *.lz4) opened "$file" | lz4 -dc ;;
      *) opened "$file" ;;
    esac
    return
  done
  echo "there is no $1" >&2
  return 1
}
opened() {  # one stored file, decrypted if its ending says that it is encrypted
  case "$1" in
    *.gpg) gpg --quiet --decrypt "$1" ;;
    *.age)
      first=1 # archived WAL has a line of its own before what is age's
      if [ "$(head -c 6 "$1")" = dbops: ]; then first=2; fi
      tail -n +"$first" "$1" | age --decrypt --identity "$IDENTITY"
      ;;
    *) cat "$1" ;;
  esac
}
```

**If files are encrypted** (`backup.json` says `"encryption"` and, in `keys`, for whom): for `.gpg` import the private
key first (`gpg --import`), for `.age` set `IDENTITY` to the file of the private key. A wrong key says so.

**If a backup has a directory `rekeyed-1`** (or 2, 3, …) with a `backup.json` in it, it was encrypted anew: the highest
number counts, and `LABEL` is then for instance `20261122T130500Z-full/rekeyed-1`.

## Is it whole?

```sh check
# LABEL is the backup's directory name, for instance 20261122T130500Z-full
[ "$(ls backups/"$LABEL" | grep -vc '^backup\.json$')" = "$(grep -c '"kind":' backups/"$LABEL"/backup.json)" ] ||
  { echo "BAD   there are too few files, or too many"; exit 1; }
for file in backups/"$LABEL"/*; do
  [ "${file##*/}" = backup.json ] && continue
  sum=$(sha256sum "$file" | cut -d ' ' -f 1)
  grep -q "$sum" backups/"$LABEL"/backup.json && echo "good  $file" || { echo "BAD   $file"; exit 1; }
done
```

## A full physical backup (`…-full`)

`TARGET` is a new data directory that does not exist yet. Use PostgreSQL of the same major version.

```sh full
mkdir -m 700 "$TARGET"
plain backups/"$LABEL"/base.tar | tar -x -p -C "$TARGET"
plain backups/"$LABEL"/pg_wal.tar | tar -x -p -C "$TARGET"/pg_wal
plain backups/"$LABEL"/backup_manifest > "$TARGET"/backup_manifest
```

Tablespaces: `backup.json` names each one's `oid` and its old path. For each `<oid>.tar`:

```sh tablespace
# OID names the tar, SPACE is a new directory for it
mkdir -p -m 700 "$SPACE"
plain backups/"$LABEL"/"$OID".tar | tar -x -p -C "$SPACE"
ln -s "$SPACE" "$TARGET"/pg_tblspc/"$OID"
```

Then, with or without tablespaces, let PostgreSQL check the files. `tablespace_map` has to go: it would lead the server
to the old places, which another cluster may still be using; without the signal files it is a primary. The last line
tells dbops that this cluster has a history of its own: no incremental backup may rest on one from before.

```sh verify
pg_verifybackup --ignore tablespace_map "$TARGET"
rm -f "$TARGET"/tablespace_map "$TARGET"/standby.signal "$TARGET"/recovery.signal
echo '{"id": "by hand '"$(date -u +%Y%m%dT%H%M%SZ)"'"}' > "$TARGET"/dbops_restored.json
```

Start it: `pg_ctl -D "$TARGET" start`. Keep `backup_label` where it is: PostgreSQL needs it once and renames it.
On Debian the configuration lies outside the data directory: it is in `config.tar`, paths from the root.

## An incremental backup (`…-incr`, PostgreSQL 17 and later)

It needs its whole chain: `parent` in each `backup.json` leads back to the full one. `CHAIN` is that list of labels,
the full one first, this one last. `WORK` is an empty directory with room for all of them, and `SPACES` one for the
tablespaces, if there are any: each gets the directory of its oid there.

```sh incremental
parts= mapping=
for label in $CHAIN; do
  part=$WORK/$label mapping=
  mkdir -m 700 "$part"
  plain backups/"$label"/base.tar | tar -x -p -C "$part"
  plain backups/"$label"/backup_manifest > "$part"/backup_manifest
  for file in backups/"$label"/[0-9]*.tar*; do
    [ -e "$file" ] || continue
    oid=${file##*/} oid=${oid%%.*}
    mkdir -m 700 "$part.$oid"
    plain backups/"$label"/"$oid".tar | tar -x -p -C "$part.$oid"
    ln -s "$part.$oid" "$part"/pg_tblspc/"$oid"
    mapping="$mapping --tablespace-mapping=$part.$oid=$SPACES/$oid"
  done
  parts="$parts $part"
  last=$label
done
pg_combinebackup $parts --output "$TARGET" $mapping
plain backups/"$last"/pg_wal.tar | tar -x -p -C "$TARGET"/pg_wal
```

Verify and start it as a full one. When it runs, `WORK` can go.

## Archived WAL

To go further than the backup itself, have the server fetch WAL from here: before its first start make a script of this
and name it as `restore_command`. `SYSTEM` is the directory below `wal/` that `backup.json` has as `system_identifier`.

```sh wal
# SEGMENT is what PostgreSQL asks for (%f), OUTPUT where it wants it (%p)
case "$SEGMENT" in *.history) directory= ;; *) directory=$(echo "$SEGMENT" | cut -c 1-16)/ ;; esac
plain wal/"$SYSTEM"/"$directory$SEGMENT" > "$OUTPUT".part && mv "$OUTPUT".part "$OUTPUT"
```

An empty `recovery.signal` must lie in `TARGET`. See "Continuous Archiving and Point-in-Time Recovery" in PostgreSQL's
manual.

## A logical backup (`…-dump`)

One file per database, its name percent-encoded: `.dump` for pg_restore, `.sql` for psql, `.dir.tar` a directory for
pg_restore. Roles and tablespaces are in `globals.sql`.

```sh dump
# FILE is such a name without the decompressor's ending, NEW the name of a new database, for instance ride.dump
createdb --template template0 "$NEW"
case "$FILE" in
  *.dump) plain backups/"$LABEL"/"$FILE" | pg_restore --exit-on-error --dbname "$NEW" ;;
  *.sql) plain backups/"$LABEL"/"$FILE" | psql -X -q -v ON_ERROR_STOP=1 --dbname "$NEW" ;;
  *.dir.tar)
    mkdir "$WORK/dump"
    plain backups/"$LABEL"/"$FILE" | tar -x -C "$WORK/dump"
    pg_restore --exit-on-error --jobs 2 --dbname "$NEW" "$WORK/dump"
    ;;
esac
```

Roles first, if they are missing: `plain backups/"$LABEL"/globals.sql | psql -X --dbname postgres` (errors about roles
that exist already are expected).

## Afterwards

Look before you let applications in: count rows in the tables that matter, check the newest ones. Take a new full
backup at once, a full one: the recovered cluster has none.
"""


def recover_md(cluster: str) -> str:
    return _TEXT.replace("@CLUSTER@", cluster)
