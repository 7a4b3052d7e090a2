"""Templates -> pages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.templating import Jinja2Templates

from monitor.console.access import Visit

ROOM = Path(__file__).parent

_templates = Jinja2Templates(ROOM / "templates")


def page(request: Request, template: str, facts: Mapping[str, Any] | None = None, *, status: int = 200) -> Response:
    """Return a page: what a template shows of `facts`, with who is asking, the site's name, how classes are called."""
    visit: Visit | None = getattr(request.state, "visit", None)
    names = request.app.state.site.names()
    always = {
        "site": request.app.state.site.name,
        "pages": request.app.state.pages,
        "visit": visit,
        "called": lambda name: names.get(name, name),
    }
    shown = always | dict(facts or {})
    return _templates.TemplateResponse(request, template, shown, status)
