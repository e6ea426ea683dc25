"""The server of the page: it answers this computer alone, and what it is asked by the page itself."""

from __future__ import annotations

import os
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from igfiqa_head.demo.private_folder import remove_older

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_FIRST_PORT, _PORTS = 7860, 100
_UNCLAIMED = 3600
"""Seconds until an upload is removed whose tab was closed before it was scored."""


def is_loopback(host: str | None) -> bool:
    """Whether a host, named without its port, is this computer and can be no other."""
    try:
        return host == "localhost" or ip_address(host or "").is_loopback
    except ValueError:
        return False


def listen(host: str, port: int | None) -> socket.socket:
    """A socket that listens at a port, None for a free one from 7860 on.

    Raises:
        ValueError: there is no such port.
        OSError: it is taken, or needs rights that this user has not.
    """
    if port is not None and not 1 <= port <= 65535:
        raise ValueError(f"port must be from 1 to 65535, got {port}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    last = _FIRST_PORT + _PORTS - 1
    for candidate in range(_FIRST_PORT, last + 1) if port is None else [port]:
        try:
            return socket.create_server((host, candidate), family=family)
        except OSError as error:
            reason = error.strerror
    if port is None:
        raise OSError(f"no port from {_FIRST_PORT} to {last} can be opened ({reason}): name one with --port")
    raise OSError(f"port {port} of {host} cannot be opened ({reason}): name another, or none for a free one")


def own_requests_only(app: ASGIApp) -> ASGIApp:
    """The app, deaf to pages of others that a browser on this computer shows.

    Such a page may have a name of its own lead here (DNS rebinding), which ``Host`` tells, or send requests
    to our address, which ``Origin`` tells.
    """
    from starlette.responses import PlainTextResponse

    refusal = PlainTextResponse("This page answers requests from itself alone, on this computer.", 403)

    async def checked(scope: Scope, receive: Receive, send: Send) -> None:
        is_own = scope["type"] == "lifespan" or _is_own(dict(scope["headers"]))
        await (app if is_own else refusal)(scope, receive, send)

    return checked


def _is_own(headers: dict[bytes, bytes]) -> bool:
    host = headers.get(b"host", b"").decode("latin-1")
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    origin = headers.get(b"origin")
    return is_loopback(name) and (origin is None or origin.decode("latin-1") == f"http://{host}")


def import_gradio() -> Any:
    """Gradio; ``ValueError`` if it is not installed."""
    try:
        import gradio
    except ImportError as error:
        raise ValueError(f'the page needs Gradio: pip install "igfiqa-head[demo]" ({error})') from error
    return gradio


@contextmanager
def private_gradio(folder: Path) -> Iterator[None]:
    """Have Gradio keep its files in a folder, each upload apart, and take no other wish from the environment.

    Its variables can have it serve any file, watch folders, record calls, and edit this program. Uploads it
    names by their content, so that two tabs with the same photograph would remove each other's.
    """
    taken = {name: value for name, value in os.environ.items() if name.startswith("GRADIO_")}
    for name in taken:
        del os.environ[name]
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    try:
        with _uploads_apart(import_gradio().route_utils):
            yield
    finally:
        del os.environ["GRADIO_TEMP_DIR"]
        os.environ.update(taken)


@contextmanager
def _uploads_apart(route_utils: Any) -> Iterator[None]:
    by_content: Any = route_utils.GradioUploadFile

    class Upload(by_content):
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            super().__init__(*arguments, **settings)
            self.sha.update(secrets.token_bytes(16))

    route_utils.GradioUploadFile = Upload
    try:
        yield
    finally:
        route_utils.GradioUploadFile = by_content


def serve(app: ASGIApp, listener: socket.socket, folder: Path) -> None:
    """Serve the app until it is interrupted.

    Args:
        app: what answers.
        listener: where.
        folder: of uploads; those that nobody asks for are removed after an hour.

    Raises:
        OSError: the server has ended by itself.
    """
    import uvicorn

    # What is logged beside errors of the system are tracebacks, of uploads that were broken off too.
    settings = uvicorn.Config(app, log_level="critical", proxy_headers=False, ws="none")
    server, ended = uvicorn.Server(settings), threading.Event()

    def run() -> None:
        try:
            server.run([listener])
        finally:
            ended.set()

    threading.Thread(target=run, daemon=True).start()
    try:
        while not ended.wait(60):
            remove_older(folder, _UNCLAIMED)
    except KeyboardInterrupt:
        return
    finally:
        server.should_exit = server.force_exit = True
        ended.wait(5)
    raise OSError("the page's server has ended by itself")
