"""The rows of a version: how it is copied from its parent, and how shots become part of it; inside a transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict
from typing import Literal, get_args

from adapters.class_tables import now
from adapters.classes import ClassAttributes, Shot
from adapters.crops import crop_hash
from adapters.encoder import stored

Relation = Literal["taught", "negative"]  # what a shot shows, and what it does not


def copy_version(db: sqlite3.Connection, parent: int, reason: str) -> int:
    """Make a version that is as its parent, and the active one; return its number."""
    version = int(
        db.execute("INSERT INTO version (created, parent, reason) VALUES (?, ?, ?)", (now(), parent, reason)).lastrowid
        or 0
    )
    make_active(db, version)
    db.execute(
        "INSERT INTO class SELECT ?, name, attributes FROM class WHERE version = ? ORDER BY rowid", (version, parent)
    )
    for relation in get_args(Relation):
        copied = f"INSERT INTO {relation} SELECT ?, name, shot FROM {relation} WHERE version = ?"  # noqa: S608  # ours
        db.execute(copied, (version, parent))
    return version


def make_active(db: sqlite3.Connection, version: int) -> None:
    """Put a version in force."""
    db.execute("UPDATE active SET version = ?", (version,))


def set_class(db: sqlite3.Connection, version: int, attributes: ClassAttributes) -> None:
    """Give a version a class, or a class of it these attributes."""
    db.execute(
        "INSERT INTO class VALUES (?, ?, ?) ON CONFLICT (version, name) DO UPDATE SET attributes = excluded.attributes",
        (version, attributes.name, json.dumps(asdict(attributes))),
    )


def add_shots(
    db: sqlite3.Connection, version: int, relation: Relation, name: str, shots: Sequence[Shot], encoder: str
) -> None:
    """Add shots that one encoder saw to what a class of a version is, or is not."""
    for shot in shots:
        crop = None if shot.crop is None else crop_hash(shot.crop)
        row = db.execute(
            "INSERT INTO shot (encoder, tokens, tok, glob, crop_sha256, origin, created) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (encoder, *stored(shot.features), crop, shot.source, now()),
        ).lastrowid
        db.execute(f"INSERT INTO {relation} VALUES (?, ?, ?)", (version, name, row))  # noqa: S608  # ours
