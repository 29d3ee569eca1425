"""The page over HTTP: who may ask, and what is sent."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from geodesic.explorer.session import Session
from geodesic.explorer.worker import Overtaken, Worker, purpose_of
from geodesic.installation import require

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

__all__ = ["FILES", "make_app"]

_HERE = Path(__file__).parent
FILES = {"": "page.html", "explorer.js": "explorer.js", "explorer.css": "explorer.css"}
"""What is sent for an address, of the files of this package."""

_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
_LARGEST = 10_000  # bytes of a request
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src blob: data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
    "Referrer-Policy": "no-referrer",  # the address holds the token
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def make_app(session: Session, token: str, names: frozenset[str] = frozenset()) -> Starlette:
    """The application: `/TOKEN/` is the page, `/TOKEN/ask` takes requests, all else is refused.

    Every request must name this machine by a number, as localhost, or by one of `names` (a name of somebody else's
    that leads here would let their pages in), and must not come from another page.

    Args:
        session: What answers.
        token: Of the address.
        names: Of this machine, beside localhost.

    Raises:
        MissingExtraError: starlette is not installed.
    """
    require("explore", "starlette")
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse, Response
    from starlette.routing import Route

    worker = Worker()

    def refusal(request: Request) -> Response | None:
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        if not _is_here(host, names):
            return PlainTextResponse("geodesic explore: this address is not mine\n", 403, _HEADERS)
        if origin is not None and origin != f"http://{host}":
            return PlainTextResponse("geodesic explore: other pages may not ask\n", 403, _HEADERS)
        if not hmac.compare_digest(request.path_params["token"].encode(), token.encode()):
            said = "geodesic explore: open the address that it has printed: the token in this one is not right\n"
            return PlainTextResponse(said, 403, _HEADERS)
        return None

    async def show(request: Request) -> Response:
        refused = refusal(request)
        file = FILES.get(request.path_params.get("file", ""))
        if refused is not None:
            return refused
        if file is None:
            return PlainTextResponse("geodesic explore: there is no such file\n", 404, _HEADERS)
        path = _HERE / file
        return Response(path.read_bytes(), media_type=_TYPES[path.suffix], headers=_HEADERS)

    async def ask(request: Request) -> Response:
        refused = refusal(request)
        if refused is not None:
            return refused
        if request.headers.get("content-type") != "application/json" or "origin" not in request.headers:
            return PlainTextResponse("geodesic explore: expected JSON from its own page\n", 403, _HEADERS)
        content = b""
        async for part in request.stream():
            content += part
            if len(content) > _LARGEST:
                return PlainTextResponse("geodesic explore: the request is too large\n", 413, _HEADERS)
        try:
            fields: Any = json.loads(content)
        except ValueError:
            return PlainTextResponse("geodesic explore: expected JSON\n", 400, _HEADERS)
        work = worker.submit(purpose_of(fields), lambda overtaken: session.answer(fields, overtaken).body)
        try:
            body = await asyncio.wrap_future(work)
        except Overtaken:
            return Response(status_code=204, headers=_HEADERS)
        return Response(body, media_type="application/octet-stream", headers=_HEADERS)

    return Starlette(
        routes=[
            Route("/{token}/ask", ask, methods=["POST"]),
            Route("/{token}/{file}", show),
            Route("/{token}/", show),
        ]
    )


def _is_here(host: str, names: frozenset[str]) -> bool:
    """Whether a Host header names this machine in a way that nobody else can make it be named."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name == "localhost" or name in names:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
