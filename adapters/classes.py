"""What a taught class is, before it is stored: values and the rules of its name."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from adapters.classifier import RESERVED, ClassMemory
from adapters.encoder import Features
from adapters.errors import ConfigError
from adapters.provenance import UNKNOWN, Provenance

Size = Literal["small", "large", "unknown"]
Origin = Literal["wild", "domestic", "unknown"]
LONGEST_SHOWN = 80  # characters of a name that people read


@dataclass(frozen=True, kw_only=True)
class ClassAttributes:
    """What traffic control must know of a class; without size and origin an alert can't be coded.

    With `herd` its frames show several animals together, and one box of it is coded as a herd. `display_name` is what
    people read, in their own language; alerts, policy and programs go by `name`.
    """

    name: str
    size: Size
    origin: Origin
    scientific_name: str | None = None
    display_name: str | None = None
    herd: bool = False

    @property
    def described(self) -> str:
        """What alerts are coded by, in words."""
        return f"{self.size} and {self.origin}{', a herd' if self.herd else ''}"


@dataclass(frozen=True)
class ClassSet:
    """One version of what a site has been taught, ready for the classifier.

    Attributes:
        version: `cs-7` for the seventh.
        attributes: by class name, in the order of the memory's rows.
        memory: the inputs of match.onnx.
    """

    version: str
    attributes: dict[str, ClassAttributes]
    memory: ClassMemory


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One labelled crop: its picture (None where it may not be kept), its features, and where it came from."""

    features: Features  # of the crop in its views
    crop: NDArray[np.uint8] | None
    source: str
    provenance: Provenance = UNKNOWN


@dataclass(frozen=True, kw_only=True)
class KeptShot:
    """A shot as the store keeps it: the crop is a PNG file's content, and called by the SHA-256 of its pixels."""

    features: Features
    crop: str | None
    png: bytes | None
    source: str
    created: str
    provenance: Provenance = UNKNOWN


@dataclass(frozen=True, kw_only=True)
class VersionRecord:
    """A line of the list of versions; `sha256` is over all that the version holds, the same at every site."""

    version: str
    created: str
    parent: str | None
    reason: str
    classes: tuple[str, ...] = field(default=())
    active: bool = False
    sha256: str = ""


def settled(wanted: ClassAttributes, taught: Mapping[str, ClassAttributes]) -> ClassAttributes:
    """Return the attributes that a class gets beside those that are taught.

    Those of a known class stay, since alerts are coded by them; what it lacks is filled in. The store asks this inside
    its transaction, so that of two operators at once the second sees what the first has done.

    Raises:
        ConfigError: it is known as something else, or its names can't be shown or would be taken for another class's.
    """
    known = taught.get(wanted.name)
    others = [one for name, one in taught.items() if name != wanted.name]
    if known is None:
        check_names(wanted, others)
        return wanted
    if (wanted.size, wanted.origin, wanted.herd) != (known.size, known.origin, known.herd):
        raise ConfigError(
            f"'{known.name}' is taught as {known.described}, "
            f"this says {wanted.described}; correct it, or `wildlane classes forget {known.name}` first"
        )
    if known.scientific_name and wanted.scientific_name not in (None, known.scientific_name):
        raise ConfigError(
            f"'{known.name}' is taught as {known.scientific_name}, this says {wanted.scientific_name}; "
            f"correct it, or `wildlane classes forget {known.name}` first"
        )
    merged = replace(
        known,
        display_name=wanted.display_name or known.display_name,
        scientific_name=known.scientific_name or wanted.scientific_name,
    )
    if merged != known:
        check_names(merged, others)
    return merged


def check_names(attributes: ClassAttributes, known: Iterable[ClassAttributes]) -> None:
    """Raise ConfigError unless a class's names can be shown and are not taken for those of another one.

    Upper and lower case, and characters that look alike by Unicode's own account, make no other name.
    """
    others = [one for one in known if one.name != attributes.name]
    check_class_name(attributes.name)
    _check_free(attributes.name, others)
    check_display_name(attributes, others)
    if attributes.scientific_name is not None:
        _check_shown("scientific name", attributes.scientific_name)


def check_display_name(attributes: ClassAttributes, known: Iterable[ClassAttributes]) -> None:
    """Raise ConfigError unless people can be shown the name of a class and will not take it for another one's."""
    shown = attributes.display_name
    if shown is None:
        return
    _check_shown("display name", shown)
    if _folded(shown) in RESERVED:
        raise ConfigError(f"'{shown}' is an answer of its own and can't be what a class is called")
    _check_free(shown, (one for one in known if one.name != attributes.name))


def _check_shown(what: str, name: str) -> None:
    # what can be printed is no line break and no control character, those that turn the direction of writing among them
    if not name or len(name) > LONGEST_SHOWN or name != name.strip() or not name.isprintable():
        raise ConfigError(
            f"{what} {name[:LONGEST_SHOWN]!r}: expected 1 to {LONGEST_SHOWN} characters that can be printed"
        )


def _check_free(name: str, others: Iterable[ClassAttributes]) -> None:
    for other in others:
        for taken in (other.name, other.display_name):
            if taken is not None and _folded(taken) == _folded(name):
                like = "" if taken == name else f", in other letters: '{taken}'"
                raise ConfigError(f"'{name}' is what another class is called{like}")


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()


def check_taught(name: str, taught: Collection[str]) -> None:
    """Raise ConfigError unless the class is one of those taught."""
    if name not in taught:
        raise ConfigError(f"no class '{name}' is taught; there are: {', '.join(taught) or 'none'}")


def crop_named(beginning: str, crops: Iterable[str | None], name: str) -> str:
    """Return the crop of a class whose SHA-256 begins so.

    Raises:
        ConfigError: the class has none, or several.
    """
    found = {crop for crop in crops if crop is not None and beginning and crop.startswith(beginning.lower())}
    if len(found) != 1:
        many = f"{len(found)} kept frames" if found else "no kept frame"
        raise ConfigError(f"'{name}' has {many} of crop {beginning}...; `wildlane classes show {name}` lists them")
    return found.pop()


def check_class_name(name: str) -> None:
    """Raise ConfigError unless the name can be a class: it becomes a key of messages and a cell of the policy table."""
    if _folded(name) in RESERVED:
        raise ConfigError(f"'{name}' is an answer of its own and can't be taught as a class")
    if not name or len(name) > 64 or name != name.strip() or not all(c.isalnum() or c in " -_'" for c in name):
        raise ConfigError(f"class name {name!r}: expected 1 to 64 letters, digits, spaces, '-', '_' or \"'\"")
