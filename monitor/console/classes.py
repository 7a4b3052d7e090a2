"""What was taught, version by version, how good it is, and the frames that every new version is tried on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from adapters.classes import check_display_name
from monitor.console.access import needs, note, see_other
from monitor.console.accounts import legible
from monitor.console.pages import page
from monitor.console.site import Site, comes

TAKEN_UP_S = 2.0  # by the main loop, with its next frame


def routes() -> list[Route]:
    """Return the pages, and what they ask for."""
    return [
        Route("/classes", classes),
        Route("/classes/report", report),
        Route("/classes/crops/{crop}", crop),
        Route("/classes/rollback", rollback, methods=["POST"]),
        Route("/classes/forget", forget, methods=["POST"]),
        Route("/classes/remove", remove_shot, methods=["POST"]),
        Route("/classes/call", call, methods=["POST"]),
        Route("/classes/take-back", take_back, methods=["POST"]),
        Route("/classes/try", try_out, methods=["POST"]),
        Route("/classes/trial", trial),
        Route("/classes/trial/{number:int}", trial_picture),
        Route("/golden", golden),
        Route("/golden/crops/{crop}", golden_crop),
        Route("/golden/remove", remove, methods=["POST"]),
    ]


@needs("viewer")
def classes(request: Request) -> Response:
    """Show what was taught, version by version."""
    site = request.app.state.site
    facts = {"versions": list(reversed(site.versions())), "known": site.known(), "checked": len(site.golden)}
    return page(request, "classes.html", facts)


@needs("viewer")
def report(request: Request) -> Response:
    """Show how good each class is: each of its frames in turn is left out and looked for."""
    site = request.app.state.site
    told = site.report()
    return page(request, "report.html", {"classes": told, "confusions": _confusions(told), "refuted": site.refuted()})


def _confusions(told: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the shares found as each class: one row a class that was examined, one column a class and *none*."""
    columns = [*(one["class"] for one in told), "none"]
    rows = []
    for one in told:
        if one["leave_one_out"] is not None:
            found = {**one["confused_with"], one["class"]: one["leave_one_out"]}
            rows.append((one["class"], [found.get(name, 0.0) for name in columns]))
    return {"columns": columns, "rows": rows}


@needs("viewer")
def crop(request: Request) -> Response:
    """Return the picture of a taught frame."""
    return _picture(request.app.state.site.crop(request.path_params["crop"]))


@needs("operator")
def rollback(request: Request) -> Response:
    """Make a version the live one."""
    version = request.app.state.site.rollback(str(request.state.form.get("version", "")))
    note(request, "made live", version)
    return see_other(request, "classes")


@needs("operator")
def forget(request: Request) -> Response:
    """Erase a class."""
    name = str(request.state.form.get("class", ""))
    version = request.app.state.site.forget(name)
    note(request, "forgot", f"{name}, {version}")
    return see_other(request, "classes")


@needs("operator")
def remove_shot(request: Request) -> Response:
    """Make a version without a taught frame the live one."""
    name, crop = (str(request.state.form.get(key, "")) for key in ("class", "crop"))
    gone = request.app.state.site.remove(name, crop)
    about = f"{name} {crop[:12]}, {gone.version}"
    note(request, "took a frame out", f"{about}, held back" if gone.held_back else about)
    if gone.held_back:
        raise HTTPException(409, f"{gone.version} without that frame is kept, but not live: {gone.held_back}")
    return see_other(request, "report")


@needs("operator")
def call(request: Request) -> Response:
    """Make a version the live one in which people read a class under another name."""
    site = request.app.state.site
    name, display_name = (str(request.state.form.get(key, "")).strip() for key in ("class", "display_name"))
    known = {one.name: one for one in site.known()}
    if name not in known:
        raise HTTPException(404, "that class is not taught")
    check_display_name(replace(known[name], display_name=display_name or None), known.values())
    version = site.call(name, display_name or None)
    note(request, "called a class", f"{name}: {display_name or name}, {version}")
    return see_other(request, "report")


@needs("operator")
def take_back(request: Request) -> Response:
    """Make a version the live one in which it is not said what a crop is not."""
    version = request.app.state.site.take_back(str(request.state.form.get("crop", "")))
    note(request, "took back", version)
    return see_other(request, "report")


@needs("operator")
def try_out(request: Request) -> Response:
    """Let a version run beside the live one, or end that."""
    version, site = str(request.state.form.get("version", "")), request.app.state.site
    if version and version not in {one.version for one in site.versions()}:
        raise HTTPException(404, f"there is no version {legible(version)}")
    site.try_out(version)
    comes(lambda: _tried(site) == version, TAKEN_UP_S)
    note(request, "tries beside the live one", version or "none")
    return see_other(request, "trial" if version else "classes")


def _tried(site: Site) -> str:
    shadow = site.shadow()
    return shadow.class_set.version if shadow else ""


@needs("viewer")
def trial(request: Request) -> Response:
    """Show what the version that is tried would change."""
    shadow = request.app.state.site.shadow()
    return page(request, "trial.html", {"trial": shadow and shadow.comparison()})


@needs("viewer")
def trial_picture(request: Request) -> Response:
    """Return an example of a change."""
    shadow, number = request.app.state.site.shadow(), request.path_params["number"]
    examples = shadow.comparison().examples if shadow else ()
    if number >= len(examples):
        raise HTTPException(404, "that example has gone")
    return Response(examples[number].jpeg, media_type="image/jpeg")


@needs("viewer")
def golden(request: Request) -> Response:
    """Show the checked frames."""
    return page(request, "golden.html", {"frames": request.app.state.site.golden.listed()})


@needs("viewer")
def golden_crop(request: Request) -> Response:
    """Return the picture of a checked frame."""
    return _picture(request.app.state.site.golden.png(request.path_params["crop"]))


@needs("operator")
def remove(request: Request) -> Response:
    """Take a checked frame out."""
    name = str(request.state.form.get("crop", ""))
    if name not in {crop for crop, *_ in request.app.state.site.golden.listed()}:
        raise HTTPException(404, "that frame is not among the checked ones")
    request.app.state.site.uncheck(name)
    note(request, "golden set", f"removed {name[:12]}")
    return see_other(request, "golden")


def _picture(png: bytes | None) -> Response:
    if png is None:
        raise HTTPException(404, "no such picture is kept")
    return Response(png, media_type="image/png")
