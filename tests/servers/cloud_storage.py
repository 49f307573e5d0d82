"""A small Cloud Storage: objects in memory, behind the parts of the JSON API that Beam and Google's client use.

https://cloud.google.com/storage/docs/json_api. Google's client finds it by the variable `STORAGE_EMULATOR_HOST`.
It is a metadata server as well, which gives programs on a machine of Google's their credentials:
https://cloud.google.com/compute/docs/metadata/overview.
"""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import re
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager

import google_crc32c

from tests.servers.local_http import serving

BUCKET = "bucket-1"
_OBJECT = re.compile(r"(?:/download)?/storage/v1/b/[^/]+/o/(.+)")


class CloudStorage:
    """The server, while its block lasts.

    Attributes:
      url: its address.
      objects: name -> content of each object.
      unknown: requests that it could not answer.
    """

    def __init__(self) -> None:
        self.url = ""
        self.objects: dict[str, bytes] = {}
        self.unknown: list[str] = []

    def variables(self) -> dict[str, str]:
        """Return the environment variables of programs that use it."""
        host = self.url.removeprefix("http://")
        return {"STORAGE_EMULATOR_HOST": self.url, "GCE_METADATA_HOST": host, "GCE_METADATA_IP": host}


@contextmanager
def cloud_storage() -> Iterator[CloudStorage]:
    """A server with one empty bucket that lives as long as the block."""
    state = CloudStorage()
    with serving(_Handler, state):
        yield state


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: CloudStorage

    def log_message(self, *args) -> None:
        """Nothing: tests look at `objects` and `unknown`."""

    def do_GET(self) -> None:
        """Answer with a bucket, a list of objects, or an object's description or content."""
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        objects = self.state.objects
        if found := _OBJECT.fullmatch(url.path):
            name = urllib.parse.unquote(found[1])
            if name not in objects:
                self._answer(404, b'{"error": {"code": 404, "message": "no such object"}}')
            elif query.get("alt") == "media" or url.path.startswith("/download"):
                self._send_content(objects[name])
            else:
                self._answer(200, self._describe(name))
        elif url.path == f"/storage/v1/b/{BUCKET}":
            self._answer(200, json.dumps({"name": BUCKET, "location": "EUROPE-WEST1"}).encode())
        elif url.path == f"/storage/v1/b/{BUCKET}/o":
            names = [name for name in sorted(objects) if name.startswith(query.get("prefix", ""))]
            items = [json.loads(self._describe(name)) for name in names]
            self._answer(200, json.dumps({"items": items}).encode())
        elif url.path.startswith("/computeMetadata") or url.path == "/":
            self._answer_metadata(url.path)
        else:
            self._refuse()

    def _answer_metadata(self, path: str) -> None:
        texts = {"project-id": b"project-1", "universe-domain": b"googleapis.com"}
        body = texts.get(path.rpartition("/")[2].replace("_", "-"), b"")
        kind = "application/text"
        if "/service-accounts/" in path:
            kind = "application/json"
            body = b'{"email": "me@project-1.example", "scopes": [], "aliases": []}'
            if path.endswith("/token"):
                body = b'{"access_token": "token-1", "expires_in": 3600, "token_type": "Bearer"}'
        self._answer(200, body, **{"Metadata-Flavor": "Google", "Content-Type": kind})

    def do_POST(self) -> None:
        """Begin an upload in parts."""
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        body = self._body()
        if url.path != f"/upload/storage/v1/b/{BUCKET}/o" or query.get("uploadType") != "resumable":
            self._refuse()
            return
        name = query.get("name") or json.loads(body)["name"]
        self.state.objects[name] = b""
        self._answer(200, b"{}", Location=f"{self.state.url}/parts/{urllib.parse.quote(name, safe='')}")

    def do_PUT(self) -> None:
        """Take a part of an upload."""
        name = urllib.parse.unquote(self.path.removeprefix("/parts/"))
        self.state.objects[name] += self._body()
        total = self.headers["Content-Range"].rpartition("/")[2]
        if total == "*" or int(total) > len(self.state.objects[name]):
            self._answer(308, b"", Range=f"bytes=0-{len(self.state.objects[name]) - 1}")
        else:
            self._answer(200, self._describe(name))

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _describe(self, name: str) -> bytes:
        content = self.state.objects[name]
        item = {
            "bucket": BUCKET,
            "name": name,
            "size": str(len(content)),
            "crc32c": base64.b64encode(google_crc32c.value(content).to_bytes(4, "big")).decode(),
            "md5Hash": base64.b64encode(hashlib.md5(content).digest()).decode(),
            "generation": "1",
            "updated": "2024-01-01T00:00:00Z",
            "mediaLink": f"{self.state.url}/download/storage/v1/b/{BUCKET}/o/{urllib.parse.quote(name, safe='')}",
        }
        return json.dumps(item).encode()

    def _send_content(self, content: bytes) -> None:
        if not (asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")):
            self._answer(200, content)
            return
        begin, end = int(asked[1]), min(int(asked[2] or len(content)), len(content) - 1)
        if begin >= len(content):
            self._answer(416, b"")
            return
        part = f"bytes {begin}-{end}/{len(content)}"
        self._answer(206, content[begin : end + 1], **{"Content-Range": part})

    def _refuse(self) -> None:
        self.state.unknown.append(f"{self.command} {self.path}")
        self._answer(501, b"{}")

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
