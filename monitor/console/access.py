"""Who is asking, whether they may, and that it was they: sessions, roles, origin, tokens, throttle, headers."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import wraps
from threading import Lock
from typing import Any, TypeVar

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartParser
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adapters.errors import StoreError, WildlaneError
from monitor.console.accounts import MOST_NAME, Account, Accounts, Role, legible

log = logging.getLogger(__name__)

IDLE_S, LONGEST_S = 8 * 3600.0, 3 * 86_400.0  # a session that nobody uses, and one that is used all the time
MOST_GUESSES = RateLimitItemPerMinute(6)  # wrong ones of a name, and from an address
MOST_BODY_BYTES = 40_000_000
MultiPartParser.spool_max_size = MOST_BODY_BYTES  # an uploaded picture stays in memory: it may show people
NOTHING_CHANGED = "; nothing was changed"  # in the audit, that is
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}

Endpoint = Callable[[Request], Response]
Answer = Callable[[Request], Awaitable[Response]]
Tried = TypeVar("Tried")


class UnauditedError(WildlaneError):
    """Something was done, and the audit does not tell of it."""


@dataclass(frozen=True)
class Visit:
    """A request of somebody who is logged in."""

    account: Account
    csrf: str  # what a form must bring along; it also tells this session from others


class Doorkeeper:
    """Opens, finds and ends sessions. They live in a signed cookie; the accounts know which are over."""

    def __init__(self, accounts: Accounts, now: Callable[[], float] = time.time) -> None:
        self.accounts, self._now = accounts, now
        self._throttle, self._guessing = MovingWindowRateLimiter(MemoryStorage()), Lock()

    def guess(self, request: Request, name: str, attempt: Callable[[], Tried | None]) -> Tried | None:
        """Let somebody try a password or token; one that is wrong counts against the name and the address.

        Raises:
            HTTPException: 429, there were too many wrong ones; it was not tried.
        """
        address = request.client.host if request.client else ""
        keys = (("name", name[:MOST_NAME]), ("from", address))
        with self._guessing:  # one at a time: what runs beside each other would not be counted yet
            if not all(self._throttle.test(MOST_GUESSES, *key) for key in keys):
                raise HTTPException(429, "Too many wrong attempts: wait a minute.")
            found = None
            try:
                found = attempt()
            finally:
                if found is None:
                    for key in keys:
                        self._throttle.hit(MOST_GUESSES, *key)
        return found

    def open(self, request: Request, account: Account) -> None:
        """Begin a session; whatever the cookie held before is gone."""
        now = self._now()
        request.session.clear()
        csrf = secrets.token_urlsafe(24)
        request.session.update(name=account.name, epoch=account.epoch, csrf=csrf, began=now, seen=now)

    def visit(self, request: Request) -> Visit | None:
        """Return who is asking; None where nobody is logged in, or no longer."""
        session, now = request.session, self._now()
        account = self.accounts.find(str(session.get("name", "")))
        if account is None or session.get("epoch") != account.epoch:
            return None
        if now - session["seen"] > IDLE_S or now - session["began"] > LONGEST_S:
            return None
        if self.accounts.has_ended(session["csrf"]):
            return None
        session["seen"] = now
        return Visit(account, session["csrf"])

    def close(self, request: Request) -> None:
        """End a session; a copy of its cookie is worth nothing from now on."""
        session, now = request.session, self._now()
        self.accounts.end_session(session["csrf"], session["began"] + LONGEST_S, now)
        session.clear()


def needs(role: Role) -> Callable[[Endpoint], Answer]:
    """Let an endpoint be asked by those alone who may; `request.state` has the visit, and the form where one came."""

    def guarded(endpoint: Endpoint) -> Answer:
        @wraps(endpoint)
        async def asked(request: Request) -> Response:
            visit = await run_in_threadpool(request.app.state.door.visit, request)
            if visit is None:
                if request.method in SAFE and "/api/" not in request.url.path:
                    return see_other(request, "login")
                raise HTTPException(401, "log in first")
            if not visit.account.may(role):
                raise HTTPException(403, f"this needs the role {role}, you are {visit.account.role}")
            request.state.visit = visit
            async with _brought(request):
                if request.method not in SAFE:
                    check_token(request.state.form, request.headers, visit.csrf)
                return await run_in_threadpool(endpoint, request)

        return asked

    return guarded


def open_to_all(endpoint: Endpoint) -> Answer:
    """Let an endpoint be asked by anybody; `request.state` has the form where one came."""

    @wraps(endpoint)
    async def asked(request: Request) -> Response:
        async with _brought(request):
            return await run_in_threadpool(endpoint, request)

    return asked


@asynccontextmanager
async def _brought(request: Request) -> AsyncIterator[None]:
    """Read what a request brings, since its endpoint can't wait for it: every endpoint runs on a thread.

    They ask databases, and wait for each other's lessons: on the event loop one would hold up all.
    """
    if request.method in SAFE:
        yield
        return
    async with request.form(max_files=20, max_fields=500) as request.state.form:
        is_json = request.headers.get("content-type", "").startswith("application/json")
        request.state.json = await request.body() if is_json else b""
        yield


def see_other(request: Request, name: str, **parts: str) -> Response:
    """Send the browser to a page. A path alone: behind a proxy that speaks TLS we don't know scheme and host."""
    return RedirectResponse(request.app.url_path_for(name, **parts), 303)


def who(request: Request) -> str:
    """Return the name of the account that asks."""
    return str(request.state.visit.account.name)


def note(request: Request, what: str, about: str) -> None:
    """Write into the audit what the account that asks has just done.

    Raises:
        UnauditedError: the audit can't take it down; it is done all the same, and the log has the line.
    """
    try:
        request.app.state.door.accounts.note(who(request), what, about)
    except StoreError as error:
        did = legible(f"{what} {about}")
        log.error("not in the audit: %s, by %s (%s)", did, who(request), error)  # noqa: TRY400  # one line
        reason = str(error).removesuffix(NOTHING_CHANGED)
        raise UnauditedError(f"This was done, but the audit could not take it down: {did} ({reason})") from None


def check_token(form: FormData, headers: Headers, expected: str) -> None:
    """Raise 403 where a request does not bring the token of its session."""
    brought = headers.get("x-csrf-token") or str(form.get("csrf", ""))
    if not expected or not secrets.compare_digest(brought.encode(), expected.encode()):
        raise HTTPException(403, "the page is too old: load it again")


class Gate:
    """Refuses what comes from another site's page or is too large, and adds the headers that every answer bears."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refused = _refusal(scope["method"], headers)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        answer = self._app if refused is None else refused
        await answer(scope, _limited(receive), with_headers)


def _refusal(method: str, headers: Headers) -> Response | None:
    if int(headers.get("content-length") or 0) > MOST_BODY_BYTES:
        return Response(f"at most {MOST_BODY_BYTES / 1e6:.0f} MB at once", 413)
    if method in SAFE:
        return None
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2] != headers.get("host"):
        return Response("asked for by another site's page", 403)
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return Response("asked for by another site's page", 403)
    return None


def _limited(receive: Receive) -> Receive:
    """Count a body whose length was not told."""
    so_far = 0

    async def counted() -> Message:
        nonlocal so_far
        message: dict[str, Any] = dict(await receive())
        so_far += len(message.get("body", b""))
        if so_far > MOST_BODY_BYTES:
            raise HTTPException(413, f"at most {MOST_BODY_BYTES / 1e6:.0f} MB at once")
        return message

    return counted
