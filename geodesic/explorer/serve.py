"""The explorer on a port of this machine, until Ctrl-C."""

from __future__ import annotations

import ipaddress
import secrets
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from geodesic.errors import InputError
from geodesic.explorer.scene import Scene
from geodesic.explorer.server import make_app
from geodesic.explorer.session import Session
from geodesic.installation import require

if TYPE_CHECKING:
    import uvicorn

__all__ = ["PORT", "listen", "make_server", "serve"]

PORT = 8765
_NEXT = 20  # ports that are tried from the usual one on


def listen(host: str, port: int | None) -> socket.socket:
    """A socket that listens: on the port, or, where none is named, on the first free one from `PORT` on.

    Args:
        host: Address of this machine.
        port: 0 for any that is free; None for the usual one, or the next.

    Raises:
        InputError: The port is in use, or the address is none of this machine's.

    Example:
        >>> from geodesic.explorer.serve import listen
        >>> with listen("127.0.0.1", 0) as found:
        ...     print(found.getsockname()[0])
        127.0.0.1
    """
    last: OSError | None = None
    for wanted in range(PORT, PORT + _NEXT) if port is None else (port,):
        try:
            return socket.create_server((host, wanted), family=_family(host))
        except OSError as error:
            last = error
            if isinstance(error, socket.gaierror):
                break
    which = f"port {port}" if port is not None else f"ports {PORT} to {PORT + _NEXT - 1}"
    raise InputError(f"--port, --host: cannot listen on {host}, {which} ({last}); choose others, or leave --port out")


def serve(scene: Scene, host: str, port: int | None, ready: Callable[[str], Any]) -> None:
    """Serve the page until Ctrl-C, which ends it at once.

    Args:
        scene: What is explored.
        host: Address of this machine: 127.0.0.1 is for this machine alone.
        port: See `listen`.
        ready: Called with the address once it can be opened.

    Raises:
        InputError: As from `listen`.
        MissingExtraError: starlette or uvicorn is not installed.
        KeyboardInterrupt: Ctrl-C.
    """
    require("explore", "starlette", "uvicorn")
    token = secrets.token_urlsafe(16)
    names = frozenset() if _only_here(host) else frozenset({socket.gethostname().lower()})
    with listen(host, port) as found:
        app = make_app(Session(scene), token, names)
        named = f"[{host}]" if ":" in host else "127.0.0.1" if host in ("", "0.0.0.0") else host
        address = f"http://{named}:{found.getsockname()[1]}/{token}/"
        make_server(app, lambda: ready(address)).run(sockets=[found])


def make_server(app: Any, ready: Callable[[], Any]) -> uvicorn.Server:
    """A server that tells when it is up, and waits for nobody when it is told to end.

    Args:
        app: Of `make_app`.
        ready: Called when it is up.
    """
    import uvicorn

    class Server(uvicorn.Server):
        """With what `make_server` says."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready()

        def handle_exit(self, sig: int, frame: Any) -> None:
            self.force_exit = True
            super().handle_exit(sig, frame)

    return Server(uvicorn.Config(app, log_level="warning", access_log=False, ws="none", lifespan="off"))


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _only_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
