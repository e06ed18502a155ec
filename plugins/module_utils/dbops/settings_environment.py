# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings from the environment, for CronJobs and containers: DBOPS_<SECTION>_<KEY>, and the names of older scripts.

What wins, from the strongest: an option of the command or the task, DBOPS_..., the settings file, an old name, the
default. An old name is the weakest on purpose: it may be a relic in somebody's profile.
"""

from __future__ import annotations

import json
import os
import re
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Optional, Union

from .errors import BadInput
from .schema import overlay

PREFIX = "DBOPS_"
_REPOSITORY = re.compile(r"DBOPS_REPOSITORIES_(\d{1,2})_(.+)", re.ASCII)
_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_BUCKETS = {"s3": "BACKUP_S3_BUCKET", "gcs": "BACKUP_GCS_BUCKET", "azure": "BACKUP_AZURE_CONTAINER"}
_OF_REPOSITORIES = ("BACKUP_STORAGE_TYPE", "BACKUP_S3_PREFIX", "BACKUP_DIR", *_BUCKETS.values())
OLD_TARGETS = {  # read by `dbops restore` alone, where no target is said
    "PITR_TARGET_TIME": "time",
    "PITR_TARGET_LSN": "lsn",
    "PITR_TARGET_XID": "xid",
    "PITR_TARGET_NAME": "name",
    "PITR_TARGET_TIMELINE": "timeline",
    "PITR_TARGET_ACTION": "action",
}
_KINDS_OF_TARGET = ("time", "lsn", "xid", "name")
OLD_NAMES = (*_OF_REPOSITORIES, "BACKUP_GPG_RECIPIENT", "PITR_RETENTION_DAYS", *OLD_TARGETS, "PITR_TARGET_INCLUSIVE")

Path = tuple[Union[str, int], ...]


@dataclass(frozen=True)
class Given:
    """One setting that a variable gives."""

    path: Path
    value: Any
    variable: str


def laid_in(kind: type[Any], data: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """A settings file's content with the environment's settings in their places; `kind` is the dataclass of all."""
    return _laid(_laid({}, old_settings(data, environment), data), new_settings(kind, environment))


def sources(kind: type[Any], data: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, str]:
    """Which variable each setting comes from, by its dotted path; what is not named is the file's, or a default."""
    given = [*old_settings(data, environment), *new_settings(kind, environment)]
    return {dotted(item.path): item.variable for item in given}


