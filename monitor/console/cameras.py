"""Cameras come and go: an address is tried, its picture shown, and only then it is written to the configuration.

So are the zones and masks that somebody draws on a camera's picture.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adapters.errors import ConfigError
from monitor.cameras.trial import FirstPicture
from monitor.config import ZoneConfig
from monitor.console.access import needs, note, see_other, who
from monitor.console.pages import page
from monitor.console.site import comes
from monitor.strict import Shapes

TRIAL_S = 600.0  # how long somebody may look at the picture before the address must be tried again
TAKEN_UP_S = 5.0


@dataclass(frozen=True)
class Trial:
    """An address that gave a picture."""

    name: str
    url: str
    first: FirstPicture
    at_s: float


class Trials:
    """The address that each administrator tried last. It never goes back to a page: it may hold a password."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.busy, self._now = Lock(), now
        self._kept: dict[str, Trial] = {}

    def keep(self, owner: str, name: str, url: str, first: FirstPicture) -> None:
        """Keep what was tried, in the place of what was tried before."""
        self._kept[owner] = Trial(name, url, first, self._now())

    def find(self, owner: str) -> Trial:
        """Return what somebody has tried; 404 where that is nothing, or too long ago."""
        kept = self._kept.get(owner)
        if kept is None or self._now() - kept.at_s > TRIAL_S:
            self.drop(owner)
            raise HTTPException(404, "test the address first")
        return kept

    def drop(self, owner: str) -> None:
        """Forget what somebody has tried."""
        self._kept.pop(owner, None)


class Asked(BaseModel):
    """What the page sends to try an address."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str
    url: str


class Drawn(BaseModel):
    """What the page sends to draw a camera's shapes, in pixels of its picture."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    masks_px: Shapes
    zones: list[ZoneConfig]


def routes() -> list[Route]:
    """Return the page, and what it asks for."""
    return [
        Route("/new-camera", new, methods=["GET"]),
        Route("/new-camera", add, methods=["POST"]),
        Route("/api/new-camera", picture, methods=["GET"]),
        Route("/api/new-camera", try_out, methods=["POST"]),
        Route("/cameras/{camera}/remove", remove, methods=["POST"]),
        Route("/api/cameras/{camera}/shapes", draw, methods=["POST"]),
    ]


@needs("admin")
def new(request: Request) -> Response:
    """Show the page to add a camera on."""
    return page(request, "new_camera.html")


@needs("admin")
def try_out(request: Request) -> Response:
    """Open an address, and tell what is there."""
    trials: Trials = request.app.state.trials
    try:
        asked = Asked.model_validate_json(request.state.json)
    except ValidationError:
        raise HTTPException(400, "expected a name and an address") from None
    trials.drop(who(request))
    if not trials.busy.acquire(blocking=False):
        raise HTTPException(429, "another address is being tested: wait a moment")
    try:
        first = request.app.state.site.look(asked.name, asked.url)
    finally:
        trials.busy.release()
    trials.keep(who(request), asked.name, asked.url, first)
    return JSONResponse({"size": first.size, "fps": first.fps})


@needs("admin")
def picture(request: Request) -> Response:
    """Return the picture of the address that was tried last."""
    return Response(request.app.state.trials.find(who(request)).first.jpeg, media_type="image/jpeg")


@needs("admin")
def add(request: Request) -> Response:
    """Make what was tried last a camera of the site."""
    trials, site = request.app.state.trials, request.app.state.site
    tried = trials.find(who(request))
    site.add_camera(tried.name, tried.url)
    trials.drop(who(request))
    note(request, "added camera", tried.name)
    _taken_up(lambda: tried.name in site.board.healths())
    comes(lambda: bool(site.board.kept(tried.name)), TAKEN_UP_S)  # the page that follows shows its picture
    return see_other(request, "camera", camera=tried.name)


@needs("admin")
def remove(request: Request) -> Response:
    """Take a camera from the site."""
    name, site = request.path_params["camera"], request.app.state.site
    site.remove_camera(name)
    note(request, "removed camera", name)
    _taken_up(lambda: name not in site.board.healths())
    return see_other(request, "wall")


@needs("admin")
def draw(request: Request) -> Response:
    """Draw a camera's zones and masks anew."""
    name, site = request.path_params["camera"], request.app.state.site
    try:
        drawn = Drawn.model_validate_json(request.state.json)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise HTTPException(400, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    site.draw(name, drawn.masks_px, drawn.zones)
    note(request, "drew zones and masks", name)
    _taken_up(lambda: site.config().cameras[name].zones == drawn.zones)
    return JSONResponse({"zones": len(drawn.zones), "masks": len(drawn.masks_px)})


def _taken_up(done: Callable[[], bool]) -> None:
    if not comes(done, TAKEN_UP_S):
        raise ConfigError("the file is changed, but the program has not taken it up: its log says why")
