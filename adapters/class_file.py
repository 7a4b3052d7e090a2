"""A class set as a file to carry to another site: a ZIP with classes.json, the crops as PNG, and what has no crop.

What was said to be no animal at all stays at its site: a bush here tells nothing of bushes elsewhere.

Nothing in it is executed or unpacked to disk. manifest.json names every part by its SHA-256; manifest.sig, where there
is one, is an Ed25519 signature over it. Crops are encoded again where they arrive, so that a file outlives encoders.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from cryptography.exceptions import InvalidSignature
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from adapters.classes import ClassAttributes, KeptShot, Origin, Shot, Size, check_names
from adapters.classifier import Classifier
from adapters.encoder import SHOT_VIEWS, Features
from adapters.errors import InputError
from adapters.files import write_whole
from adapters.provenance import Provenance
from adapters.signature import private_key, public_key
from adapters.stills import decode_picture

FORMAT = 1
CLASSES, FEATURES, MANIFEST, SIGNATURE = "classes.json", "features.npz", "manifest.json", "manifest.sig"
MOST_BYTES = 1_000_000_000  # of all parts together, uncompressed
MOST_PARTS = 20_000
# what reading bytes that are no ZIP, or no longer one, can raise
NO_ARCHIVE = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError)
SHA256 = r"^[0-9a-f]{64}$"
UTC_TIME = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|\+00:00)$"
Text = Annotated[str, Field(max_length=1_000)]
Coordinate = Annotated[float, Field(allow_inf_nan=False, strict=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Provenance(_Strict):
    camera: Text | None = None
    frame: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    file: Text | None = None
    # JSON has no tuples
    box: Annotated[tuple[Coordinate, Coordinate, Coordinate, Coordinate] | None, Field(strict=False)] = None
    captured: Annotated[str, Field(pattern=UTC_TIME)] | None = None
    operator: Text | None = None


class _Shot(_Strict):
    crop: Annotated[str, Field(pattern=SHA256)] | None  # SHA-256 of its PNG; else a row of features.npz
    row: Annotated[int, Field(ge=0)] | None
    source: Text
    provenance: _Provenance = _Provenance()


class _Class(_Strict):
    """A class, what shows it, and what was taken for it and is not."""

    name: str
    size: Size
    origin: Origin
    scientific_name: Annotated[str, Field(max_length=200)] | None
    herd: bool = False
    display_name: Annotated[str, Field(max_length=80)] | None = None
    shots: Annotated[list[_Shot], Field(min_length=1)]
    negatives: list[_Shot] = []


class _Content(_Strict):
    format: Literal[1]
    created: str
    encoder: str  # of features.npz
    classes: Annotated[list[_Class], Field(min_length=1)]


@dataclass(frozen=True)
class Carried:
    """What a file brought, as this site's encoder sees it.

    Attributes:
        classes: with what shows them.
        negatives: class name -> what is not of it.
        left_out: class name -> why it had to stay out.
    """

    classes: dict[ClassAttributes, list[Shot]]
    negatives: dict[str, list[Shot]]
    left_out: dict[str, str]


def write_classes(
    path: Path,
    classes: Mapping[ClassAttributes, Sequence[KeptShot]],
    negatives: Mapping[str, Sequence[KeptShot]],
    encoder_hash: str,
    *,
    key: Path | None = None,
) -> None:
    """Write classes to a file, whole or not at all.

    Args:
        path: the file; an older one is replaced.
        classes: with their kept shots.
        negatives: name of one of them -> what is not of it.
        encoder_hash: what made the features of shots whose crops are not kept.
        key: Ed25519 private key, PEM, to sign with.

    Raises:
        ConfigError: the key can't be used.
        InputError: the file can't be written.
    """
    parts: dict[str, bytes] = {}
    bare: list[Features] = []
    told = []
    for attributes, shots in classes.items():
        one = {**vars(attributes), "shots": [_told(shot, parts, bare) for shot in shots]}
        if attributes.name in negatives:  # else a program that knows of none reads the file too
            one["negatives"] = [_told(shot, parts, bare) for shot in negatives[attributes.name]]
        told.append(one)
    created = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    content = {"format": FORMAT, "created": created, "encoder": encoder_hash, "classes": told}
    parts[CLASSES] = json.dumps(content, indent=1).encode()
    if bare:
        arrays = io.BytesIO()
        np.savez(arrays, tok=np.stack([f.tok for f in bare]).astype(np.float16), glob=np.stack([f.glob for f in bare]))
        parts[FEATURES] = arrays.getvalue()
    parts[MANIFEST] = json.dumps({name: _sha256(part) for name, part in parts.items()}, indent=1).encode()
    if key is not None:
        parts[SIGNATURE] = private_key(key).sign(parts[MANIFEST])
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        for name, part in parts.items():
            file.writestr(name, part)
    try:
        write_whole(path, packed.getvalue())
    except OSError as error:
        raise InputError(f"{path}: can't be written ({error.strerror})") from None


def _told(shot: KeptShot, parts: dict[str, bytes], bare: list[Features]) -> dict[str, object]:
    known = shot.provenance.known()  # where nothing is, a program that knows of none reads the file too
    told = {"source": shot.source, **({"provenance": known} if known else {})}
    if shot.png is None:
        bare.append(shot.features)
        return {"crop": None, "row": len(bare) - 1, **told}
    name = _sha256(shot.png)
    parts[f"crops/{name}.png"] = shot.png
    return {"crop": name, "row": None, **told}


def read_classes(path: Path, classifier: Classifier, *, key: Path | None = None) -> Carried:
    """Return what a file brings, encoded by this site's encoder.

    Args:
        path: the file.
        classifier: encodes the crops.
        key: Ed25519 public key, PEM; with it only a file that its owner signed is taken.

    Raises:
        ConfigError: the key can't be used.
        InputError: the file is missing, damaged, altered, not signed by the key's owner, or of another kind.
    """
    public = None if key is None else public_key(key)
    parts = _parts(path)
    if public is not None:
        try:
            public.verify(parts.get(SIGNATURE, b""), parts[MANIFEST])
        except InvalidSignature:
            raise InputError(f"{path}: is not signed by the owner of {key}") from None
    try:
        content = _Content.model_validate_json(parts[CLASSES])
        rows = _rows(parts, classifier) if content.encoder == classifier.encoder_hash else None
        carried = Carried({}, {}, {})
        for told in content.classes:
            if rows is None and any(shot.crop is None for shot in (*told.shots, *told.negatives)):
                carried.left_out[told.name] = "was made by another encoder, and its pictures are not in the file"
                continue
            attributes = ClassAttributes(**told.model_dump(exclude={"shots", "negatives"}))
            check_names(attributes, ())
            read = partial(_shot, parts=parts, rows=rows or [], classifier=classifier, path=path)
            carried.classes[attributes] = [read(shot) for shot in told.shots]
            carried.negatives[told.name] = [read(shot) for shot in told.negatives]
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{path}: {CLASSES}: {where}: {first['msg']}") from None
    except (KeyError, IndexError, ValueError) as error:
        raise InputError(f"{path}: not a class-set file ({error})") from None
    return carried


def _parts(path: Path) -> dict[str, bytes]:
    """Return the parts of a file, each checked against the manifest."""
    try:
        with zipfile.ZipFile(path) as file:
            members = file.infolist()
            if len(members) > MOST_PARTS or sum(member.file_size for member in members) > MOST_BYTES:
                raise InputError(f"{path}: more than {MOST_PARTS} parts or {MOST_BYTES / 1e9:.0f} GB; not read")
            parts = {member.filename: file.read(member) for member in members}
        manifest = json.loads(parts[MANIFEST])
        named = {name: _sha256(part) for name, part in parts.items() if name not in (MANIFEST, SIGNATURE)}
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror})") from None
    except (*NO_ARCHIVE, KeyError, ValueError) as error:
        raise InputError(f"{path}: not a class-set file ({error})") from None
    if manifest != named:
        raise InputError(f"{path}: was altered: its parts are not those that its manifest names")
    return parts


def _rows(parts: Mapping[str, bytes], classifier: Classifier) -> list[Features]:
    if FEATURES not in parts:
        return []
    try:
        with np.load(io.BytesIO(parts[FEATURES]), allow_pickle=False) as stored:
            tok, glob = stored["tok"].astype(np.float32), stored["glob"].astype(np.float32)
    except (*NO_ARCHIVE, OSError, TypeError, MemoryError) as error:  # TypeError: a bare array; MemoryError: its size
        raise ValueError(f"{FEATURES} can't be read ({error})") from None
    if glob.shape[1:] != (SHOT_VIEWS, len(classifier.knowledge.mu)) or tok.shape[:2] != glob.shape[:2]:
        raise ValueError(f"{FEATURES} has another shape")
    if not (np.isfinite(tok).all() and np.isfinite(glob).all()):
        raise ValueError(f"{FEATURES} holds what is no number")
    return [Features(*pair) for pair in zip(tok, glob, strict=True)]


def _shot(
    told: _Shot, parts: Mapping[str, bytes], rows: Sequence[Features], classifier: Classifier, path: Path
) -> Shot:
    provenance = Provenance(**told.provenance.model_dump())
    if told.crop is None:
        if told.row is None:
            raise ValueError("a shot has neither crop nor features")
        return Shot(features=rows[told.row], crop=None, source=told.source, provenance=provenance)
    crop = decode_picture(parts[f"crops/{told.crop}.png"], f"{path}: {told.crop}")
    return Shot(features=classifier.encode.shots([crop])[0], crop=crop, source=told.source, provenance=provenance)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
