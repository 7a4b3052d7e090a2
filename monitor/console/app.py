"""The console's pages and what they ask for: thin; what they show comes from the board, what they do from the site."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.templating import Jinja2Templates

from adapters.classes import ClassAttributes, VersionRecord
from adapters.errors import ConfigError, WildlaneError
from monitor.console import labels
from monitor.console.access import LONGEST_S, Doorkeeper, Gate, Visit, needs
from monitor.console.accounts import Accounts
from monitor.console.board import Board, Picture

ROOM = Path(__file__).parent
AUDIT_LINES = 200

templates = Jinja2Templates(ROOM / "templates")
templates.env.filters["clock"] = lambda seconds: datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, kw_only=True)
class Site:
    """What the pages may ask of the running program; every call is safe from any thread.

    Attributes:
        name: of the site.
        board: what the main loop leaves.
        known: the classes of the active version.
        teach: teaches a class from labelled crops; the new version is live within a second.
        versions: what was taught, oldest first.
        rollback: makes a version the active one, and returns its name.
        order: tells the main loop to confirm or dismiss a situation, or to rehearse an alert of a zone.
    """

    name: str
    board: Board
    known: Callable[[], Sequence[ClassAttributes]]
    teach: labels.Teach
    versions: Callable[[], Sequence[VersionRecord]]
    rollback: Callable[[str], str]
    order: Callable[[Literal["confirm", "dismiss", "test-alert"], str, str], None]


def make_app(site: Site, accounts: Accounts, *, https: bool = False) -> Starlette:
    """Return the console; `https` where it is reached through TLS alone: the cookie then never travels in the clear."""
    session = Middleware(
        SessionMiddleware,
        secret_key=accounts.secret,
        session_cookie="__Host-wildlane" if https else "wildlane",
        max_age=int(LONGEST_S),
        same_site="strict",
        https_only=https,
    )
    routes = [
        Route("/", wall),
        Route("/welcome", welcome, methods=["GET", "POST"]),
        Route("/login", login, methods=["GET", "POST"]),
        Route("/logout", logout, methods=["POST"]),
        Route("/situations", situations),
        Route("/situations/{situation}/{verb}", judge, methods=["POST"]),
        Route("/label", label),
        *labels.routes(),
        Route("/classes", classes),
        Route("/classes/rollback", rollback, methods=["POST"]),
        Route("/audit", audit),
        Route("/api/site", site_now),
        Route("/api/live/{camera}", live),
        Mount("/static", StaticFiles(directory=ROOM / "static"), name="static"),
    ]
    app = Starlette(
        routes=routes,
        middleware=[Middleware(Gate), session],
        exception_handlers={HTTPException: _told, WildlaneError: _told},
    )
    app.state.site, app.state.door, app.state.held = site, Doorkeeper(accounts), labels.HeldPictures()
    return app


def _page(request: Request, template: str, status: int = 200, **facts: Any) -> Response:  # noqa: ANN401  # what a template shows
    visit: Visit | None = getattr(request.state, "visit", None)
    return templates.TemplateResponse(
        request, template, {"site": request.app.state.site.name, "visit": visit, **facts}, status
    )


async def _told(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 400
    text = error.detail if isinstance(error, HTTPException) else str(error)
    if "/api/" in request.url.path:
        return JSONResponse({"error": text}, status)
    return _page(request, "error.html", status, error=text)


async def welcome(request: Request) -> Response:
    """Make the first account."""
    door: Doorkeeper = request.app.state.door
    if door.accounts.token_path is None:
        return RedirectResponse(request.url_for("login"), 303)
    if request.method == "GET":
        return _page(request, "welcome.html", where=door.accounts.token_path)
    form = await request.form()
    token, name, password = (str(form.get(key, "")) for key in ("token", "name", "password"))
    if not door.may_guess(request, "welcome"):
        return _page(
            request, "welcome.html", status=429, where=door.accounts.token_path, error="too often: wait a minute"
        )
    try:
        door.open(request, door.accounts.begin(token.strip(), name.strip(), password))
    except ConfigError as error:
        return _page(request, "welcome.html", status=400, where=door.accounts.token_path, error=str(error))
    return RedirectResponse(request.url_for("wall"), 303)


async def login(request: Request) -> Response:
    """Let somebody in."""
    door: Doorkeeper = request.app.state.door
    if door.accounts.token_path is not None:
        return RedirectResponse(request.url_for("welcome"), 303)
    if request.method == "GET":
        return _page(request, "login.html")
    form = await request.form()
    name, password = str(form.get("name", "")).strip(), str(form.get("password", ""))
    if not door.may_guess(request, name):
        return _page(request, "login.html", status=429, error="Too many attempts: wait a minute.", name=name)
    account = await run_in_threadpool(door.accounts.log_in, name, password)  # slow on purpose
    if account is None:
        door.accounts.note(name[:40], "login refused", request.client.host if request.client else "")
        return _page(request, "login.html", status=403, error="Name or password is wrong.", name=name)
    door.open(request, account)
    door.accounts.note(account.name, "logged in", request.client.host if request.client else "")
    return RedirectResponse(request.url_for("wall"), 303)


@needs("viewer")
async def logout(request: Request) -> Response:
    """End the session."""
    request.session.clear()
    return RedirectResponse(request.url_for("login"), 303)


@needs("viewer")
async def wall(request: Request) -> Response:
    """Show every camera."""
    return _page(request, "wall.html", cameras=sorted(request.app.state.site.board.healths()))


@needs("viewer")
async def situations(request: Request) -> Response:
    """Show what is open now."""
    return _page(request, "situations.html", situations=request.app.state.site.board.situations())


@needs("operator")
async def judge(request: Request) -> Response:
    """Confirm or dismiss a situation."""
    verb, situation = request.path_params["verb"], request.path_params["situation"]
    if verb not in ("confirm", "dismiss"):
        raise HTTPException(404, "no such page")
    request.app.state.site.order(verb, situation, request.state.visit.account.name)
    request.app.state.door.accounts.note(request.state.visit.account.name, verb, situation)
    return RedirectResponse(request.url_for("situations"), 303)


@needs("operator")
async def label(request: Request) -> Response:
    """Show the page to teach an animal on."""
    site: Site = request.app.state.site
    cameras, chosen = sorted(site.board.healths()), request.query_params.get("camera")
    return _page(request, "label.html", cameras=cameras, chosen=chosen, known=site.known())


@needs("viewer")
async def classes(request: Request) -> Response:
    """Show what was taught, version by version."""
    return _page(request, "classes.html", versions=list(reversed(request.app.state.site.versions())))


@needs("operator")
async def rollback(request: Request) -> Response:
    """Go back to a version."""
    version = request.app.state.site.rollback(str(request.state.form.get("version", "")))
    request.app.state.door.accounts.note(request.state.visit.account.name, "rolled back", version)
    return RedirectResponse(request.url_for("classes"), 303)


@needs("admin")
async def audit(request: Request) -> Response:
    """Show who did what."""
    return _page(request, "audit.html", entries=request.app.state.door.accounts.audit(AUDIT_LINES))


@needs("viewer")
async def site_now(request: Request) -> Response:
    """Return health, sightings and situations as JSON."""
    board: Board = request.app.state.site.board
    now_s = time.monotonic()
    cameras = {
        name: {"state": health.state, "reason": health.reason, **_seen(board.live(name, now_s))}
        for name, health in board.healths().items()
    }
    return JSONResponse({"cameras": cameras, "situations": [one.id for one in board.situations()]})


def _seen(picture: Picture | None) -> dict[str, Any]:
    if picture is None:
        return {"number": None, "boxes": []}
    boxes = [
        {"box": list(one.box), "label": one.label, "probability": one.probability, "p_animal": one.p_animal}
        for one in picture.sightings
    ]
    return {"number": picture.number, "at": picture.at, "size": picture.size, "boxes": boxes}


@needs("viewer")
async def live(request: Request) -> Response:
    """Return the newest picture of a camera."""
    picture = request.app.state.site.board.live(request.path_params["camera"], time.monotonic())
    if picture is None:
        raise HTTPException(404, "no picture of that camera yet")
    return Response(picture.jpeg, media_type="image/jpeg")