def old_target(environment: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """A recovery target that PITR_TARGET_... names, and which variables do; nothing without a kind of target."""
    said = {name: environment[name] for name in (*OLD_TARGETS, "PITR_TARGET_INCLUSIVE") if environment.get(name)}
    given: dict[str, Any] = {OLD_TARGETS[name]: text for name, text in said.items() if name in OLD_TARGETS}
    if not any(kind in given for kind in _KINDS_OF_TARGET):
        return {}, []
    if "PITR_TARGET_INCLUSIVE" in said:
        given["inclusive"] = _converted(bool, said["PITR_TARGET_INCLUSIVE"], "PITR_TARGET_INCLUSIVE")
    return given, sorted(said)


def not_understood(environment: Mapping[str, str]) -> list[str]:
    """Variables that look like those of the older scripts, and mean nothing here."""
    return sorted(name for name in environment if name.startswith("PITR_") and name not in OLD_NAMES)


def dotted(path: Path) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def variables(kind: type[Any]) -> dict[str, tuple[Path, Any]]:
    """Each variable's path and type. Repositories are numbered: DBOPS_REPOSITORIES_0_S3_BUCKET is not in here."""
    return {
        PREFIX + "_".join(map(str, path)).upper(): (path, hint)
        for path, hint in _leaves(kind, ())
        if path != ("cluster",)  # DBOPS_CLUSTER says which cluster is meant, see cli/door.py
    }


def new_settings(kind: type[Any], environment: Mapping[str, str]) -> list[Given]:
    if not any(name.startswith(PREFIX) for name in environment):
        return []  # archive_command and restore_command come by here for each file that no worker has dealt with
    known = variables(kind)
    repository = _element(known[f"{PREFIX}REPOSITORIES"][1])
    of_repository = variables(repository)
    sections = tuple(f"{PREFIX}{item.name.upper()}_" for item in fields(kind) if item.name != "cluster")
    given = []
    for name in sorted(environment, key=_in_order):
        numbered = _REPOSITORY.fullmatch(name)
        if name in known:
            path, hint = known[name]
        elif numbered and PREFIX + numbered[2] in of_repository:
            below, hint = of_repository[PREFIX + numbered[2]]
            path = ("repositories", int(numbered[1]), *below)
        elif name.startswith(sections):
            raise BadInput(
                f"{name} names no setting.", hint="See dbops config and docs/operations.md; mend or unset it."
            )
        else:
            continue
        given.append(Given(path, _converted(hint, environment[name], name), name))
    return given


def old_settings(data: Mapping[str, Any], environment: Mapping[str, str]) -> list[Given]:
    """What the names of older scripts say, where the settings file says nothing."""
    given: list[Given] = []
    if not data.get("repositories"):
        given += _old_repository(environment)
    recipient = environment.get("BACKUP_GPG_RECIPIENT")
    if recipient and not data.get("encryption"):
        home = environment.get("GNUPGHOME") or os.path.join(os.path.expanduser("~"), ".gnupg")
        section = {"method": "gpg", "recipients": [recipient], "homedir": home}
        given += [Given(("encryption", key), value, "BACKUP_GPG_RECIPIENT") for key, value in section.items()]
    days = environment.get("PITR_RETENTION_DAYS")
    if days and not data.get("retention"):
        if not days.isdigit():
            raise BadInput(f"PITR_RETENTION_DAYS must be a whole number, got {days!r}.", hint="Write 14.")
        given.append(Given(("retention", "keep_within"), f"{days}d", "PITR_RETENTION_DAYS"))
    return given


# -- below: how


def _old_repository(environment: Mapping[str, str]) -> Iterator[Given]:
    said = {name: environment[name] for name in _OF_REPOSITORIES if environment.get(name)}
    if not said:
        return
    kind = said.get("BACKUP_STORAGE_TYPE") or _only_kind(said)
    named = {**_BUCKETS, "local": "BACKUP_DIR"}
    if kind not in named:
        raise BadInput(
            f"BACKUP_STORAGE_TYPE cannot be {kind!r}.", hint=f"Choose one of: {', '.join(sorted(named))}; or unset it."
        )
    variable = named[kind]
    if variable not in said:
        raise BadInput(f"The storage is {kind}, and {variable} is not set.", hint=f"Set {variable}.")
    yield Given(("repositories", 0, "type"), kind, "BACKUP_STORAGE_TYPE" if "BACKUP_STORAGE_TYPE" in said else variable)
    key = {"azure": "container", "local": "path"}.get(kind, "bucket")
    where: Path = ("path",) if kind == "local" else (kind, key)
    yield Given(("repositories", 0, *where), said[variable], variable)
    if kind == "s3" and said.get("BACKUP_S3_PREFIX", "").strip("/"):
        yield Given(("repositories", 0, "s3", "prefix"), said["BACKUP_S3_PREFIX"].strip("/"), "BACKUP_S3_PREFIX")


def _only_kind(said: Mapping[str, str]) -> str:
    kinds = [kind for kind, name in (*_BUCKETS.items(), ("local", "BACKUP_DIR")) if name in said]
    if len(kinds) == 1:
        return kinds[0]
    raise BadInput(
        f"{', '.join(sorted(said))} do not say where backups go.",
        hint="Set BACKUP_STORAGE_TYPE, or write a settings file.",
    )


def _laid(below: Mapping[str, Any], given: list[Given], above: Optional[Mapping[str, Any]] = None) -> dict[str, Any]:
    laid = dict(below)
    for item in given:
        laid = _placed(laid, item.path, item)
    return overlay(laid, above) if above is not None else laid


def _placed(value: Any, path: Path, item: Given) -> Any:
    if not path:
        return item.value
    part, rest = path[0], path[1:]
    if isinstance(part, int):
        held = list(value or ())
        if part > len(held):
            raise BadInput(
                f"{item.variable} is about repository number {part}, and there are {len(held)}.",
                hint="Number them from 0, without a gap.",
            )
        held[part : part + 1] = [_placed(held[part] if part < len(held) else {}, rest, item)]
        return held
    return {**(value or {}), part: _placed((value or {}).get(part), rest, item)}


def _in_order(name: str) -> tuple[bool, int, str]:
    """DBOPS_REPOSITORIES, which is all of them, before what changes one; those by number."""
    numbered = _REPOSITORY.fullmatch(name)
    return (numbered is not None, int(numbered[1]) if numbered else 0, name)


def _leaves(kind: type[Any], path: Path) -> Iterator[tuple[Path, Any]]:
    hints = typing.get_type_hints(kind)
    for item in fields(kind):
        hint = _not_none(hints[item.name])
        if isinstance(hint, type) and is_dataclass(hint):
            yield from _leaves(hint, (*path, item.name))
        else:
            yield (*path, item.name), hint


def _not_none(hint: Any) -> Any:
    return typing.get_args(hint)[0] if typing.get_origin(hint) is Union else hint


def _element(hint: Any) -> Any:
    return typing.get_args(hint)[0]


def _converted(hint: Any, text: str, variable: str) -> Any:
    """The text as a settings file would have it. No message shows it: it may be a secret in the wrong place."""
    if hint is str:
        return text
    if hint is int:
        if re.fullmatch(r"-?\d+", text.strip(), re.ASCII):
            return int(text)
        raise BadInput(f"{variable} must be a whole number.", hint="Mend or unset it.")
    if hint is bool:
        if text.strip().lower() in _WORDS:
            return _WORDS[text.strip().lower()]
        raise BadInput(f"{variable} must be true or false.", hint="Mend or unset it.")
    is_list = typing.get_origin(hint) is tuple
    if is_list and _element(hint) is str and not text.lstrip().startswith("["):
        return [word.strip() for word in text.split(",") if word.strip()]
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, list if is_list else dict):
        raise BadInput(f"{variable} must be {'a list' if is_list else 'an object'} in JSON.", hint="Mend or unset it.")
    return value
