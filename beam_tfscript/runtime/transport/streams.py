"""stdout, stderr and logging of the script process: whole lines, with their level.

What is printed goes out line by line. A record of Python's `logging` goes to stderr as one line that
carries its level and logger name, so that the pipeline's process can log it as the same thing:
`\\x1e<level number>\\x1f<logger>\\x1f<message>`, with line ends inside it as `\\x1d`. Where a run begins, both
streams carry a mark and the run's label: what comes after it is that run's.
"""

import io
import logging
import os
import sys

RECORD_MARK = "\x1e"
FIELD_MARK = "\x1f"
LINE_MARK = "\x1d"
RUN_MARK = "\x1c\x1e\x1c"


class _StderrHandler(logging.Handler):
    """Writes log records to stderr in the form above."""

    def emit(self, record):
        try:
            text = self.format(record).replace("\n", LINE_MARK)
            fields = FIELD_MARK.join([str(record.levelno), record.name, text])
            os.write(2, (RECORD_MARK + fields + "\n").encode("utf-8", "backslashreplace"))
        except Exception:  # noqa: BLE001 - what logging asks of every handler
            self.handleError(record)


_HANDLER = _StderrHandler()


def install():
    """Line-buffers stdout and stderr, and points the root logger at stderr; may be called again."""
    for name in ("stdout", "stderr"):
        binary = getattr(sys, "__{}__".format(name)).buffer
        stream = io.TextIOWrapper(binary, encoding="utf-8", errors="backslashreplace", line_buffering=True)
        # The old wrapper would close the descriptor when it is collected.
        _KEPT.append(getattr(sys, "__{}__".format(name)))
        setattr(sys, name, stream)
        setattr(sys, "__{}__".format(name), stream)
    reset_logging()


_KEPT = []  # type: list


def reset_logging():
    """Gives the root logger its one handler and INFO again, whatever the script made of it."""
    root = logging.getLogger()
    root.handlers[:] = [_HANDLER]
    root.setLevel(logging.INFO)


def mark_run(label):
    """Says on both streams that the lines from here on are those of the run `label`."""
    flush()
    for descriptor in (1, 2):
        os.write(descriptor, "{}{}\n".format(RUN_MARK, label).encode("utf-8"))


def flush():
    """Sends on what the script printed without a line end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass  # the script closed or replaced it
