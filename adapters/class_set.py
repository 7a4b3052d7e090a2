"""What a site has been taught, as versions: a new one is a new value, swapped whole, and old ones stay.

Rows hold attributes and features; the crops lie beside as files (`crops.py`).
"""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np

from adapters.class_rows import Relation, add_shots, copy_version, make_active, set_class
from adapters.class_tables import FILE, open_tables, told_if_damaged
from adapters.classes import ClassAttributes, ClassSet, KeptShot, Shot, VersionRecord, check_taught
from adapters.classifier import NONE, Classifier
from adapters.crops import Crops
from adapters.database import transaction
from adapters.encoder import Features, joined, stored
from adapters.errors import ConfigError, DamagedError, StoreError
from adapters.runtime import STARTER
from adapters.starter import read_starter

CROPS = "crops"
Taught = Mapping[ClassAttributes, Sequence[Shot]]


class ClassSetStore:
    """The versions of one state folder."""

    def __init__(self, state_dir: Path, *, in_memory: bool = False) -> None:
        """Open or make the store, or a copy of it in memory, whose changes are forgotten.

        Raises:
            DamagedError: the file is no class store.
            StoreError: the folder can't be written, or the store is of a newer format.
        """
        try:
            self._crops = Crops(state_dir / CROPS)
            self._db = open_tables(state_dir, in_memory=in_memory)
        except (OSError, sqlite3.OperationalError) as error:  # read-only, full, locked: the file itself is sound
            raise StoreError(f"{state_dir / FILE}: can't be opened as a class store ({error})") from None
        except sqlite3.Error as error:
            raise DamagedError(f"{state_dir / FILE}: can't be opened as a class store ({error})") from None

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @told_if_damaged
    def active_version(self) -> int:
        """Return the number of the version in use; cheap enough to be asked many times a second."""
        (version,) = self._db.execute("SELECT version FROM active").fetchone()
        return int(version)

    @told_if_damaged
    def seed(self, models: Path, encoder_hash: str) -> None:
        """Fill a store in which nothing was ever taught with a model's starter class set; else do nothing."""
        if self._versions_made() != 1 or not (models / STARTER).exists():
            return
        classes = read_starter(models, encoder_hash)
        with transaction(self._db, FILE):
            if self._versions_made() == 1:
                self._add(classes, parent=1, encoder=encoder_hash, reason="starter class set")

    @told_if_damaged
    def rebuild(self, classifier: Classifier) -> int:
        """Encode anew what another encoder made, from the kept crops or the starter file; return how many shots.

        What has neither stays as it is, and `load` refuses it by name.
        """
        stale = self._db.execute(
            "SELECT shot.id, crop_sha256, min(name) FROM shot "
            "JOIN (SELECT name, shot FROM taught UNION SELECT name, shot FROM negative) AS used ON shot.id = used.shot "
            "WHERE encoder != ? GROUP BY shot.id ORDER BY shot.id",
            (classifier.encoder_hash,),
        ).fetchall()
        if not stale:
            return 0
        fresh: dict[str, list[Shot]] = {}
        if any(crop is None for _, crop, _ in stale):
            starter = read_starter(classifier.folder, classifier.encoder_hash)
            fresh = {attributes.name: list(shots) for attributes, shots in starter.items()}
        encoded = []
        for number, crop, name in stale:
            picture = self._crops.picture(crop)
            if picture is not None:
                encoded.append((number, classifier.encode.shots([picture])[0]))
            elif crop is None and fresh.get(name):
                encoded.append((number, fresh[name].pop(0).features))
        with transaction(self._db, FILE):
            self._db.executemany(
                "UPDATE shot SET encoder = ?, tokens = ?, tok = ?, glob = ? WHERE id = ?",
                [(classifier.encoder_hash, *stored(features), number) for number, features in encoded],
            )
        return len(encoded)

    def _versions_made(self) -> int:
        return int(self._db.execute("SELECT max(id) FROM version").fetchone()[0])

    @told_if_damaged
    def teach(self, attributes: ClassAttributes, shots: Sequence[Shot], encoder_hash: str, *, live: bool = True) -> str:
        """Add shots to a class, new or known, and make the resulting version the active one where it is to be `live`.

        Returns:
            The name of the new version.
        """
        return self.teach_all({attributes: shots}, encoder_hash, reason=f"taught {attributes.name}", live=live)

    @told_if_damaged
    def teach_all(
        self,
        classes: Taught,
        encoder_hash: str,
        *,
        reason: str,
        negatives: Mapping[str, Sequence[Shot]] = MappingProxyType({}),
        live: bool = True,
    ) -> str:
        """Add shots to several classes, new or known, and to what is none of them, as one version; return its name.

        Args:
            classes: attributes -> what shows the class.
            encoder_hash: what made the features.
            reason: what the list of versions says.
            negatives: name of a class -> what is not of it.
            live: False to keep the version without making it active.
        """
        with transaction(self._db, FILE):
            self._keep(itertools.chain(*classes.values(), *negatives.values()))
            parent = self.active_version()
            version = self._add(classes, parent=parent, encoder=encoder_hash, reason=reason)
            for name, shots in negatives.items():
                add_shots(self._db, version, "negative", name, shots, encoder_hash)
            if not live:
                make_active(self._db, parent)
        return _name(version)

    @told_if_damaged
    def call(self, name: str, display_name: str | None) -> str:
        """Make a version the active one in which people read a class under another name; return the version's name.

        Raises:
            ConfigError: no such class is taught.
        """
        with transaction(self._db, FILE):
            _check_known([name], self.class_names())
            attributes = replace(self.attributes()[name], display_name=display_name)
            version = copy_version(self._db, self.active_version(), f"called {name} {display_name or name}")
            set_class(self._db, version, attributes)
        return _name(version)

    @told_if_damaged
    def refute(self, name: str, shots: Sequence[Shot], encoder_hash: str, *, live: bool = True) -> str:
        """Add what is not of a class, or no animal at all where the name is `none`; return the new version's name."""
        reason = "said what is no animal" if name == NONE else f"said what is no {name}"
        return self.teach_all({}, encoder_hash, reason=reason, negatives={name: shots}, live=live)

    @told_if_damaged
    def take_back(self, crop: str) -> str:
        """Make a version without a negative the active one.

        Raises:
            ConfigError: the active version has no such negative.
        """
        with transaction(self._db, FILE):
            version = copy_version(self._db, self.active_version(), "took back what something is not")
            gone = self._db.execute(
                "DELETE FROM negative WHERE version = ? AND shot IN (SELECT id FROM shot WHERE crop_sha256 = ?)",
                (version, crop),
            ).rowcount
            if not gone:
                raise ConfigError("that was not said, or is taken back already")
        return _name(version)

    @told_if_damaged
    def forget(self, name: str) -> str:
        """Make a version without the class the active one.

        Raises:
            ConfigError: no such class is taught.
        """
        with transaction(self._db, FILE):
            parent = self.active_version()
            check_taught(name, self.class_names())
            version = copy_version(self._db, parent, f"forgot {name}")
            self._db.execute("DELETE FROM taught WHERE version = ? AND name = ?", (version, name))
            self._db.execute("DELETE FROM negative WHERE version = ? AND name = ?", (version, name))
            self._db.execute("DELETE FROM class WHERE version = ? AND name = ?", (version, name))
        self._delete_orphans()
        return _name(version)

    @told_if_damaged
    def rollback(self, version: str | None = None) -> str:
        """Make an older version the active one again: the named one, or the parent of the active one.

        Raises:
            ConfigError: there is no such version.
        """
        with transaction(self._db, FILE):
            active = self.active_version()
            target = (
                self._db.execute("SELECT parent FROM version WHERE id = ?", (active,)).fetchone()[0]
                if version is None
                else _number(version)
            )
            if target is None or not self._db.execute("SELECT 1 FROM version WHERE id = ?", (target,)).fetchone():
                raise ConfigError(
                    f"no version {version or f'before {_name(active)}'}; `wildlane classes list` shows what there is"
                )
            make_active(self._db, target)
        return _name(target)

    @told_if_damaged
    def class_names(self) -> tuple[str, ...]:
        """Return the names of the classes of the active version."""
        rows = self._db.execute("SELECT name FROM class WHERE version = ? ORDER BY rowid", (self.active_version(),))
        return tuple(name for (name,) in rows)

    @told_if_damaged
    def attributes(self) -> dict[str, ClassAttributes]:
        """Return the attributes of the classes of the active version."""
        return self._attributes(self.active_version())

    @told_if_damaged
    def versions(self) -> list[VersionRecord]:
        """Return all versions, oldest first."""
        active = self.active_version()
        return [
            VersionRecord(
                version=_name(number),
                created=created,
                parent=None if parent is None else _name(parent),
                reason=reason,
                classes=tuple(
                    name
                    for (name,) in self._db.execute(
                        "SELECT name FROM class WHERE version = ? ORDER BY rowid", (number,)
                    )
                ),
                active=number == active,
            )
            for number, created, parent, reason in self._db.execute(
                "SELECT id, created, parent, reason FROM version ORDER BY id"
            ).fetchall()
        ]

    @told_if_damaged
    def load(
        self, classifier: Classifier, only: Sequence[str] | None = None, *, version: str | None = None
    ) -> ClassSet:
        """Return a version as inputs of match.onnx: the active one, or the named one.

        Args:
            classifier: its adapt.onnx makes the class memory.
            only: load just these classes.
            version: such as cs-3.

        Raises:
            ConfigError: a class of `only` is not taught.
            StoreError: a shot was encoded by another encoder and its crop is not there to encode it again.
        """
        with self._snapshot():
            number = self.active_version() if version is None else _number(version)
            attributes = self._attributes(number)
            _check_known(only, tuple(attributes))
            wanted = {name: value for name, value in attributes.items() if only is None or name in only}
            supports = {name: joined(self._features(number, name, classifier)) for name in wanted}
            negatives = self._negatives(number, classifier)
        return ClassSet(_name(number), wanted, classifier.adapt(supports, negatives))

    @told_if_damaged
    def shots(self, classifier: Classifier) -> dict[str, list[Features]]:
        """Return the features of each shot of each class of the active version."""
        version = self.active_version()
        return {name: self._features(version, name, classifier) for name in self._attributes(version)}

    @told_if_damaged
    def negatives(self, classifier: Classifier) -> dict[str, list[Features]]:
        """Return the features of what is not of each class of the active version; of no animal under `none`."""
        return self._negatives(self.active_version(), classifier)

    def _negatives(self, version: int, classifier: Classifier) -> dict[str, list[Features]]:
        rows = self._db.execute("SELECT DISTINCT name FROM negative WHERE version = ? ORDER BY name", (version,))
        return {name: self._features(version, name, classifier, "negative") for (name,) in rows.fetchall()}

    @told_if_damaged
    def refuted(self) -> dict[str, list[tuple[str, str, str]]]:
        """Return (crop, source, created) of each negative of the active version by what it is not."""
        found: dict[str, list[tuple[str, str, str]]] = {}
        for name, *row in self._db.execute(
            "SELECT name, crop_sha256, origin, created FROM shot JOIN negative ON shot.id = negative.shot "
            "WHERE version = ? ORDER BY name, shot.id",
            (self.active_version(),),
        ):
            found.setdefault(name, []).append((row[0], row[1], row[2]))
        return found

    @told_if_damaged
    def kept(self, classifier: Classifier, only: Sequence[str] | None = None) -> dict[ClassAttributes, list[KeptShot]]:
        """Return the classes of the active version, or just those of `only`, with all that is kept of their shots.

        Raises:
            ConfigError: a class of `only` is not taught.
        """
        with self._snapshot():
            version = self.active_version()
            attributes = self._attributes(version)
            _check_known(only, tuple(attributes))
            return {
                attributes[name]: self._kept(version, name, classifier)
                for name in attributes
                if only is None or name in only
            }

    @told_if_damaged
    def kept_negatives(self, classifier: Classifier, names: Iterable[str]) -> dict[str, list[KeptShot]]:
        """Return all that is kept of what is not of each named class of the active version; `none` is a name here."""
        with self._snapshot():
            version = self.active_version()
            kept = {name: self._kept(version, name, classifier, "negative") for name in names}
        return {name: shots for name, shots in kept.items() if shots}

    def crop(self, name: str) -> bytes | None:
        """Return the PNG of a kept crop; None where there is none of that name."""
        return self._crops.png(name)

    def _kept(self, version: int, name: str, classifier: Classifier, relation: Relation = "taught") -> list[KeptShot]:
        rows = self._db.execute(
            f"SELECT crop_sha256, origin, created FROM shot JOIN {relation} AS used ON shot.id = used.shot "  # noqa: S608  # one of two names of ours
            "WHERE version = ? AND name = ? ORDER BY shot.id",
            (version, name),
        ).fetchall()
        seen = self._features(version, name, classifier, relation)
        return [
            KeptShot(features=features, crop=crop, png=self._crops.png(crop), source=source, created=created)
            for features, (crop, source, created) in zip(seen, rows, strict=True)
        ]

    def _attributes(self, version: int) -> dict[str, ClassAttributes]:
        rows = self._db.execute("SELECT name, attributes FROM class WHERE version = ? ORDER BY rowid", (version,))
        return {name: ClassAttributes(**json.loads(stored)) for name, stored in rows}

    def _features(
        self, version: int, name: str, classifier: Classifier, relation: Relation = "taught"
    ) -> list[Features]:
        rows = self._db.execute(
            f"SELECT encoder, tokens, tok, glob, crop_sha256 FROM shot JOIN {relation} AS used ON shot.id = used.shot "  # noqa: S608  # one of two names of ours
            "WHERE version = ? AND name = ? ORDER BY shot.id",
            (version, name),
        ).fetchall()
        return [self._shot_features(name, classifier, *row) for row in rows]

    def _shot_features(
        self, name: str, classifier: Classifier, encoder: str, tokens: int, tok: bytes, glob: bytes, crop: str | None
    ) -> Features:
        if encoder == classifier.encoder_hash:
            pooled = np.frombuffer(glob, np.float32).reshape(-1, len(classifier.knowledge.mu))
            features = Features(
                np.frombuffer(tok, np.float16).astype(np.float32).reshape(len(pooled), tokens, -1), pooled
            )
            if np.isfinite(features.tok).all() and np.isfinite(features.glob).all():
                return features
            if crop is None:
                raise ValueError(f"a shot of class '{name}' is no number")
        picture = self._crops.picture(crop)
        if picture is None:
            raise StoreError(
                f"class '{name}' was taught with another encoder ({encoder}) and its crop is not kept: "
                "forget the class and teach it again"
            )
        return classifier.encode.shots([picture])[0]

    def _add(self, classes: Taught, *, parent: int, encoder: str, reason: str) -> int:
        version = copy_version(self._db, parent, reason)
        for attributes, shots in classes.items():
            set_class(self._db, version, attributes)
            add_shots(self._db, version, "taught", attributes.name, shots, encoder)
        return version

    def _keep(self, shots: Iterable[Shot]) -> None:
        for shot in shots:
            if shot.crop is not None:
                self._crops.keep(shot.crop)

    def _delete_orphans(self) -> None:
        """Erase shots and crops that no version names: a class forgotten in every version is gone for good."""
        with transaction(self._db, FILE):
            used = "SELECT shot FROM taught UNION SELECT shot FROM negative"
            self._db.execute(f"DELETE FROM shot WHERE id NOT IN ({used})")  # noqa: S608
        self._crops.delete_others({crop for (crop,) in self._db.execute("SELECT crop_sha256 FROM shot")})

    @contextmanager
    def _snapshot(self) -> Iterator[None]:
        """All reads inside see one state, whatever another process commits meanwhile."""
        self._db.execute("BEGIN")
        try:
            yield
        finally:
            self._db.execute("COMMIT")


def _check_known(only: Sequence[str] | None, names: tuple[str, ...]) -> None:
    for name in only or ():
        if name not in names:
            raise ConfigError(f"class '{name}' is not taught; there are: {', '.join(names) or 'none'}")


def _name(version: int) -> str:
    return f"cs-{version}"


def _number(version: str) -> int:
    try:
        number = int(version.removeprefix("cs-"))
    except ValueError:
        number = 0
    if not 0 < number < 2**63:
        raise ConfigError(f"version '{version}': expected a name such as cs-3")
    return number
