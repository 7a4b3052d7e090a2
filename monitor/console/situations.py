"""What is open now, what a person says of it, and what has happened."""

from __future__ import annotations

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from monitor.console import history
from monitor.console.access import needs, note, see_other, who
from monitor.console.pages import page
from monitor.console.site import Site, comes

TAKEN_UP_S = 1.0  # by the main loop; the page that follows shows it then
MOST_SHOWN = 200  # situations on a page; the table for download has all


def routes() -> list[Route]:
    """Return the pages, and what they ask for."""
    return [
        Route("/situations", situations),
        Route("/situations/{situation}/picture", picture),
        Route("/situations/{situation}/heat", heat),
        Route("/situations/{situation}/{verb}", judge, methods=["POST"]),
        Route("/history", past),
        Route("/history.csv", past_csv),
    ]


@needs("viewer")
def situations(request: Request) -> Response:
    """Show what is open now."""
    return page(
        request, "situations.html", {"situations": request.app.state.site.board.situations(), "known": _known(request)}
    )


@needs("viewer")
def picture(request: Request) -> Response:
    """Return how the animal of a situation looked."""
    return Response(_snapshot(request), media_type="image/jpeg")


@needs("viewer")
def heat(request: Request) -> Response:
    """Return where the classifier looked, to lay over the picture."""
    name = request.query_params.get("class", "")
    over = request.app.state.site.heat(_snapshot(request), name)
    if over is None:
        raise HTTPException(404, "that class is not taught: it has no map")
    return Response(over, media_type="image/png")


def _snapshot(request: Request) -> bytes:
    found: bytes | None = request.app.state.site.snapshot(request.path_params["situation"])
    if found is None:
        raise HTTPException(404, "no picture is kept of that situation")
    return found


@needs("viewer")
def past(request: Request) -> Response:
    """Show what has happened, searched and counted."""
    words = request.query_params.get("words", "")
    found = _past(request, words)
    facts: dict[str, Any] = {
        "classes": history.by_class(found),
        "hours": history.by_hour(found),
        "begun": history.begun(found),
        "known": _known(request),
    }
    return page(request, "history.html", {"words": words, "count": len(found), "found": found[:MOST_SHOWN], **facts})


@needs("viewer")
def past_csv(request: Request) -> Response:
    """Return what has happened as a table."""
    found = _past(request, request.query_params.get("words", ""))
    named = {"Content-Disposition": f'attachment; filename="{request.app.state.site.name}-situations.csv"'}
    return Response("".join(history.as_csv(found)), media_type="text/csv", headers=named)


def _known(request: Request) -> set[str]:
    return {attributes.name for attributes in request.app.state.site.known()}


def _past(request: Request, words: str) -> list[history.Past]:
    site = request.app.state.site
    return history.situations(site.history(), words, site.names())


@needs("operator")
def judge(request: Request) -> Response:
    """Confirm or dismiss a situation; of one that has ended meanwhile, show how it ended."""
    verb, situation = request.path_params["verb"], request.path_params["situation"]
    if verb not in ("confirm", "dismiss"):
        raise HTTPException(404, "no such page")
    site = request.app.state.site
    if situation not in {one.id for one in site.board.situations()}:
        if situation not in {one.id for one in _past(request, "")}:
            raise HTTPException(404, "there is no situation of that id")
        return RedirectResponse(f"{request.app.url_path_for('past')}?words={situation}", 303)
    site.order(verb, situation, who(request))
    note(request, verb, situation)
    comes(lambda: _is_judged(site, verb, situation), TAKEN_UP_S)
    return see_other(request, "situations")


def _is_judged(site: Site, verb: str, situation: str) -> bool:
    found = next((one for one in site.board.situations() if one.id == situation), None)
    return found is None or (verb == "confirm" and found.confirmed_by is not None)
