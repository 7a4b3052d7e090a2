"""A camera and its zones, health of the site, a test alert through to the sign, the accounts, and the audit."""

from __future__ import annotations

from typing import cast, get_args

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from adapters.errors import ConfigError
from monitor.assembly import zones_of
from monitor.config import ZoneKind
from monitor.console.access import Doorkeeper, Visit, needs, note, see_other, who
from monitor.console.accounts import Role
from monitor.console.pages import page

AUDIT_LINES = 200


def routes() -> list[Route]:
    """Return the pages, and what they ask for."""
    return [
        Route("/cameras/{camera}", camera),
        Route("/health", health),
        Route("/health/test", rehearse, methods=["POST"]),
    ]


def account_routes() -> list[Route]:
    """Return the pages of who may come in, and what was done."""
    return [
        Route("/accounts", accounts),
        Route("/accounts/add", add, methods=["POST"]),
        Route("/accounts/remove", remove, methods=["POST"]),
        Route("/accounts/role", change_role, methods=["POST"]),
        Route("/accounts/password", change_password, methods=["POST"]),
        Route("/audit", audit),
    ]


@needs("viewer")
def camera(request: Request) -> Response:
    """Show a camera with its zones and masks, and draw others."""
    name, config = request.path_params["camera"], request.app.state.site.config()
    if name not in config.cameras:
        raise HTTPException(404, "there is no camera of that name")
    drawn = config.cameras[name]
    shapes = [
        *({"id": zone.id, "kind": zone.kind, "points": zone.polygon_px} for zone in drawn.zones),
        *({"id": "mask", "kind": "mask", "points": points} for points in drawn.masks_px),
    ]
    return page(request, "camera.html", {"camera": name, "shapes": shapes, "kinds": get_args(ZoneKind)})


@needs("viewer")
def health(request: Request) -> Response:
    """Show how the site is, camera by camera, and who has its alerts."""
    site = request.app.state.site
    facts = {"health": site.health(), "availability": site.board.availability(), "consumers": site.consumers()}
    return page(request, "health.html", {**facts, "zones": _zones(request)})


def _zones(request: Request) -> list[str]:
    config = request.app.state.site.config()
    return sorted({zone.id for drawn in zones_of(config, list(config.cameras)).values() for zone in drawn})


@needs("operator")
def rehearse(request: Request) -> Response:
    """Send a test alert of a zone, marked as one, the whole way."""
    zone = str(request.state.form.get("zone", ""))
    if zone not in _zones(request):
        raise HTTPException(404, "there is no zone of that name")
    request.app.state.site.order("test-alert", zone, who(request))
    note(request, "test alert", zone)
    return see_other(request, "health")


@needs("viewer")
def accounts(request: Request) -> Response:
    """Show who may do what; everybody may change the password that is theirs."""
    return page(request, "accounts.html", {"everybody": _door(request).accounts.everybody(), "roles": get_args(Role)})


@needs("admin")
def add(request: Request) -> Response:
    """Make an account."""
    name, password = (str(request.state.form.get(key, "")) for key in ("name", "password"))
    _door(request).accounts.add(name.strip(), _role(request), password, by=who(request))
    return see_other(request, "accounts")


def _role(request: Request) -> Role:
    role = str(request.state.form.get("role", ""))
    if role not in get_args(Role):
        raise HTTPException(400, f"role {role!r}: expected one of {', '.join(get_args(Role))}")
    return cast("Role", role)


@needs("admin")
def change_role(request: Request) -> Response:
    """Give an account another role."""
    name = str(request.state.form.get("name", ""))
    _door(request).accounts.change_role(name, _role(request), by=who(request))
    return see_other(request, "accounts")


@needs("admin")
def remove(request: Request) -> Response:
    """Take an account away."""
    _door(request).accounts.remove(str(request.state.form.get("name", "")), by=who(request))
    return see_other(request, "accounts")


@needs("viewer")
def change_password(request: Request) -> Response:
    """Change the password of who is asking, who must know the old one; all sessions of the account end."""
    door, account = _door(request), _visit(request).account
    old, new = (str(request.state.form.get(key, "")) for key in ("old", "new"))
    if door.guess(request, account.name, lambda: door.accounts.log_in(account.name, old)) is None:
        raise ConfigError("the old password is wrong")
    door.accounts.change_password(account.name, new, by=account.name)
    return see_other(request, "login")


@needs("admin")
def audit(request: Request) -> Response:
    """Show who did what."""
    return page(request, "audit.html", {"entries": _door(request).accounts.audit(AUDIT_LINES)})


def _door(request: Request) -> Doorkeeper:
    door: Doorkeeper = request.app.state.door
    return door


def _visit(request: Request) -> Visit:
    visit: Visit = request.state.visit
    return visit
