"""A small MaxCompute: tables in memory, behind the parts of its protocols that pyodps speaks here.

Written from pyodps, the service's public client, and from the public emulator (dingxin-tech/maxcompute-emulator). It is
not the service: it has no SQL but `CREATE TABLE` and `ADD PARTITION`, one account, and no limits. It checks the
signature of each request, as the service does.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import http.server
import io
import itertools
import json
import re
import struct
import threading
import urllib.parse
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import google_crc32c
import pyarrow as pa
import pyarrow.compute as pc

from tests.servers.local_http import serving

ACCESS_ID, ACCESS_KEY = "access-id-7d1f", "secret-key-93ab"
PROJECT = "shop"
_CRC_BYTES = 512 * 1024
_NAME = re.compile(r"`((?:[^`]|``)+)` (.+)")


@dataclasses.dataclass
class StoredTable:
    """A table.

    Attributes:
      columns, partition_columns: (name, type) of each.
      arrow: Arrow schema of the columns, without those of partitions.
      rows: partition such as `pt=1/region=cn`, or "", -> its rows.
      required: names of `NOT NULL` columns.
    """

    columns: list[tuple[str, str]]
    partition_columns: list[tuple[str, str]]
    arrow: pa.Schema
    rows: dict[str, pa.Table]
    required: set[str] = dataclasses.field(default_factory=set)

    def all_rows(self) -> list[dict]:
        """Return all rows as dicts, with the partitions' values."""
        return [
            {**row, **dict(part.split("=") for part in partition.split("/") if part)}
            for partition, table in self.rows.items()
            for row in table.to_pylist()
        ]


class MaxCompute:
    """The server, while its block lasts.

    Attributes:
      url: its address, without a slash at the end.
      tables: name -> table.
      asked: (method, path with query) of each request.
      unknown: requests that it could not answer.
      faults: called with (method, path, query) before each request; a status in place of None is the answer. "cut"
        sends half of the answer, or none of an empty one.
      has_storage_api: False for a project without the Storage API.
      rows_per_size_split: rows per split, of reads whose splits are by size.
      sent_columns: the columns of each answer with rows.
      tokens: temporary tokens of requests.
    """

    def __init__(self) -> None:
        self.url = ""
        self.tables: dict[str, StoredTable] = {}
        self.asked: list[tuple[str, str]] = []
        self.unknown: list[str] = []
        self.faults: list[Callable[[str, str, dict[str, str]], Any]] = []
        self.has_storage_api = True
        self.rows_per_size_split = 10
        self.sessions: dict[str, dict[str, Any]] = {}
        self.lock = threading.RLock()
        self.numbers = itertools.count(1)
        self.sent_columns: set[tuple[str, ...]] = set()
        self.tokens: set[str] = set()

    def variables(self) -> dict[str, str]:
        """Return the environment variables of programs that use it."""
        return {
            "ODPS_ENDPOINT": self.url,
            "ODPS_TUNNEL_ENDPOINT": self.url,
            "ODPS_ACCESS_ID": ACCESS_ID,
            "ODPS_ACCESS_KEY": ACCESS_KEY,
        }

    def add_table(self, name: str, columns: str, partition_columns: str = "", rows: Any = None) -> StoredTable:
        """Add a table.

        Args:
          name: its name.
          columns, partition_columns: definitions such as "id string, x array<bigint> not null".
          rows: list of dicts; or dict, partition -> list of dicts.
        """
        from beam_tfscript.tables.column_types import arrow_type_of, as_type

        definitions = [part.strip().split(" ", 1) for part in _split(columns)]
        required = {column for column, kind in definitions if kind.lower().endswith(" not null")}
        kinds = [(column, re.sub(r"(?i) not null$", "", kind).lower()) for column, kind in definitions]
        keys = [tuple(part.strip().lower().split(" ", 1)) for part in _split(partition_columns)]
        fields = []
        for column, kind in kinds:
            # Types that are not read here are texts in this server.
            is_known = "interval" not in kind
            fields.append((column, arrow_type_of(as_type(kind)) if is_known else pa.string()))
        arrow = pa.schema(fields)
        by_partition = rows if isinstance(rows, dict) else {"": rows or []} if not keys else {}
        stored = {key: pa.Table.from_pylist(each, schema=arrow) for key, each in by_partition.items()}
        table = StoredTable(kinds, keys, arrow, stored, required)
        with self.lock:
            self.tables[name] = table
        return table

    def requests(self, method: str, part: str) -> list[str]:
        """Return the paths of requests of a method that contain a text."""
        return [path for asked, path in self.asked if asked == method and part in path]


