"""What was taught, version by version."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from monitor.console.access import needs
from monitor.console.pages import page


def routes() -> list[Route]:
    """Return the pages, and what they ask for."""
    return [Route("/classes", classes), Route("/classes/rollback", rollback, methods=["POST"])]


@needs("viewer")
async def classes(request: Request) -> Response:
    """Show what was taught, version by version."""
    return page(request, "classes.html", {"versions": list(reversed(request.app.state.site.versions()))})


@needs("operator")
async def rollback(request: Request) -> Response:
    """Go back to a version."""
    version = request.app.state.site.rollback(str(request.state.form.get("version", "")))
    request.app.state.door.accounts.note(request.state.visit.account.name, "rolled back", version)
    return RedirectResponse(request.url_for("classes"), 303)
