"""The dashboard in a browser, on this machine only.

`textual-serve` starts a dashboard process for every browser tab and carries its screen over a
websocket. It has no login, and browsers let any page open a websocket to this machine. So:

* it binds to 127.0.0.1 and nothing else;
* a request is answered only if its Host is the one served here (another name that points to this
  address is somebody's trick), and if its Origin, where there is one, is this very page;
* the page may load nothing from outside, no fonts either, and no other page may frame it;
* the dashboards are read-only unless it was asked otherwise.
"""

from __future__ import annotations

import re
import shlex
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from kvctl.errors import KvctlError

if TYPE_CHECKING:
    from aiohttp import web

HOST = "127.0.0.1"
DEFAULT_PORT = 8765
WEB_DRIVER = "TEXTUAL_DRIVER"
"""Set in the environment of a dashboard that runs behind a browser tab."""
_OUTSIDE_STYLES = re.compile(r'<link\s[^>]*href="https?://(?!127\.0\.0\.1)[^>]*>', re.DOTALL)

Handler = Callable[["web.Request"], Awaitable["web.StreamResponse"]]


class WebServerError(KvctlError):
    """The dashboard cannot be served."""

    kind = "web"


def dashboard_command(*, cluster: str, replay: str | None, writable: bool, ascii_only: bool) -> str:
    """The shell command that is started for each browser tab."""
    words = [sys.executable, "-m", "kvctl"]
    if replay is None:
        words += ["-c", cluster]
    words.append("dashboard")
    if replay is not None:
        words += ["--replay", replay]
    elif not writable:
        words.append("--read-only")
    if ascii_only:
        words.append("--ascii")
    return shlex.join(words)


def is_own_request(host: str, origin: str | None, port: int) -> bool:
    """Whether a request came from a page served here, or was typed into the address bar."""
    hosts = {f"{HOST}:{port}", f"localhost:{port}"}
    return host in hosts and (origin is None or origin in {f"http://{one}" for one in hosts})


def without_outside_styles(page: str) -> str:
    """The page without what it would fetch from other servers."""
    return _OUTSIDE_STYLES.sub("", page)


def headers_for(port: int) -> dict[str, str]:
    """What the browser is told about what this page may do."""
    own = f"http://{HOST}:{port} http://localhost:{port}"
    policy = (
        f"default-src {own}; style-src {own} 'unsafe-inline'; script-src {own} 'unsafe-inline'; "
        f"img-src {own} data:; connect-src {own} ws://{HOST}:{port} ws://localhost:{port}; "
        "frame-ancestors 'none'"
    )
    return {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }


def serve(command: str, *, port: int, title: str, tell: Callable[[str], None]) -> None:
    """Serve until interrupted; `tell` is given the address once it can be opened.

    Raises `WebServerError` if `textual-serve` is not installed or the port is taken.
    """
    try:
        from textual_serve.server import Server
    except ImportError as error:
        raise WebServerError(
            "the dashboard in a browser needs the package textual-serve.",
            hint="pip install 'kvctl[web]'",
        ) from error
    _check_port(port)
    from aiohttp import web

    headers = headers_for(port)

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not is_own_request(request.host, request.headers.get("Origin"), port):
            return web.Response(status=403, text="this address is for this machine only.\n")
        response = await handler(request)
        if not response.prepared:
            response.headers.update(headers)
            if isinstance(response, web.Response) and response.content_type == "text/html":
                response.text = without_outside_styles(response.text or "")
        return response

    class LocalServer(Server):
        """Guarded, and quiet about itself."""

        def initialize_logging(self) -> None:
            """Leave logging as it is."""

        async def on_startup(self, app: web.Application) -> None:
            """Say where it is."""
            tell(f"{title} is at http://{HOST}:{port}; ctrl+c ends it.")

        async def _make_app(self) -> web.Application:
            app: web.Application = await super()._make_app()
            app.middlewares.append(guard)
            return app

    LocalServer(command, host=HOST, port=port, title=title).serve()


def _check_port(port: int) -> None:
    """Raises `WebServerError` if nobody can listen there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            raise WebServerError(
                f"port {port} of {HOST} cannot be used: {_reason(error)}.",
                hint="--port chooses another one.",
            ) from error


def _reason(error: Exception) -> str:
    return error.strerror or "taken" if isinstance(error, OSError) else "there is no such port"
