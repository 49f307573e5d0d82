"""What the script prints, line by line, to the pipeline's log: one thread a process, which always drains."""

from __future__ import annotations

import collections
import logging
import os
import re
import selectors
import threading
from typing import IO

from beam_tfscript.runtime import streams

LOGGER = logging.getLogger("beam_tfscript.script")

# A line longer than this is logged in pieces: memory stays bounded whatever the script prints.
_LINE_BYTES = 64 << 10
_READ_BYTES = 256 << 10
# What an error shows of stderr: enough for a traceback of C++ or of a failed import.
_TAIL_LINES = 40
_TAIL_LINE_CHARS = 500

_LEVELS = {"I": logging.INFO, "W": logging.WARNING, "E": logging.ERROR, "F": logging.CRITICAL}
_RECORD = re.compile(f"{streams.RECORD_MARK}(\\d+){streams.FIELD_MARK}(.*?){streams.FIELD_MARK}(.*)", re.DOTALL)
# How Google's C++ and absl logging begin a line: severity and date, such as `W0000 00:00:17…` or `I0521 12:…`.
_GLOG = re.compile(r"([IWEF])\d{4} \d\d:\d\d:")
# The same severity as TensorFlow's own C++ logging shows it: `2024-05-21 12:00:00.1: W tensorflow/…`.
_TENSORFLOW = re.compile(r"\d{4}-\d\d-\d\d [\d:.]+: ([IWEF]) ")


class LogLines:
    """Drains a process' stdout and stderr into the log until both end.

    Each line is logged with the label of its run before it. The label comes in the streams themselves: a line that
    is still in the pipe when the next run begins keeps the label of its own.

    Args:
      stdout, stderr: the pipes; closed at their end.
      name: what lines carry that come before the first run.
    """

    def __init__(self, stdout: IO[bytes], stderr: IO[bytes], name: str):
        self._labels = {stdout: name, stderr: name}
        self._streams = (stdout, stderr)
        self._rests = {stdout: b"", stderr: b""}
        self._tail: collections.deque[str] = collections.deque(maxlen=_TAIL_LINES)
        self._thread = threading.Thread(target=self._drain, name=f"beam_tfscript-log {name}", daemon=True)
        self._thread.start()

    def tail(self) -> str:
        """The last lines of stderr of the present run."""
        return "\n".join(self._tail)

    def join(self, timeout_s: float) -> None:
        """Waits for the last lines of a process that has ended."""
        self._thread.join(timeout_s)

    def _drain(self) -> None:
        stdout, stderr = self._streams
        with selectors.DefaultSelector() as selector, stdout, stderr:
            selector.register(stdout, selectors.EVENT_READ)
            selector.register(stderr, selectors.EVENT_READ)
            while selector.get_map():
                for key, _ in selector.select():
                    stream = key.fileobj
                    data = os.read(key.fd, _READ_BYTES)
                    self._take(stream, data, is_error=stream is stderr)
                    if not data:
                        selector.unregister(stream)

    def _take(self, stream, data: bytes, *, is_error: bool) -> None:
        *lines, rest = (self._rests[stream] + data).split(b"\n")
        while len(rest) > _LINE_BYTES or (rest and not data):
            lines.append(rest[:_LINE_BYTES])
            rest = rest[_LINE_BYTES:]
        self._rests[stream] = rest
        for line in lines:
            text, *label = line.decode("utf-8", "backslashreplace").rstrip("\r").split(streams.RUN_MARK, 1)
            if text or not label:
                self._log(text, self._labels[stream], is_error)
            if label:
                self._labels[stream] = label[0]
                if is_error:
                    self._tail.clear()

    def _log(self, line: str, label: str, is_error: bool) -> None:
        level, text = parse_line(line)
        if is_error:
            self._tail.append(text[:_TAIL_LINE_CHARS])
        LOGGER.log(level, "[%s] %s", label, text)


def parse_line(line: str) -> tuple[int, str]:
    """The log level and the text of a line that the script process printed."""
    record = _RECORD.match(line)
    if record:
        level, name, text = record.groups()
        text = text.replace(streams.LINE_MARK, "\n")
        return int(level), text if name == "root" else f"{name}: {text}"
    found = _GLOG.match(line) or _TENSORFLOW.match(line)
    return _LEVELS[found.group(1)] if found else logging.INFO, line
