"""Serves a page over HTTP that is made anew whenever what it shows has changed."""

import base64
import hashlib
import ipaddress
import os
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from jaxpg.core.errors import UserError
from jaxpg.machine.console import say
from jaxpg.viewing.report_page import PAGE

SECONDS_FOR_A_REQUEST = 30.0
LOOPBACK = "127.0.0.1"
PAUSE = 10.0
"""How many times as long as making the page the pause after it takes at least, because the training needs the cores."""


class KeptPage:
    """A page that is made again when a file that it shows has changed.

    Args:
      make: makes the page.
      folders: the folders whose files it shows, with their subfolders ``videos`` and ``checkpoints``.
    """

    def __init__(self, make: Callable[[], str], folders: Sequence[Path]):
        self._make, self._folders = make, folders
        self._lock = threading.Lock()  # Matplotlib draws for one thread at a time
        self._state: object = None
        self._content = b""
        self._next_at = 0.0  # when the page may be made again

    def content(self) -> bytes:
        """The page as it is now; raises UserError where it cannot be made."""
        with self._lock:
            state = [_state(place) for folder in self._folders for place in _places(folder)]
            began = time.monotonic()
            if state != self._state and began >= self._next_at:
                self._content = _kept_current(self._make()).encode("utf-8", "backslashreplace")
                self._state = state
                self._next_at = time.monotonic() + PAUSE * (time.monotonic() - began)
            return self._content


def serve(page: KeptPage, host: str, port: int) -> None:
    """Serves the page until a signal ends the command. The page is at ``/``, and there is nothing else.

    Args:
      page: the page.
      host: the address to listen on.
      port: the port; 0 for any free one.

    Raises:
      UserError: the page cannot be made, or nothing can listen there.
    """
    page.content()
    with _Server(page, host, port) as server:
        shown = f"[{host}]" if ":" in host else host
        say(f"jaxpg: http://{shown}:{server.server_address[1]}/ shows the page and keeps it current; Ctrl-C ends it")
        if not _is_loopback(host):
            say("jaxpg: whoever reaches this machine can read the page", error=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            while thread.is_alive():
                thread.join(1.0)
        finally:
            server.shutdown()


class _Server(socketserver.ThreadingTCPServer):
    """Listens for requests. Unlike ``http.server``'s own class, it asks nobody for its name."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, page: KeptPage, host: str, port: int):
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), partial(_Handler, page, host))
        except OSError as error:
            raise UserError(f"nothing can listen on {host}, port {port}: {error.strerror or error}") from error
        except (OverflowError, UnicodeError) as error:
            raise UserError(f"no address: host {host!r}, port {port}") from error

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        if not isinstance(error, OSError):  # such as a browser that was closed
            say(f"jaxpg: a request failed: {type(error).__name__}: {error}", error=True)


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD of ``/``, and nothing else."""

    timeout = SECONDS_FOR_A_REQUEST
    server_version, sys_version = "jaxpg", ""

    def __init__(self, page: KeptPage, host: str, *arguments: Any):
        self._page, self._host = page, host
        super().__init__(*arguments)

    def do_GET(self) -> None:
        if not _is_own_name(self.headers.get("Host", ""), self._host):
            self._answer(HTTPStatus.MISDIRECTED_REQUEST, b"this server has another name\n")
        elif self.path != "/":
            self._answer(HTTPStatus.NOT_FOUND, b"there is only one page, /\n")
        else:
            try:
                content = self._page.content()
            except UserError as error:
                self._answer(HTTPStatus.SERVICE_UNAVAILABLE, f"{error}\n".encode("utf-8", "backslashreplace"))
                return
            tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
            if self.headers.get("If-None-Match") == tag:
                self._answer(HTTPStatus.NOT_MODIFIED, b"", tag=tag)
            else:
                self._answer(HTTPStatus.OK, content, kind="text/html", tag=tag)

    def do_HEAD(self) -> None:
        self.do_GET()

    def _answer(self, status: HTTPStatus, content: bytes, *, kind: str = "text/plain", tag: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("X-Frame-Options", "DENY")
        if tag:
            self.send_header("ETag", tag)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Says nothing about single requests."""


def _kept_current(page: str) -> str:
    """Adds to a page the script that asks for it again, and to its policy that this script may ask its own server."""
    script = (PAGE / "live.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = page.replace("script-src '", f"connect-src 'self'; script-src 'sha256-{digest}' '", 1)
    before, script_tag, own = page.rpartition("<script>")
    return f"{before}<script>{script}</script>\n{script_tag}{own}"


def _places(folder: Path) -> list[Path]:
    found = [folder]
    for place in (folder, folder / "videos", folder / "checkpoints"):
        with suppress(OSError):
            found += sorted(Path(entry.path) for entry in os.scandir(place))
    return found


def _state(path: Path) -> tuple[str, int, int]:
    try:
        found = path.stat()
    except OSError:
        return str(path), 0, 0
    return str(path), found.st_size, found.st_mtime_ns


def _is_own_name(header: str, host: str) -> bool:
    """Whether a request was meant for this server: for an address, this machine's name, or the name that it listens on.

    Otherwise a foreign page, whose name its owner lets point here, could read this one.
    """
    name = header.rpartition(":")[0] if header.rpartition(":")[2].isdigit() else header
    return _is_address(name.strip("[]")) or name.lower() in {"localhost", host.lower(), socket.gethostname().lower()}


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)
