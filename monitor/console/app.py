"""The console's pages and what they ask for: thin; what they show comes from the board, what they do from the site."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adapters.errors import ConfigError, StoreError, WildlaneError
from monitor.console import cameras, classes, labels, operate, situations
from monitor.console.access import LONGEST_S, Doorkeeper, Gate, UnauditedError, needs, open_to_all, see_other
from monitor.console.accounts import Accounts, legible
from monitor.console.board import Board
from monitor.console.pages import ROOM, page
from monitor.console.picture import Picture
from monitor.console.site import Site

log = logging.getLogger(__name__)

UNEXPECTED = "Something went wrong that should not; the program's log says what. Look whether it was done."


PAGES = (  # of the console, with who may see them
    ("/", "Cameras", "viewer"),
    ("/situations", "Situations", "viewer"),
    ("/history", "History", "viewer"),
    ("/label", "Teach", "operator"),
    ("/classes", "Classes", "viewer"),
    ("/health", "Health", "viewer"),
    ("/accounts", "Accounts", "viewer"),
    ("/audit", "Audit", "admin"),
)


def make_app(site: Site, accounts: Accounts, *, https: bool = False) -> Starlette:
    """Return the console; `https` where it is reached through TLS alone: the cookie then never travels in the clear."""
    routes = [
        Route("/", wall),
        *situations.routes(),
        *labels.routes(),
        *classes.routes(),
        *cameras.routes(),
        *operate.routes(),
        Route("/api/site", site_now),
        Route("/api/live/{camera}", live),
    ]
    app = guarded_app(routes, PAGES, accounts, https=https)
    app.state.site, app.state.held, app.state.trials = site, labels.HeldPictures(), cameras.Trials()
    return app


def guarded_app(
    pages: Sequence[Route], shown: Sequence[tuple[str, str, str]], accounts: Accounts, *, https: bool
) -> Starlette:
    """Return pages behind a login, with those of the accounts; the first one's route is named `wall`.

    Args:
        pages: each endpoint says who may ask for it.
        shown: path, name and role of what the head of each page leads to.
        accounts: who may come in.
        https: reached through TLS alone.
    """
    session = Middleware(
        SessionMiddleware,
        secret_key=accounts.secret,
        session_cookie="__Host-wildlane" if https else "wildlane",
        max_age=int(LONGEST_S),
        same_site="strict",
        https_only=https,
    )
    routes = [
        *pages,
        Route("/welcome", welcome, methods=["GET", "POST"]),
        Route("/login", login, methods=["GET", "POST"]),
        Route("/logout", logout, methods=["POST"]),
        *operate.account_routes(),
        Mount("/static", StaticFiles(directory=ROOM / "static"), name="static"),
    ]
    app = Starlette(
        routes=routes,
        middleware=[Middleware(Gate), Middleware(LastResort), session],
        exception_handlers={HTTPException: _told, WildlaneError: _told},
    )
    app.state.door, app.state.pages = Doorkeeper(accounts), shown
    app.router.redirect_slashes = False  # it would name scheme and host
    return app


async def _told(request: Request, error: Exception) -> Response:
    status, text = _worded(error)
    if "/api/" in request.url.path:
        return JSONResponse({"error": text}, status)
    return page(request, "error.html", {"error": text}, status=status)


def _worded(error: Exception) -> tuple[int, str]:
    if isinstance(error, HTTPException):
        return error.status_code, error.detail
    return 500 if isinstance(error, UnauditedError | StoreError) else 400, str(error)


class LastResort:
    """Turns an error that nobody expected into one entry of the log and a page that tells no more than that."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        has_begun = scope["type"] != "http"

        async def watched(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception:
            if has_begun:
                raise
            log.exception("the console failed at %s %s", scope["method"], legible(scope["path"]))
            told = await _told(Request(scope), HTTPException(500, UNEXPECTED))
            await told(scope, receive, send)


@open_to_all
def welcome(request: Request) -> Response:
    """Make the first account."""
    door: Doorkeeper = request.app.state.door
    where = door.accounts.token_path
    if where is None:
        return see_other(request, "login")
    if request.method == "GET":
        return page(request, "welcome.html", {"where": where})
    token, name, password = (str(request.state.form.get(key, "")) for key in ("token", "name", "password"))
    try:
        account = door.guess(request, "", lambda: door.accounts.begin(token.strip(), name.strip(), password))
    except (ConfigError, HTTPException) as error:
        status, text = _worded(error)
        return page(request, "welcome.html", {"where": where, "error": text}, status=status)
    assert account is not None, "it raises where there is none"
    door.open(request, account)
    return see_other(request, "wall")


@open_to_all
def login(request: Request) -> Response:
    """Let somebody in."""
    door: Doorkeeper = request.app.state.door
    if door.accounts.token_path is not None:
        return see_other(request, "welcome")
    if request.method == "GET":
        return page(request, "login.html")
    name, password = str(request.state.form.get("name", "")).strip(), str(request.state.form.get("password", ""))
    try:
        account = door.guess(request, name, lambda: door.accounts.log_in(name, password))
    except HTTPException as error:
        return page(request, "login.html", {"error": error.detail, "name": name}, status=error.status_code)
    address = request.client.host if request.client else ""
    try:
        door.accounts.note(name, "login refused" if account is None else "logged in", address)
    except StoreError as error:  # a full disk must not keep an operator from the cameras
        log.error("not in the audit: a login of %s (%s)", legible(name), error)  # noqa: TRY400  # one line
    if account is None:
        return page(request, "login.html", {"error": "Name or password is wrong.", "name": name}, status=403)
    door.open(request, account)
    return see_other(request, "wall")


@needs("viewer")
def logout(request: Request) -> Response:
    """End the session."""
    request.app.state.door.close(request)
    return see_other(request, "login")


@needs("viewer")
def wall(request: Request) -> Response:
    """Show every camera."""
    return page(request, "wall.html", {"cameras": sorted(request.app.state.site.board.healths())})


@needs("viewer")
def site_now(request: Request) -> Response:
    """Return health, sightings and situations as JSON."""
    board: Board = request.app.state.site.board
    now_s, names = time.monotonic(), request.app.state.site.names()
    cameras = {
        name: {"state": health.state, "reason": health.reason, **_seen(board.live(name, now_s), names)}
        for name, health in board.healths().items()
    }
    situations = [{"id": one.id, "confirmed_by": one.confirmed_by} for one in board.situations()]
    return JSONResponse({"cameras": cameras, "situations": situations})


def _seen(picture: Picture | None, names: Mapping[str, str]) -> dict[str, Any]:
    if picture is None:
        return {"number": None, "boxes": []}
    boxes = [
        {
            "box": list(one.box),
            "label": one.label,
            "called": names.get(one.label, one.label),
            "probability": one.probability,
            "p_animal": one.p_animal,
        }
        for one in picture.sightings
    ]
    return {"number": picture.number, "at": picture.at, "size": picture.size, "boxes": boxes}


@needs("viewer")
def live(request: Request) -> Response:
    """Return the newest picture of a camera."""
    picture = request.app.state.site.board.live(request.path_params["camera"], time.monotonic())
    if picture is None:
        raise HTTPException(404, "no picture of that camera yet")
    return Response(picture.jpeg, media_type="image/jpeg")
