"""The rows of class sets: how a version is made from its parent, changed, and read.

What changes rows is called inside a transaction, and `seal` comes last in it.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Literal, get_args

import numpy as np

from adapters.class_tables import now
from adapters.classes import ClassAttributes, KeptShot, Shot
from adapters.classifier import Classifier
from adapters.crops import Crops, crop_hash
from adapters.encoder import Features, stored
from adapters.errors import StoreError
from adapters.provenance import COLUMNS, Provenance

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


def without_shots(db: sqlite3.Connection, parent: int, shots: Sequence[int], reason: str) -> int:
    """Make a version without these shots, and without classes that lose all, the active one; return its number.

    A parent that has none of them is returned itself.
    """
    used = {shot for relation in get_args(Relation) for shot in _shots_of(db, parent, relation)}
    if not used.intersection(shots):
        return parent
    version = copy_version(db, parent, reason)
    for relation in get_args(Relation):
        dropped = f"DELETE FROM {relation} WHERE version = ? AND shot = ?"  # noqa: S608  # ours
        db.executemany(dropped, [(version, shot) for shot in shots])
    left = "SELECT name FROM taught WHERE version = class.version"
    db.execute(f"DELETE FROM class WHERE version = ? AND name NOT IN ({left})", (version,))  # noqa: S608  # ours
    return version


def _shots_of(db: sqlite3.Connection, version: int, relation: Relation) -> list[int]:
    rows = db.execute(f"SELECT shot FROM {relation} WHERE version = ?", (version,))  # noqa: S608  # ours
    return [shot for (shot,) in rows]


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
        values = (encoder, *stored(shot.features), crop, shot.source, now(), *shot.provenance.row())
        row = db.execute(
            f"INSERT INTO shot (encoder, tokens, tok, glob, crop_sha256, origin, created, {COLUMNS}) "  # noqa: S608  # ours
            f"VALUES ({', '.join('?' * len(values))})",
            values,
        ).lastrowid
        db.execute(f"INSERT INTO {relation} VALUES (?, ?, ?)", (version, name, row))  # noqa: S608  # ours


def take_out(db: sqlite3.Connection, version: int, relation: Relation, crop: str, name: str | None = None) -> int:
    """Take a crop out of what a class of a version is, or is not; of every class without a name; return how many."""
    return db.execute(
        f"DELETE FROM {relation} WHERE version = ? AND name = coalesce(?, name) "  # noqa: S608  # ours
        "AND shot IN (SELECT id FROM shot WHERE crop_sha256 = ?)",
        (version, name, crop),
    ).rowcount


def erase_class(db: sqlite3.Connection, name: str) -> None:
    """Take a class out of every version, with the shots that nothing else uses; the versions tell it."""
    with_it = "SELECT version FROM class WHERE name = ?"
    db.execute(
        f"UPDATE version SET reason = reason || ?, sha256 = NULL WHERE id IN ({with_it})",  # noqa: S608  # ours
        (f"; {name} was forgotten later", name),
    )
    for table in (*get_args(Relation), "class"):
        db.execute(f"DELETE FROM {table} WHERE name = ?", (name,))  # noqa: S608  # ours
    db.execute("DELETE FROM shot WHERE id NOT IN (SELECT shot FROM taught UNION SELECT shot FROM negative)")


def seal(db: sqlite3.Connection) -> None:
    """Give each version that has none yet the SHA-256 over its classes, what shows them, and what they are not.

    A shot counts by its crop, or by its features where none is kept, and by its encoder, source and provenance; not by
    when it came, nor by its number: the same content has the same hash at every site.
    """
    for (shot,) in db.execute("SELECT id FROM shot WHERE sha256 IS NULL").fetchall():
        query = f"SELECT encoder, crop_sha256, origin, tok, glob, {COLUMNS} FROM shot WHERE id = ?"  # noqa: S608  # ours
        encoder, crop, source, tok, glob, *provenance = db.execute(query, (shot,)).fetchone()
        seen = crop or hashlib.sha256(tok + glob).hexdigest()
        known = Provenance.of_row(provenance).known()
        digest = _sha256({"encoder": encoder, "seen": seen, "source": source, **known})
        db.execute("UPDATE shot SET sha256 = ? WHERE id = ?", (digest, shot))
    for (version,) in db.execute("SELECT id FROM version WHERE sha256 IS NULL").fetchall():
        classes = {name: asdict(one) for name, one in attributes_of(db, version).items()}
        content = {"classes": classes, **{relation: _digests(db, version, relation) for relation in get_args(Relation)}}
        db.execute("UPDATE version SET sha256 = ? WHERE id = ?", (_sha256(content), version))


def is_sealed(db: sqlite3.Connection) -> bool:
    """Tell whether every version has its hash: those of an older format have none."""
    return db.execute("SELECT 1 FROM version WHERE sha256 IS NULL").fetchone() is None


def shots_of_others(db: sqlite3.Connection, encoder: str) -> list[tuple[int, str | None, str]]:
    """Return (number, crop, class) of the shots that another encoder made."""
    return db.execute(
        "SELECT shot.id, crop_sha256, min(name) FROM shot "
        "JOIN (SELECT name, shot FROM taught UNION SELECT name, shot FROM negative) AS used ON shot.id = used.shot "
        "WHERE encoder != ? GROUP BY shot.id ORDER BY shot.id",
        (encoder,),
    ).fetchall()


def encode_anew(db: sqlite3.Connection, encoded: Sequence[tuple[int, Features]], encoder: str) -> None:
    """Give shots the features of another encoder; with them and all versions goes their hash."""
    db.executemany(
        "UPDATE shot SET encoder = ?, tokens = ?, tok = ?, glob = ?, sha256 = NULL WHERE id = ?",
        [(encoder, *stored(features), number) for number, features in encoded],
    )
    db.execute("UPDATE version SET sha256 = NULL")


def _digests(db: sqlite3.Connection, version: int, relation: Relation) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, digest in db.execute(
        f"SELECT name, sha256 FROM shot JOIN {relation} AS used ON shot.id = used.shot "  # noqa: S608  # ours
        "WHERE version = ? ORDER BY name, sha256",
        (version,),
    ):
        found.setdefault(name, []).append(digest)
    return found


def _sha256(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def attributes_of(db: sqlite3.Connection, version: int) -> dict[str, ClassAttributes]:
    """Return the classes of a version in their order."""
    rows = db.execute("SELECT name, attributes FROM class WHERE version = ? ORDER BY rowid", (version,))
    return {name: ClassAttributes(**json.loads(stored)) for name, stored in rows}


def names_of(db: sqlite3.Connection, version: int | None = None) -> tuple[str, ...]:
    """Return the names of the classes of a version in their order, or of all versions."""
    rows = db.execute(
        "SELECT name FROM class WHERE version = coalesce(?, version) GROUP BY name ORDER BY min(rowid)", (version,)
    )
    return tuple(name for (name,) in rows)


def crops_of(db: sqlite3.Connection, version: int, name: str, relation: Relation = "taught") -> list[str | None]:
    """Return the crop of each shot of what a class of a version is, or is not; None where it is not kept."""
    return [crop for (crop,) in _shots(db, "crop_sha256", version, name, relation)]


def _shots(db: sqlite3.Connection, columns: str, version: int, name: str, relation: Relation) -> list[tuple[Any, ...]]:
    """Return columns of each shot of what a class of a version is, or is not, oldest first."""
    return db.execute(
        f"SELECT {columns} FROM shot JOIN {relation} AS used ON shot.id = used.shot "  # noqa: S608  # ours
        "WHERE version = ? AND name = ? ORDER BY shot.id",
        (version, name),
    ).fetchall()


def features_of(
    db: sqlite3.Connection,
    crops: Crops,
    version: int,
    name: str,
    classifier: Classifier,
    relation: Relation = "taught",
) -> list[Features]:
    """Return the features of each shot of what a class of a version is, or is not.

    Raises:
        StoreError: another encoder made one, and its crop is not there to encode it again.
    """
    rows = _shots(db, "encoder, tokens, tok, glob, crop_sha256", version, name, relation)
    return [_shot_features(crops, name, classifier, *row) for row in rows]


def _shot_features(
    crops: Crops,
    name: str,
    classifier: Classifier,
    encoder: str,
    tokens: int,
    tok: bytes,
    glob: bytes,
    crop: str | None,
) -> Features:
    if encoder == classifier.encoder_hash:
        pooled = np.frombuffer(glob, np.float32).reshape(-1, len(classifier.knowledge.mu))
        features = Features(np.frombuffer(tok, np.float16).astype(np.float32).reshape(len(pooled), tokens, -1), pooled)
        if np.isfinite(features.tok).all() and np.isfinite(features.glob).all():
            return features
        if crop is None:
            raise ValueError(f"a shot of class '{name}' is no number")
    picture = crops.picture(crop)
    if picture is None:
        raise StoreError(
            f"class '{name}' was taught with another encoder ({encoder}) and its crop is not kept: "
            "forget the class and teach it again"
        )
    return classifier.encode.shots([picture])[0]


def kept_of(
    db: sqlite3.Connection,
    crops: Crops,
    version: int,
    name: str,
    classifier: Classifier,
    relation: Relation = "taught",
) -> list[KeptShot]:
    """Return all that is kept of what a class of a version is, or is not."""
    rows = _shots(db, f"crop_sha256, origin, created, {COLUMNS}", version, name, relation)
    seen = features_of(db, crops, version, name, classifier, relation)
    return [
        KeptShot(
            features=features,
            crop=crop,
            png=crops.png(crop),
            source=source,
            created=created,
            provenance=Provenance.of_row(provenance),
        )
        for features, (crop, source, created, *provenance) in zip(seen, rows, strict=True)
    ]