@contextmanager
def maxcompute() -> Iterator[MaxCompute]:
    """A server that lives as long as the block."""
    state = MaxCompute()
    with serving(_Handler, state):
        yield state


class _Refused(Exception):
    def __init__(self, status: int, code: str, message: str):
        super().__init__(message)
        self.status, self.code = status, code


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: MaxCompute
    # An idle connection must not keep the server from ending.
    timeout = 5.0

    def log_message(self, *args) -> None:
        """Nothing: tests look at `asked` and `unknown`."""

    def do_GET(self) -> None:
        """Answer a request."""
        self._handle()

    def do_POST(self) -> None:
        """Answer a request."""
        self._handle()

    def do_PUT(self) -> None:
        """Answer a request."""
        self._handle()

    def _handle(self) -> None:
        body = self._body()
        url = urllib.parse.urlsplit(self.path)
        self.query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        self.state.asked.append((self.command, self.path))
        self.is_cut = False
        try:
            for fault in list(self.state.faults):
                outcome = fault(self.command, self.path, self.query)
                if outcome == "cut":
                    self.is_cut = True
                elif outcome is not None:
                    raise _Refused(outcome, "InternalServerError", "The server is in trouble.")
            self._check_signature(url)
            with self.state.lock:
                self._answer_request(url.path, body)
        except _Refused as refused:
            self._answer_error(refused)

    def _answer_request(self, path: str, body: bytes) -> None:
        parts = [urllib.parse.unquote(part) for part in path.strip("/").split("/")]
        if parts[:3] == ["api", "storage", "v1"]:
            self._answer_storage(parts[3:], body)
        elif parts[0] == "tenants":
            self._send(200, b'{"TenantId": "1", "TenantState": "NORMAL"}')
        elif parts[0] == "projects":
            if len(parts) > 1 and parts[1] != PROJECT:
                raise _Refused(404, "NoSuchProject", f"ODPS-0420095: no project {parts[1]}")
            self._answer_project(parts[2:], body)
        else:
            self._refuse()

    def _answer_project(self, parts: list[str], body: bytes) -> None:
        if parts == ["instances"] and self.command == "POST":
            self._run_sql(body)
        elif parts[:1] == ["instances"]:
            self._send_xml(self._instance(parts[1]))
        elif parts[:1] == ["tables"] and len(parts) == 2:
            self._answer_table(parts[1])
        elif not parts and self.command == "GET":
            self._send_xml(f"<Project><Name>{PROJECT}</Name></Project>")
        elif parts == ["logs"]:
            self._send(200, b"")
        else:
            self._refuse()

    def _table(self, name: str) -> StoredTable:
        if name.lower() not in self.state.tables:
            raise _Refused(404, "NoSuchTable", f"ODPS-0130131: Table not found - table {PROJECT}.{name}")
        return self.state.tables[name.lower()]

    def _answer_table(self, name: str) -> None:
        table, query = self._table(name), self.query
        if "partitions" in query:
            self._send_xml(self._partitions(table))
        elif "downloads" in query or "downloadid" in query:
            self._answer_download(table)
        elif "uploads" in query or "uploadid" in query:
            self._answer_upload(table)
        elif self.command == "GET":
            schema = {
                "columns": [
                    {"name": column, "type": kind, "isNullable": column not in table.required}
                    for column, kind in table.columns
                ],
                "partitionKeys": [{"name": column, "type": kind} for column, kind in table.partition_columns],
            }
            root = ElementTree.Element("Table")
            ElementTree.SubElement(root, "Name").text = name
            ElementTree.SubElement(root, "Type").text = "MANAGED_TABLE"
            ElementTree.SubElement(root, "Schema", format="Json").text = json.dumps(schema)
            self._send_xml(ElementTree.tostring(root, encoding="unicode"))
        else:
            self._refuse()

    def _partitions(self, table: StoredTable) -> str:
        wanted = [part.replace("'", "") for part in self.query.get("partition", "").split(",") if part]
        root = ElementTree.Element("Partitions")
        for partition in sorted(table.rows):
            if all(part in partition.split("/") for part in wanted):
                element = ElementTree.SubElement(root, "Partition")
                for part in partition.split("/"):
                    column, _, value = part.partition("=")
                    ElementTree.SubElement(element, "Column", Name=column, Value=value)
        return ElementTree.tostring(root, encoding="unicode")

    # SQL

    def _run_sql(self, body: bytes) -> None:
        query = next(ElementTree.fromstring(body).iter("Query")).text.strip().rstrip(";")
        number = f"instance{next(self.state.numbers)}"
        self.state.sessions[number] = {"error": None, "task": next(ElementTree.fromstring(body).iter("SQL")).find(
            "Name").text}  # fmt: skip
        try:
            self._execute(query)
        except _Refused as refused:
            self.state.sessions[number]["error"] = str(refused)
        self._send(201, b"", Location=f"{self.state.url}/projects/{PROJECT}/instances/{number}")

    def _execute(self, query: str) -> None:
        flat = " ".join(query.split())
        if create := re.fullmatch(
            r"CREATE TABLE (IF NOT EXISTS )?[\w.]*?`?(\w+)`? ?\( (.+?) \)"
            r"( PARTITIONED BY \( (.+?) \))?( LIFECYCLE \d+)?",
            flat,
        ):
            if create[2].lower() in self.state.tables:
                if not create[1]:
                    raise _Refused(400, "ParseError", "ODPS-0130071: the table exists")
                return
            columns = ", ".join(_definition(part) for part in _split(create[3]))
            keys = ", ".join(_definition(part) for part in _split(create[5] or ""))
            self.state.add_table(create[2].lower(), columns, keys)
        elif alter := re.fullmatch(r"ALTER TABLE [\w.]*?`?(\w+)`? ADD IF NOT EXISTS PARTITION \((.+)\)", flat):
            table = self._table(alter[1])
            partition = "/".join(part.strip().replace("'", "") for part in alter[2].split(","))
            table.rows.setdefault(partition, table.arrow.empty_table())
        else:
            self.state.unknown.append(query)
            raise _Refused(400, "ParseError", f"ODPS-0130161: Parse exception - {query}")

    def _instance(self, number: str) -> str:
        found = self.state.sessions[number]
        if "result" in self.query:
            return (
                f'<Instance><Tasks><Task Type="SQL"><Name>{found["task"]}</Name><Result Format="text">'
                f"{found['error']}</Result></Task></Tasks></Instance>"
            )
        status = "Failed" if found["error"] else "Success"
        return (
            f'<Instance><Status>Terminated</Status><Tasks><Task Type="SQL"><Name>{found["task"]}</Name>'
            f"<Status>{status}</Status></Task></Tasks></Instance>"
        )

    # The Storage API

    def _answer_storage(self, parts: list[str], body: bytes) -> None:
        if not self.state.has_storage_api:
            raise _Refused(403, "NoPermission", "ODPS-0130013: the project has no Storage API")
        name, rest, query = parts[5], parts[6:], self.query
        table = self._table(name)
        if rest == ["sessions"] and query["session_type"] == "batch_read":
            self._create_read(name, table, json.loads(body))
        elif rest == ["sessions"]:
            self._create_write(name, table, json.loads(body))
        elif rest == ["data"] and self.command == "GET":
            self._send_rows()
        elif rest == ["commit"]:
            self._commit(self._session(query["session_id"]), json.loads(body)["CommitMessages"])
        elif rest[:1] == ["sessions"] and rest[2:] == ["data"]:
            self._take_block(self._session(rest[1]), table, body)
        elif rest[:1] == ["sessions"]:
            self._send_session(200, rest[1], self._session(rest[1]))
        else:
            self._refuse()

    def _session(self, number: str) -> dict[str, Any]:
        if number not in self.state.sessions:
            raise _Refused(404, "NoSuchObject", f"there is no session {number}")
        return self.state.sessions[number]

    def _create_read(self, name: str, table: StoredTable, request: dict[str, Any]) -> None:
        names = {column for column, _ in (*table.columns, *table.partition_columns)}
        wanted = request["RequiredDataColumns"] or [column for column, _ in table.columns]
        keys = request["RequiredPartitionColumns"]
        unknown = [column for column in (*wanted, *keys) if column not in names]
        if unknown:
            raise _Refused(400, "InvalidArgument", f"no columns {unknown}")
        partitions = request["RequiredPartitions"] or list(table.rows)
        pieces = [_with_keys(table, partition, keys, wanted) for partition in partitions if partition in table.rows]
        rows = pa.concat_tables(pieces) if pieces else None
        session: dict[str, Any] = {"status": "NORMAL", "type": "batch_read", "rows": rows}
        count = 0 if rows is None else rows.num_rows
        if request["FilterPredicate"]:
            column, number = re.fullmatch(r"(\w+) > (\d+)", request["FilterPredicate"]).groups()
            session["rows"] = rows.filter(pc.field(column) > int(number))
            count = session["rows"].num_rows
        if request["SplitOptions"]["SplitMode"] == "RowOffset":
            session["count"] = count
        else:
            session["splits"] = -(-count // self.state.rows_per_size_split)
        number = f"read{next(self.state.numbers)}"
        self.state.sessions[number] = session
        self._send_session(201, number, session)

    def _send_session(self, status: int, number: str, session: dict[str, Any]) -> None:
        answer = {"SessionId": number, "SessionType": session["type"], "SessionStatus": session["status"]}
        if session["type"] == "batch_write":
            answer["MaxBlockNumber"] = session.get("max_blocks", 20000)
        for key, name in (("count", "RecordCount"), ("splits", "SplitsCount")):
            if key in session:
                answer[name] = session[key]
        self._send(status, json.dumps(answer).encode())

    def _send_rows(self) -> None:
        session, query = self._session(self.query["session_id"]), self.query
        if "count" in session:
            rows = session["rows"].slice(int(query["row_index"]), int(query["row_count"]))
        else:
            size = self.state.rows_per_size_split
            rows = session["rows"].slice(int(query["split_index"]) * size, size)
        self.state.sent_columns.add(tuple(rows.schema.names))
        compression = "lz4" if self.headers["Accept-Encoding"] == "LZ4_FRAME" else None
        sink = io.BytesIO()
        with pa.ipc.new_stream(sink, rows.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
            writer.write_table(rows, max_chunksize=int(query["max_batch_rows"]))
        self._send(200, sink.getvalue(), **{"Content-Type": "application/octet-stream"})

    def _create_write(self, name: str, table: StoredTable, request: dict[str, Any]) -> None:
        partition = request["PartitionSpec"]
        if partition and partition not in table.rows:
            raise _Refused(404, "NoSuchPartition", f"no partition {partition}")
        number = f"write{next(self.state.numbers)}"
        session = {"status": "NORMAL", "type": "batch_write", "table": name, "partition": partition, "blocks": {},
                   "overwrite": request["Overwrite"]}  # fmt: skip
        self.state.sessions[number] = session
        self._send_session(201, number, session)

    def _take_block(self, session: dict[str, Any], table: StoredTable, body: bytes) -> None:
        key = f"{self.query['block_number']}-{self.query['attempt_number']}"
        rows = pa.ipc.open_stream(body).read_all()
        keys = [] if session["partition"] else [column for column, _ in table.partition_columns]
        if rows.schema.names != [*table.arrow.names, *keys] or rows.select(table.arrow.names).schema != table.arrow:
            raise _Refused(400, "InvalidArgument", f"the block has {rows.schema}, and the table {table.arrow}")
        session["blocks"][key] = rows
        self._send(200, json.dumps({"CommitMessage": key}).encode())

    def _commit(self, session: dict[str, Any], messages: list[str]) -> None:
        if session["status"] != "NORMAL":
            raise _Refused(400, "InvalidStateSetting", "the session is committed")
        numbers = [message.partition("-")[0] for message in messages]
        if len(set(numbers)) < len(numbers):
            raise _Refused(400, "InvalidArgument", "two attempts at one block")
        self._store(session, [session["blocks"][message] for message in messages])
        self._send_session(201, self.query["session_id"], session)

    def _store(self, session: dict[str, Any], blocks: list[pa.Table]) -> None:
        table = self._table(session["table"])
        session["status"] = "COMMITTED"
        written: dict[str, list[pa.Table]] = {session["partition"]: []} if (
            session["partition"] or not table.partition_columns) else {}  # fmt: skip
        keys = [column for column, _ in table.partition_columns]
        for block in blocks:
            if session["partition"] or not keys:
                written[session["partition"]].append(block)
                continue
            for values in block.select(keys).group_by(keys).aggregate([]).to_pylist():
                chosen = block
                for column, value in values.items():
                    chosen = chosen.filter(pc.field(column) == value)
                partition = "/".join(f"{column}={values[column]}" for column in keys)
                written.setdefault(partition, []).append(chosen.select(table.arrow.names))
        for partition, pieces in written.items():
            before = [] if session["overwrite"] else [table.rows.get(partition, table.arrow.empty_table())]
            table.rows[partition] = pa.concat_tables([*before, *pieces, table.arrow.empty_table()])

    # The tunnel

    def _answer_download(self, table: StoredTable) -> None:
        query = self.query
        partition = query.get("partition", "").replace(",", "/")
        if partition not in table.rows:
            raise _Refused(404, "NoSuchPartition", f"no partition {partition!r}")
        if "data" in query:
            start, count = map(int, re.fullmatch(r"\((\d+),(\d+)\)", query["rowrange"]).groups())
            names = query["columns"].split(",") if "columns" in query else table.arrow.names
            # The tunnel sends columns in the table's order.
            rows = table.rows[partition].select([name for name in table.arrow.names if name in names])
            self.state.sent_columns.add(tuple(rows.schema.names))
            self._send(200, _arrow_frames(rows.slice(start, count)))
            return
        number = query.get("downloadid") or f"download{next(self.state.numbers)}"
        answer = {"DownloadID": number, "Status": "normal", "RecordCount": table.rows[partition].num_rows}
        self._send(200, json.dumps({**answer, "Schema": _tunnel_schema(table)}).encode())

    def _answer_upload(self, table: StoredTable) -> None:
        query = self.query
        partition = query.get("partition", "").replace(",", "/")
        name = urllib.parse.urlsplit(self.path).path.rpartition("/")[2]
        if "uploads" in query:
            if bool(partition) != bool(table.partition_columns) or (partition and partition not in table.rows):
                raise _Refused(404, "NoSuchPartition", f"no partition {partition!r}")
            number = f"upload{next(self.state.numbers)}"
            overwrite = query.get("overwrite") == "true"
            self.state.sessions[number] = {
                "status": "NORMAL", "table": name, "partition": partition, "blocks": {}, "overwrite": overwrite,
            }  # fmt: skip
            return self._send_upload(number, table)
        session = self._session(query["uploadid"])
        if self.command == "PUT":
            session["blocks"][query["blockid"]] = _read_arrow_frames(table, self.request_body)
            return self._send(200, b"")
        if self.command == "POST":
            if session["status"] != "NORMAL":
                raise _Refused(400, "InvalidStateSetting", "the session is committed")
            self._store(session, list(session["blocks"].values()))
        return self._send_upload(query["uploadid"], table)

    def _send_upload(self, number: str, table: StoredTable) -> None:
        session = self.state.sessions[number]
        blocks = [{"BlockID": int(block)} for block in session["blocks"]]
        status = "closed" if session["status"] == "COMMITTED" else "normal"
        answer = {"UploadID": number, "Status": status, "UploadedBlockList": blocks, "Schema": _tunnel_schema(table)}
        self._send(200, json.dumps(answer).encode())

    # HTTP

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            self.request_body = b"".join(parts)
        else:
            self.request_body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return self.request_body

    def _check_signature(self, url: urllib.parse.SplitResult) -> None:
        if token := self.headers["authorization-sts-token"]:
            self.state.tokens.add(token)
        access_id, _, signature = (self.headers["Authorization"] or "").removeprefix("ODPS ").rpartition(":")
        signed = {"content-type": "", "content-md5": "", "date": self.headers["Date"] or ""}
        for name, value in self.headers.items():
            if name.lower() in signed or name.lower().startswith("x-odps-"):
                signed[name.lower()] = value
        lines = [self.command]
        lines += [f"{name}:{value}" if name.startswith("x-odps-") else value for name, value in sorted(signed.items())]
        query = "&".join(f"{name}={value}" if value else name for name, value in sorted(self.query.items()))
        lines.append(urllib.parse.unquote(url.path) + (f"?{query}" if query else ""))
        access_id, *scope = access_id.split("/")
        digest = hmac.new(_signing_key(scope), "\n".join(lines).encode(), hashlib.sha1).digest()
        if access_id != ACCESS_ID:
            raise _Refused(401, "Unauthorized", f"ODPS-0410031: Authentication failed - no access id {access_id}")
        if signature != base64.b64encode(digest).decode():
            raise _Refused(401, "Unauthorized", "ODPS-0410042: Invalid signature value")

    def _refuse(self) -> None:
        self.state.unknown.append(f"{self.command} {self.path}")
        raise _Refused(501, "NotImplemented", "not here")

    def _answer_error(self, refused: _Refused) -> None:
        is_json = self.path.startswith("/api/storage")
        fields = {"Code": refused.code, "Message": str(refused), "RequestId": "request-1", "HostId": "host-1"}
        if is_json:
            self._send(refused.status, json.dumps(fields).encode())
            return
        root = ElementTree.Element("Error")
        for name, value in fields.items():
            ElementTree.SubElement(root, name).text = value
        self._send_xml(ElementTree.tostring(root, encoding="unicode"), refused.status)

    def _send_xml(self, text: str, status: int = 200) -> None:
        self._send(status, text.encode(), **{"Content-Type": "application/xml"})

    def _send(self, status: int, body: bytes, **headers: str) -> None:
        if self.is_cut and not body:
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in {"x-odps-request-id": "request-1", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.is_cut:
            self.close_connection = True
            body = body[: len(body) // 2]
        self.wfile.write(body)


def _signing_key(scope: list[str]) -> bytes:
    """Return the key of a signature: of version 2 without a scope, else of version 4, for a day and a region."""
    if not scope:
        return ACCESS_KEY.encode()
    *parts, request = scope
    key = (request.removesuffix("_request") + ACCESS_KEY).encode()
    for part in (*parts, request):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key


def _split(text: str) -> list[str]:
    """Split definitions at commas outside brackets."""
    parts, depth, start = [], 0, 0
    for at, char in enumerate(text):
        depth += (char in "<(") - (char in ">)")
        if char == "," and not depth:
            parts.append(text[start:at])
            start = at + 1
    return [part for part in (*parts, text[start:]) if part.strip()]


def _definition(text: str) -> str:
    name, kind = _NAME.fullmatch(text.strip()).groups()
    return f"{name.lower()} {kind}"


def _with_keys(table: StoredTable, partition: str, keys: list[str], wanted: list[str]) -> pa.Table:
    """Return a partition's rows with partition columns."""
    from beam_tfscript.tables.column_types import arrow_type_of, as_type

    rows, values = table.rows[partition].select(wanted), dict(part.split("=") for part in partition.split("/") if part)
    kinds = dict(table.partition_columns)
    for key in keys:
        column = pa.array([values[key]] * rows.num_rows, pa.string()).cast(arrow_type_of(as_type(kinds[key])))
        rows = rows.append_column(key, column)
    return rows


def _tunnel_schema(table: StoredTable) -> dict[str, Any]:
    columns = [{"name": name, "type": kind, "isNullable": name not in table.required} for name, kind in table.columns]
    return {"columns": columns, "partitionKeys": [{"name": n, "type": kind} for n, kind in table.partition_columns]}


def _arrow_frames(rows: pa.Table) -> bytes:
    """Return Arrow messages of a download: without a schema, in chunks with checksums."""
    data = b"".join(batch.serialize().to_pybytes() for batch in rows.to_batches())
    return _checked(data)


def _checked(data: bytes) -> bytes:
    out = [struct.pack("!I", _CRC_BYTES)]
    for at in range(0, len(data), _CRC_BYTES):
        chunk = data[at : at + _CRC_BYTES]
        # The last chunk that is not full has the checksum of all the data.
        checked = chunk if len(chunk) == _CRC_BYTES else data
        out += [chunk, struct.pack("!I", google_crc32c.value(checked))]
    return b"".join(out)


def _read_arrow_frames(table: StoredTable, body: bytes) -> pa.Table:
    (size,), body = struct.unpack("!I", body[:4]), body[4:]
    data = b""
    while body:
        chunk = body[: size + 4] if len(body) > size + 4 else body
        body = body[len(chunk) :]
        data += chunk[:-4]
        whole = len(chunk) - 4 == size
        assert struct.unpack("!I", chunk[-4:])[0] == google_crc32c.value(chunk[:-4] if whole else data)
    stream = table.arrow.serialize().to_pybytes() + data
    return pa.ipc.open_stream(stream).read_all()
