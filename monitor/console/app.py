"""The console's pages and what they ask for: thin; what they show comes from the board, what they do from the site."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from adapters.errors import ConfigError, WildlaneError
from monitor.console import cameras, classes, labels, operate, situations
from monitor.console.access import LONGEST_S, Doorkeeper, Gate, needs, see_other
from monitor.console.accounts import Accounts
from monitor.console.board import Board
from monitor.console.pages import ROOM, page
from monitor.console.picture import Picture
from monitor.console.site import Site


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
        *situations.routes(),
        *labels.routes(),
        *classes.routes(),
        *cameras.routes(),
        *operate.routes(),
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
    app.state.trials = cameras.Trials()
    app.router.redirect_slashes = False  # it would name scheme and host
    return app


async def _told(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 400
    text = error.detail if isinstance(error, HTTPException) else str(error)
    if "/api/" in request.url.path:
        return JSONResponse({"error": text}, status)
    return page(request, "error.html", {"error": text}, status=status)


async def welcome(request: Request) -> Response:
    """Make the first account."""
    door: Doorkeeper = request.app.state.door
    if door.accounts.token_path is None:
        return see_other(request, "login")
    if request.method == "GET":
        return page(request, "welcome.html", {"where": door.accounts.token_path})
    form = await request.form()
    token, name, password = (str(form.get(key, "")) for key in ("token", "name", "password"))
    if not door.may_guess(request, "welcome"):
        facts = {"where": door.accounts.token_path, "error": "too often: wait a minute"}
        return page(request, "welcome.html", facts, status=429)
    try:
        door.open(request, door.accounts.begin(token.strip(), name.strip(), password))
    except ConfigError as error:
        return page(request, "welcome.html", {"where": door.accounts.token_path, "error": str(error)}, status=400)
    return see_other(request, "wall")


async def login(request: Request) -> Response:
    """Let somebody in."""
    door: Doorkeeper = request.app.state.door
    if door.accounts.token_path is not None:
        return see_other(request, "welcome")
    if request.method == "GET":
        return page(request, "login.html")
    form = await request.form()
    name, password = str(form.get("name", "")).strip(), str(form.get("password", ""))
    if not door.may_guess(request, name):
        return page(request, "login.html", {"error": "Too many attempts: wait a minute.", "name": name}, status=429)
    account = await run_in_threadpool(door.accounts.log_in, name, password)  # slow on purpose
    if account is None:
        door.accounts.note(name[:40], "login refused", request.client.host if request.client else "")
        return page(request, "login.html", {"error": "Name or password is wrong.", "name": name}, status=403)
    door.open(request, account)
    door.accounts.note(account.name, "logged in", request.client.host if request.client else "")
    return see_other(request, "wall")


@needs("viewer")
async def logout(request: Request) -> Response:
    """End the session."""
    await run_in_threadpool(request.app.state.door.close, request)
    return see_other(request, "login")


@needs("viewer")
async def wall(request: Request) -> Response:
    """Show every camera."""
    return page(request, "wall.html", {"cameras": sorted(request.app.state.site.board.healths())})


@needs("viewer")
async def site_now(request: Request) -> Response:
    """Return health, sightings and situations as JSON."""
    board: Board = request.app.state.site.board
    now_s, names = time.monotonic(), request.app.state.site.names()
    cameras = {
        name: {"state": health.state, "reason": health.reason, **_seen(board.live(name, now_s), names)}
        for name, health in board.healths().items()
    }
    return JSONResponse({"cameras": cameras, "situations": [one.id for one in board.situations()]})


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
async def live(request: Request) -> Response:
    """Return the newest picture of a camera."""
    picture = request.app.state.site.board.live(request.path_params["camera"], time.monotonic())
    if picture is None:
        raise HTTPException(404, "no picture of that camera yet")
    return Response(picture.jpeg, media_type="image/jpeg")
