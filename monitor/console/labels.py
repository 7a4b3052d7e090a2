"""Teaching from the page: pictures that stay while somebody draws on them, and the lesson that follows."""

from __future__ import annotations

import json
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from threading import Lock
from typing import Annotated, Literal, TypeVar

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adapters.classes import ClassAttributes, check_class_name, check_display_name
from adapters.classifier import NONE
from adapters.errors import InputError
from adapters.frames import Crop
from adapters.provenance import Provenance
from monitor.alerts.schema import utc_text
from monitor.console.access import needs, note, who
from monitor.console.accounts import MOST_NOTED
from monitor.console.pages import page
from monitor.console.picture import Picture
from monitor.console.uploads import uploaded
from monitor.stills import cut
from monitor.truth import Look

MOST_OWNERS, HOLD_S = 8, 1800.0
MOST_HELD_BYTES = 60_000_000  # of one person; the oldest pictures go first


@dataclass
class _Hold:
    pictures: dict[tuple[str, int], Picture]
    touched_s: float


class HeldPictures:
    """What each person draws on, while the cameras' own half minute moves on; in memory alone. Safe from any thread."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._lock, self._now = Lock(), now
        self._holds: OrderedDict[str, _Hold] = OrderedDict()

    def hold(self, owner: str, pictures: Sequence[Picture]) -> None:
        """Keep pictures for somebody, beside those that are held already."""
        with self._lock:
            self._let_go()
            held = self._holds.setdefault(owner, _Hold({}, 0.0))
            held.touched_s = self._now()
            held.pictures |= {(picture.camera, picture.number): picture for picture in pictures}
            while sum(len(one.jpeg) for one in held.pictures.values()) > MOST_HELD_BYTES:
                del held.pictures[next(iter(held.pictures))]
            self._holds.move_to_end(owner)
            while len(self._holds) > MOST_OWNERS:
                self._holds.popitem(last=False)

    def find(self, owner: str, camera: str, number: int) -> Picture | None:
        """Return a picture that somebody holds; None where it was let go."""
        with self._lock:
            self._let_go()
            held = self._holds.get(owner)
            if held is None:
                return None
            held.touched_s = self._now()
            return held.pictures.get((camera, number))

    def _let_go(self) -> None:
        late = [owner for owner, held in self._holds.items() if self._now() - held.touched_s > HOLD_S]
        for owner in late:
            del self._holds[owner]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


Model = TypeVar("Model", bound=_Strict)


Coordinate = Annotated[float, Field(allow_inf_nan=False)]


class Label(_Strict):
    """A box that somebody drew: x, y, w, h in pixels of the camera's own picture."""

    camera: str = Field(max_length=MOST_NOTED)
    number: int
    box: tuple[Coordinate, Coordinate, Coordinate, Coordinate] = Field(strict=False)  # JSON has no tuples


class Asked(_Strict):
    """What the page sends to teach."""

    name: str
    size: Literal["small", "large"]
    origin: Literal["wild", "domestic"]
    scientific_name: str | None = Field(default=None, max_length=80)
    display_name: str | None = None
    herd: bool = False
    labels: list[Label] = Field(min_length=1, max_length=50)
    live: bool = True


class Recording(_Strict):
    """What the page sends to step through a clip."""

    name: str
    from_s: Annotated[float, Field(ge=0, le=86_400)] = Field(strict=False)


class Empty(_Strict):
    """What the page sends to say that no animal is seen in a recording."""

    recording: str


class Named(_Strict):
    """What the page sends to check new versions with, to say what frames do not show, or to note a visit."""

    name: str
    labels: list[Label] = Field(min_length=1, max_length=50)


def routes() -> list[Route]:
    """Return the page, and what it asks for."""
    return [
        Route("/label", label),
        Route("/api/hold", hold_worthiest, methods=["POST"]),
        Route("/api/hold/{camera}", hold, methods=["POST"]),
        Route("/api/recording", hold_recording, methods=["POST"]),
        Route("/api/upload", upload, methods=["POST"]),
        Route("/api/visit", visit, methods=["POST"]),
        Route("/api/no-visit", no_visit, methods=["POST"]),
        Route("/api/held/{camera:path}/{number:int}", held_picture),  # a recording may lie in a folder
        Route("/api/teach", teach, methods=["POST"]),
        Route("/api/refute", refute, methods=["POST"]),
        Route("/api/golden", check, methods=["POST"]),
    ]


