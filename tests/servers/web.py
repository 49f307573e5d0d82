"""A web server that serves one content in the ways that servers do: well, by detours, in parts, late, and not at all.

The path says how: `/plain`, `/redirect`, `/cut`, `/stall`, … as in `_Handler`. What it was asked is kept.
"""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.servers.local_http import serving

CONTENT = bytes(range(256)) * 4096
_STALL_S = 20.0


class WebServer:
    """The server, while its block lasts.

    Attributes:
      url: its address, without a slash at the end.
      asked: (method, path, Range header) of each request.
      content: what it serves.
      tag: the ETag of that, or None.
      location: where `/redirect` leads; None for the same name under `/plain`.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str | None]] = []
        self.content = CONTENT
        self.tag: str | None = '"one"'
        self.location: str | None = None
        self.ended = threading.Event()
        self.url = ""

    def ranges(self) -> list[str | None]:
        """The Range headers of all GET requests."""
        return [asked_range for method, _, asked_range in self.asked if method == "GET"]


@contextmanager
def web_server() -> Iterator[WebServer]:
    """A server that lives as long as the block."""
    state = WebServer()
    with serving(_Handler, state):
        try:
            yield state
        finally:
            state.ended.set()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: WebServer

    def log_message(self, *args) -> None:
        """Nothing: tests ask for `asked`."""

    def do_HEAD(self) -> None:
        """As GET, without the content."""
        self._answer(with_content=False)

    def do_GET(self) -> None:
        """Serve the content in the way that the path says."""
        self._answer(with_content=True)

    def _answer(self, *, with_content: bool) -> None:
        way = self.path.partition("?")[0].split("/")[1]
        before = sum(path == self.path and method == self.command for method, path, _ in self.state.asked)
        self.state.asked.append((self.command, self.path, self.headers["Range"]))
        self.close_connection = True
        if way == "redirect":
            location = self.state.location or f"/plain/{self.path.rpartition('/')[2]}"
            self._send_head(302, {"Location": location}, 0)
        elif way == "loop":
            self._send_head(302, {"Location": self.path}, 0)
        elif way == "status":
            self._send_head(int(self.path.split("/")[2]), {}, 0)
        elif way == "busy" and before < 2:
            self._send_head(503, {}, 0)
        else:
            self._serve(way, before, with_content)

    def _serve(self, way: str, before: int, with_content: bool) -> None:
        content = self.state.content
        start = self._asked_start() if way != "cut_whole" else 0
        headers = {"Accept-Ranges": "bytes"}
        if self.state.tag:
            headers["ETag"] = self.state.tag
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._send_head(206 if start else 200, headers, len(content) - start)
        if not with_content:
            return
        is_cut = way in ("cut", "cut_whole") and before < 2 or way == "cut_always"
        if is_cut or (way == "stall" and before < 1):
            middle = start + (len(content) - start) // 2 if way != "cut_always" else start
            self.wfile.write(content[start:middle])
            self.wfile.flush()
            if way == "stall":
                self.state.ended.wait(_STALL_S)
            return
        if way == "trickle":
            for index in range(len(content)):
                self.wfile.write(content[index : index + 1])
                self.wfile.flush()
                if self.state.ended.wait(0.2):
                    return
        self.wfile.write(content[start:])

    def _asked_start(self) -> int:
        asked, still = self.headers["Range"], self.headers["If-Range"]
        if not asked or (still and still != self.state.tag):
            return 0
        return int(asked.removeprefix("bytes=").partition("-")[0])

    def _send_head(self, status: int, headers: dict[str, str], length: int) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.send_header("Connection", "close")
        self.end_headers()
