"""stdout, stderr and logging of the script process: whole lines, with their level.

Printed text goes out line by line. A record of Python's `logging` goes to stderr as one line:
`\\x1e<level number>\\x1f<logger>\\x1f<message>`, with line ends inside it as `\\x1d`. So the pipeline's process can log
the record with its own level and logger. At the start of a run, both streams carry a mark and the run's label.
Lines after the mark belong to that run.
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
    """Handler that writes log records to stderr in the form above."""

    def emit(self, record):
        try:
            text = self.format(record).replace("\n", LINE_MARK)
            fields = FIELD_MARK.join([str(record.levelno), record.name, text])
            os.write(2, (RECORD_MARK + fields + "\n").encode("utf-8", "backslashreplace"))
        except Exception:  # noqa: BLE001 - logging expects this of each handler
            self.handleError(record)


_HANDLER = _StderrHandler()
_KEPT = []  # type: list


def install():
    """Line-buffer stdout and stderr, and point the root logger at stderr; may be called again.

    A pipe is block-buffered by default. A script that crashed would lose its last lines, which tell the cause.
    """
    for name in ("stdout", "stderr"):
        binary = getattr(sys, "__{}__".format(name)).buffer
        stream = io.TextIOWrapper(binary, encoding="utf-8", errors="backslashreplace", line_buffering=True)
        # The old wrapper would close the descriptor when it is garbage-collected.
        _KEPT.append(getattr(sys, "__{}__".format(name)))
        setattr(sys, name, stream)
        setattr(sys, "__{}__".format(name), stream)
    reset_logging()


def reset_logging():
    """Give the root logger its one handler and the level INFO, which the script may have changed."""
    root = logging.getLogger()
    root.handlers[:] = [_HANDLER]
    root.setLevel(logging.INFO)


def mark_run(label):
    """Mark on both streams that the next lines belong to the run `label`."""
    # Before the mark: text without a line end is still the run's before.
    flush()
    for descriptor in (1, 2):
        os.write(descriptor, "{}{}\n".format(RUN_MARK, label).encode("utf-8"))


def flush():
    """Write out text that the script printed without a line end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass  # the script closed or replaced the stream