@needs("operator")
def label(request: Request) -> Response:
    """Show the page to teach an animal on."""
    site = request.app.state.site
    cameras, chosen = sorted(site.board.healths()), request.query_params.get("camera")
    facts = {"cameras": cameras, "chosen": chosen, "known": site.known(), "recordings": site.recordings.listed()}
    return page(request, "label.html", facts)


@needs("operator")
def hold(request: Request) -> Response:
    """Hold the last half minute of a camera, and list it."""
    return _hold(request, request.app.state.site.board.kept(request.path_params["camera"]))


@needs("operator")
def hold_worthiest(request: Request) -> Response:
    """Hold the pictures of all cameras that are most worth labelling, and list them."""
    return _hold(request, request.app.state.site.board.worth_labelling())


@needs("operator")
def hold_recording(request: Request) -> Response:
    """Hold half a minute of a recorded clip, and list it."""
    asked = _asked(request, Recording)
    return _hold(request, request.app.state.site.recordings.pictures(asked.name, asked.from_s))


def _hold(request: Request, pictures: Sequence[Picture]) -> Response:
    request.app.state.held.hold(who(request), pictures)
    names = request.app.state.site.names()
    return JSONResponse({"pictures": [_listed(picture, names) for picture in pictures]})


@needs("operator")
def upload(request: Request) -> Response:
    """Take in pictures from the operator's own machine: decoded strictly, coded anew."""
    files = [file for file in request.state.form.getlist("picture") if isinstance(file, UploadFile)]
    taken, refused = [], []
    for file in files:
        name = (file.filename or "picture")[:80]
        try:
            picture = uploaded(file.file.read(), name)
        except InputError as error:
            refused.append({"image": name, "why": str(error).removeprefix(f"{name}: ")})
        else:
            taken.append(picture)
    numbered = [replace(picture, number=time.monotonic_ns() // 1000 + i) for i, picture in enumerate(taken)]
    request.app.state.held.hold(who(request), numbered)
    return JSONResponse({"pictures": [_listed(picture, {}) for picture in numbered], "refused": refused})


@needs("operator")
def held_picture(request: Request) -> Response:
    """Return a held picture."""
    picture = _find(request, request.path_params["camera"], request.path_params["number"])
    if picture is None:
        raise HTTPException(404, "that picture is not held any more")
    return Response(picture.jpeg, media_type="image/jpeg")


@needs("operator")
def teach(request: Request) -> Response:
    """Teach a class from boxes on held pictures, and answer with its report card."""
    asked = _asked(request, Asked)
    check_class_name(asked.name)
    attributes = ClassAttributes(
        name=asked.name,
        size=asked.size,
        origin=asked.origin,
        scientific_name=asked.scientific_name or None,
        display_name=asked.display_name,
        herd=asked.herd,
    )
    check_display_name(attributes, request.app.state.site.known())
    names, crops = _crops(request, asked.labels)
    lesson = request.app.state.site.teach(attributes, names, crops, live=asked.live)
    about = f"{asked.name}: {lesson.used} of {lesson.frames} frames, {lesson.version}"
    note(request, "taught", about)
    return JSONResponse(lesson.answer())


@needs("operator")
def refute(request: Request) -> Response:
    """Teach what boxes on held pictures are not: a class, or any animal at all under `none`."""
    asked = _asked(request, Named)
    names, crops = _crops(request, asked.labels)
    told = request.app.state.site.refute(asked.name, names, crops)
    about = f"{asked.name}: {told.used} of {told.frames} frames, {told.version}"
    note(request, "said what is not", about)
    return JSONResponse(told.answer())


@needs("operator")
def check(request: Request) -> Response:
    """Take labelled boxes into the golden set, which every new version is tried on."""
    asked = _asked(request, Named)
    if asked.name != NONE:
        check_class_name(asked.name)
    names, crops = _crops(request, asked.labels)
    frames = [(name, crop) for name, crop in zip(names, crops, strict=True) if not isinstance(crop, str)]
    refused = [{"image": name, "why": crop} for name, crop in zip(names, crops, strict=True) if isinstance(crop, str)]
    count = request.app.state.site.check(asked.name, frames)
    note(request, "golden set", f"{asked.name}: {len(frames)} frames")
    return JSONResponse({"class": asked.name, "taken": len(frames), "refused": refused, "frames": count})


@needs("operator")
def visit(request: Request) -> Response:
    """Note where an animal is seen in a recording, in its truth file."""
    asked = _asked(request, Named)
    check_class_name(asked.name)
    (recording, *others) = {label.camera for label in asked.labels}
    if others:
        raise InputError("a visit is one of a single recording: remove the boxes of the others")
    looks = [Look(label.number, _held(request, label).at, label.box) for label in asked.labels]
    count = request.app.state.site.recordings.note(recording, asked.name, looks)
    note(request, "visit", f"{recording}: {asked.name}")
    return JSONResponse({"recording": recording, "visits": count})


@needs("operator")
def no_visit(request: Request) -> Response:
    """Say that a recording shows no animal."""
    recording = _asked(request, Empty).recording
    count = request.app.state.site.recordings.note(recording, "", [])
    note(request, "visit", f"{recording}: none")
    return JSONResponse({"recording": recording, "visits": count})


def _held(request: Request, label: Label) -> Picture:
    picture = _find(request, label.camera, label.number)
    if picture is None:
        raise InputError("that picture is not held any more: hold the recording again")
    return picture


def _asked(request: Request, model: type[Model]) -> Model:
    try:
        return model.model_validate_json(request.state.json)
    except ValidationError as error:
        raise HTTPException(400, _worded(error)) from None


def _crops(request: Request, labels: Sequence[Label]) -> tuple[list[str], list[Crop]]:
    pictures, names = Counter[str](), []
    for label in labels:
        name = f"{label.camera} {label.number}"
        pictures[name] += 1
        names.append(name if pictures[name] == 1 else f"{name}, box {pictures[name]}")
    return names, [_crop(request, label, name) for label, name in zip(labels, names, strict=True)]


def _crop(request: Request, label: Label, name: str) -> Crop:
    picture = _find(request, label.camera, label.number)
    if picture is None:
        return "that picture is not held any more: hold the camera again"
    pixels = np.asarray(cv2.imdecode(np.frombuffer(picture.jpeg, np.uint8), cv2.IMREAD_COLOR), np.uint8)
    try:
        return cut(pixels, label.box, name, _provenance(request, picture))
    except InputError as error:
        return str(error).removeprefix(f"{name}: ")


def _provenance(request: Request, picture: Picture) -> Provenance:
    """Return where a held picture comes from; of a recording it is not known when it was taken."""
    watched = picture.camera in request.app.state.site.config().cameras
    captured = utc_text(datetime.fromtimestamp(picture.at, UTC)) if watched else None
    return Provenance(
        camera=picture.camera if watched else None,
        file=None if watched else picture.camera,
        frame=picture.number,
        captured=captured,
        operator=who(request),
    )


def _find(request: Request, camera: str, number: int) -> Picture | None:
    held: HeldPictures = request.app.state.held
    return held.find(who(request), camera, number)


def _listed(picture: Picture, names: Mapping[str, str]) -> Mapping[str, object]:
    boxes = [
        {
            "box": [s.box.x1, s.box.y1, s.box.width, s.box.height],
            "called": names.get(s.label, s.label),
            "p_animal": s.p_animal,
        }
        for s in picture.sightings
    ]
    return {
        "camera": picture.camera,
        "number": picture.number,
        "at": picture.at,
        "size": picture.size,
        "boxes": boxes,
    }


def _worded(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else str(json.dumps(first["msg"]))
