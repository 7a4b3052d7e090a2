"""What a site has been taught, as versions: a new one is a new value, swapped whole, and old ones stay.

Rows hold attributes and features; the crops lie beside as files (`crops.py`).
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from adapters.class_rows import (
    add_shots,
    attributes_of,
    copy_version,
    crops_of,
    encode_anew,
    erase_class,
    features_of,
    is_sealed,
    kept_of,
    make_active,
    names_of,
    seal,
    set_class,
    shots_of_others,
    take_out,
    without_shots,
)
from adapters.class_tables import FILE, open_tables, told_if_damaged
from adapters.classes import (
    ClassAttributes,
    ClassSet,
    KeptShot,
    Shot,
    VersionRecord,
    check_names,
    check_taught,
    crop_named,
    settled,
)
from adapters.classifier import NONE, Classifier
from adapters.crops import Crops
from adapters.database import closed_if_unusable, transaction
from adapters.encoder import Features, joined
from adapters.errors import ConfigError, DamagedError, StoreError
from adapters.reencoding import REASON, Rebuilt, encoded_anew
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
            if not in_memory and not (state_dir / FILE).exists():
                self._crops.set_aside()
            self._db = open_tables(state_dir, in_memory=in_memory)
        except (OSError, sqlite3.OperationalError) as error:  # read-only, full, locked: the file itself is sound
            raise StoreError(f"{state_dir / FILE}: can't be opened as a class store ({error})") from None
        except sqlite3.Error as error:
            raise DamagedError(f"{state_dir / FILE}: can't be opened as a class store ({error})") from None
        with closed_if_unusable(self._db):
            self._bring_up(may_erase=not in_memory)

    @told_if_damaged
    def _bring_up(self, *, may_erase: bool) -> None:
        if not is_sealed(self._db):
            with self._change():
                pass
        if may_erase and self._crops.others(self._crops_named()):
            with suppress(StoreError):  # somebody teaches just now, or the folder is read-only: the next time will do
                self._erase_loose_crops()

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
        with self._change():
            if self._versions_made() == 1:
                self._add(classes, parent=1, encoder=encoder_hash, reason="starter class set")

    @told_if_damaged
    def rebuild(self, classifier: Classifier) -> Rebuilt:
        """Encode anew what another encoder made, from the kept crops or the starter file.

        What has neither is left out of a version of its own, which becomes the active one.
        """
        stale = shots_of_others(self._db, classifier.encoder_hash)
        if not stale:
            return Rebuilt(0, ())
        encoded = encoded_anew(stale, self._crops, classifier)
        lost = [number for number, _, _ in stale if number not in encoded]
        with self._change():
            encode_anew(self._db, list(encoded.items()), classifier.encoder_hash)
            parent = self.active_version()
            version = without_shots(self._db, parent, lost, REASON)
            names, left = names_of(self._db, parent), names_of(self._db, version)
        return Rebuilt(len(encoded), tuple(name for name in names if name not in left))

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

        Raises:
            ConfigError: a class is known as something else, or its names are those of another one.
        """
        with self._change():
            self._keep(itertools.chain(*classes.values(), *negatives.values()))
            parent = self.active_version()
            version = self._add(classes, parent=parent, encoder=encoder_hash, reason=reason)
            for name, shots in negatives.items():
                if name != NONE:
                    check_taught(name, names_of(self._db, version))
                add_shots(self._db, version, "negative", name, shots, encoder_hash)
            if not live:
                make_active(self._db, parent)
        return _name(version)

    @told_if_damaged
    def call(self, name: str, display_name: str | None) -> str:
        """Make a version the active one in which people read a class under another name; return the version's name.

        Raises:
            ConfigError: no such class is taught, or people would take the name for another one's.
        """
        with self._change():
            _check_known([name], self.class_names())
            taught = self.attributes()
            attributes = replace(taught[name], display_name=display_name)
            check_names(attributes, taught.values())
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
        with self._change():
            version = copy_version(self._db, self.active_version(), "took back what something is not")
            if not take_out(self._db, version, "negative", crop):
                raise ConfigError("that was not said, or is taken back already")
        return _name(version)

    @told_if_damaged
    def remove(self, name: str, crop: str, *, live: bool = True) -> str:
        """Make a version without a taught frame the active one where it is to be `live`; return the version's name.

        Args:
            name: a taught class.
            crop: the SHA-256 of the frame's crop, or how it begins.
            live: False to keep the version without making it active.

        Raises:
            ConfigError: the class is not taught, has no such frame, or no other one.
        """
        with self._change():
            parent = self.active_version()
            check_taught(name, self.class_names())
            crops = crops_of(self._db, parent, name)
            whole = crop_named(crop, crops, name)
            if set(crops) == {whole}:
                raise ConfigError(f"'{name}' has no other frame; forget it instead: `wildlane classes forget {name}`")
            version = copy_version(self._db, parent, f"took a frame out of {name}")
            take_out(self._db, version, "taught", whole, name)
            if not live:
                make_active(self._db, parent)
        return _name(version)

    @told_if_damaged
    def forget(self, name: str) -> str:
        """Take a class out of every version, erase what nothing else uses of it, and make a version the active one.

        Older versions keep all else. Its features go with the class, in one transaction; its pictures right after that,
        or, where the program dies in between, when the store is opened the next time.

        Raises:
            ConfigError: no version has such a class.
            StoreError: a picture can't be erased.
        """
        with self._change():
            check_taught(name, names_of(self._db))
            erase_class(self._db, name)
            version = copy_version(self._db, self.active_version(), f"forgot {name}")
        self._erase_loose_crops()
        return _name(version)

    @told_if_damaged
    def rollback(self, version: str | None = None) -> str:
        """Make an older version the active one again: the named one, or the parent of the active one.

        Raises:
            ConfigError: there is no such version.
        """
        with transaction(self._db, FILE):
            active = self.active_version()
            if version is None:
                (parent,) = self._db.execute("SELECT parent FROM version WHERE id = ?", (active,)).fetchone()
                version = f"before {_name(active)}" if parent is None else _name(parent)
            target = self._existing(version)
            make_active(self._db, target)
        return _name(target)

    @told_if_damaged
    def class_names(self) -> tuple[str, ...]:
        """Return the names of the classes of the active version."""
        return names_of(self._db, self.active_version())

    @told_if_damaged
    def attributes(self) -> dict[str, ClassAttributes]:
        """Return the attributes of the classes of the active version."""
        return attributes_of(self._db, self.active_version())

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
                classes=names_of(self._db, number),
                active=number == active,
                sha256=sha256,
            )
            for number, created, parent, reason, sha256 in self._db.execute(
                "SELECT id, created, parent, reason, sha256 FROM version ORDER BY id"
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
            ConfigError: there is no such version, or a class of `only` is not taught.
            StoreError: a shot was encoded by another encoder and its crop is not there to encode it again.
        """
        with self._snapshot():
            number = self.active_version() if version is None else self._existing(version)
            attributes = attributes_of(self._db, number)
            _check_known(only, tuple(attributes))
            wanted = {name: value for name, value in attributes.items() if only is None or name in only}
            supports = {name: joined(features_of(self._db, self._crops, number, name, classifier)) for name in wanted}
            negatives = self._negatives(number, classifier)
        return ClassSet(_name(number), wanted, classifier.adapt(supports, negatives))

    @told_if_damaged
    def shots(self, classifier: Classifier) -> dict[str, list[Features]]:
        """Return the features of each shot of each class of the active version."""
        version = self.active_version()
        return {
            name: features_of(self._db, self._crops, version, name, classifier)
            for name in attributes_of(self._db, version)
        }

    @told_if_damaged
    def negatives(self, classifier: Classifier) -> dict[str, list[Features]]:
        """Return the features of what is not of each class of the active version; of no animal under `none`."""
        return self._negatives(self.active_version(), classifier)

    def _negatives(self, version: int, classifier: Classifier) -> dict[str, list[Features]]:
        rows = self._db.execute("SELECT DISTINCT name FROM negative WHERE version = ? ORDER BY name", (version,))
        return {
            name: features_of(self._db, self._crops, version, name, classifier, "negative")
            for (name,) in rows.fetchall()
        }

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
            attributes = attributes_of(self._db, version)
            _check_known(only, tuple(attributes))
            return {
                attributes[name]: kept_of(self._db, self._crops, version, name, classifier)
                for name in attributes
                if only is None or name in only
            }

    @told_if_damaged
    def pictures(self, name: str, version: str) -> list[NDArray[np.uint8]]:
        """Return the kept crops of a class of a version, uint8 (height, width, 3), BGR."""
        kept = crops_of(self._db, self._existing(version), name)
        return [picture for picture in map(self._crops.picture, kept) if picture is not None]

    @told_if_damaged
    def kept_negatives(self, classifier: Classifier, names: Iterable[str]) -> dict[str, list[KeptShot]]:
        """Return all that is kept of what is not of each named class of the active version; `none` is a name here."""
        with self._snapshot():
            version = self.active_version()
            kept = {name: kept_of(self._db, self._crops, version, name, classifier, "negative") for name in names}
        return {name: shots for name, shots in kept.items() if shots}

    def crop(self, name: str) -> bytes | None:
        """Return the PNG of a kept crop; None where there is none of that name."""
        return self._crops.png(name)

    def _add(self, classes: Taught, *, parent: int, encoder: str, reason: str) -> int:
        version = copy_version(self._db, parent, reason)
        for wanted, shots in classes.items():
            attributes = settled(wanted, attributes_of(self._db, version))
            set_class(self._db, version, attributes)
            add_shots(self._db, version, "taught", attributes.name, shots, encoder)
        return version

    def _keep(self, shots: Iterable[Shot]) -> None:
        for shot in shots:
            if shot.crop is not None:
                self._crops.keep(shot.crop)

    def _existing(self, version: str) -> int:
        number = _number(version)
        if not self._db.execute("SELECT 1 FROM version WHERE id = ?", (number,)).fetchone():
            raise ConfigError(f"no version {version}; `wildlane classes list` shows what there is")
        return number

    def _crops_named(self) -> set[str | None]:
        return {crop for (crop,) in self._db.execute("SELECT crop_sha256 FROM shot")}

    def _erase_loose_crops(self) -> None:
        """Erase the crops that no shot names, while nobody else can be about to name one."""
        with transaction(self._db, FILE):
            self._crops.delete_others(self._crops_named())

    @contextmanager
    def _change(self) -> Iterator[None]:
        """What happens inside becomes a state of the store as a whole, with the hash of each version, or not at all."""
        with transaction(self._db, FILE):
            yield
            seal(self._db)

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
