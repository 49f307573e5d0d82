"""Lines that a script prints, passed to the pipeline's log and to errors; one thread per process drains them."""

from __future__ import annotations

import collections
import contextlib
import logging
import os
import re
import selectors
import threading
from typing import IO

from beam_tfscript.runtime.transport import stdio
from beam_tfscript.worker.known_noise import is_known_noise

LOGGER = logging.getLogger("beam_tfscript.script")

# A line longer than this is logged in pieces: memory stays bounded whatever the script prints.
_LINE_BYTES = 64 << 10
_READ_BYTES = 256 << 10
# The lines that are kept for errors: enough for a traceback of C++ or of a failed import.
_TAIL_LINES = 40
_TAIL_LINE_CHARS = 500

_LEVELS = {"I": logging.INFO, "W": logging.WARNING, "E": logging.ERROR, "F": logging.CRITICAL}
# A number with more digits is no log level: the script itself printed such marks.
_LEVEL_DIGITS = 4
_RECORD = re.compile(f"{stdio.RECORD_MARK}(\\d+){stdio.FIELD_MARK}(.*?){stdio.FIELD_MARK}(.*)", re.DOTALL)
# The beginning of a line of Google's C++ and absl logging: severity and date, such as `W0000 00:00:17…`.
_GLOG = re.compile(r"([IWEF])\d{4} \d\d:\d\d:")
# The same severity as TensorFlow's own C++ logging shows it: `2024-05-21 12:00:00.1: W tensorflow/…`.
_TENSORFLOW = re.compile(r"\d{4}-\d\d-\d\d [\d:.]+: ([IWEF]) ")


class LogLines:
    """Drains a process's stdout and stderr into the log until both end.

    Each line is logged behind the label of its run. The label comes in the streams themselves: a line that is still in
    the pipe when the next run begins keeps the label of its own run.

    Args:
      stdout, stderr: the pipes; closed at their end.
      name: label of lines that come before the first run.
      level: log level of lines that carry none.
    """

    def __init__(self, stdout: IO[bytes], stderr: IO[bytes], name: str, level: int = logging.INFO):
        self._level = level
        self._labels = {stdout: name, stderr: name}
        # Runs that have begun in each stream. A line in the tail with the newest number is of the present run.
        self._runs = {stdout: 0, stderr: 0}
        self._is_over = {stdout: True, stderr: True}
        self._streams = (stdout, stderr)
        self._rests = {stdout: b"", stderr: b""}
        self._tail: collections.deque[tuple[int, str]] = collections.deque(maxlen=_TAIL_LINES)
        self._is_settled = threading.Event()
        self._asked, asking = os.pipe()
        # A file, not a descriptor: once it is closed, its number may be that of another file.
        self._asking = open(asking, "wb", buffering=0)  # noqa: SIM115 - closed by close()
        self._thread = threading.Thread(target=self._drain, name=f"beam_tfscript-log {name}", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # there can be no more threads
            os.close(self._asked)
            self._asking.close()
            raise

    def tail(self, lines: int = _TAIL_LINES) -> str:
        """Return the last lines of the present run, of both streams in the order in which they came.

        Args:
          lines: the most lines.
        """
        run = max(self._runs.values())
        # Copied in one step, as the thread adds lines meanwhile.
        last = [text for number, text in list(self._tail) if number == run]
        rests = [self._rests[stream][:_TAIL_LINE_CHARS] for stream in self._streams if self._runs[stream] == run]
        last += [parse_line(rest.decode("utf-8", "backslashreplace"))[1] for rest in rests if rest]
        return "\n".join(last[-lines:])

    def settle(self, timeout_s: float) -> None:
        """Wait until all lines are read that the process has printed so far, or for `timeout_s`."""
        self._is_settled.clear()
        if self._thread.is_alive():
            with contextlib.suppress(OSError, ValueError):  # the thread has ended meanwhile, or `close` was called
                self._asking.write(b"?")
                self._is_settled.wait(timeout_s)

    def join(self, timeout_s: float) -> None:
        """Wait for the last lines of a process that has ended."""
        self._thread.join(timeout_s)

    def close(self) -> None:
        """End the thread and wait for it, even if a child of the script lives on and holds the pipes."""
        self._asking.close()
        self._thread.join()

    def _drain(self) -> None:
        stdout, stderr = self._streams
        with (
            selectors.DefaultSelector() as selector,
            stdout,
            stderr,
            open(self._asked, "rb", buffering=0) as asked,
        ):
            selector.register(asked, selectors.EVENT_READ)
            selector.register(stdout, selectors.EVENT_READ)
            selector.register(stderr, selectors.EVENT_READ)
            is_asked = False
            while len(selector.get_map()) > 1:
                # `settle` waits until there is nothing more to read at once.
                ready = selector.select(0 if is_asked else None)
                if not ready:
                    is_asked = False
                    self._is_settled.set()
                for key, _ in ready:
                    stream = key.fileobj
                    data = os.read(key.fd, _READ_BYTES)
                    if stream is asked:
                        if not data:
                            return
                        is_asked = True
                        continue
                    self._take(stream, data)
                    if not data:
                        selector.unregister(stream)
        self._is_settled.set()

    def _take(self, stream, data: bytes) -> None:
        *lines, rest = (self._rests[stream] + data).split(b"\n")
        while len(rest) > _LINE_BYTES or (rest and not data):
            lines.append(rest[:_LINE_BYTES])
            rest = rest[_LINE_BYTES:]
        self._rests[stream] = rest
        for line in lines:
            text, *label = line.decode("utf-8", "backslashreplace").rstrip("\r").split(stdio.RUN_MARK, 1)
            if text or not label:
                try:
                    self._log(text, stream)
                except Exception:
                    # Without a reader the pipe would fill up, and the script would wait for ever.
                    LOGGER.debug("a line cannot be logged: %r", text, exc_info=True)
            if label:
                self._take_mark(stream, label[0])

    def _take_mark(self, stream, label: str) -> None:
        """Note the begin or the end of a run; its label comes a second time at its end."""
        if self._is_over[stream] or label != self._labels[stream]:
            self._runs[stream] += 1
            self._is_over[stream] = False
        else:
            self._is_over[stream] = True
        self._labels[stream] = label

    def _log(self, line: str, stream) -> None:
        level, text = parse_line(line, self._level)
        if is_known_noise(text):
            level = min(level, logging.DEBUG)
        else:
            self._tail.append((self._runs[stream], text[:_TAIL_LINE_CHARS]))
        label = self._labels[stream]
        # Other files log under this name too: only lines of scripts have these attributes.
        LOGGER.log(level, "[%s] %s", label, text, extra={"script_label": label, "script_text": text})


def parse_line(line: str, plain_level: int = logging.INFO) -> tuple[int, str]:
    """Return the log level and the text of a line that the script process printed.

    Args:
      line: the line.
      plain_level: the level of a line that carries none.
    """
    record = _RECORD.match(line)
    if record and len(record.group(1)) <= _LEVEL_DIGITS:
        level, name, text = record.groups()
        text = text.replace(stdio.LINE_MARK, "\n")
        return int(level), text if name == "root" else f"{name}: {text}"
    found = _GLOG.match(line) or _TENSORFLOW.match(line)
    return _LEVELS[found.group(1)] if found else plain_level, line
