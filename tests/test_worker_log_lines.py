"""Lines of a script process: their level, their run, and nothing that a script prints can stop them."""

from __future__ import annotations

import logging
import os

import pytest

from beam_tfscript.runtime import streams
from beam_tfscript.worker.log_lines import LogLines, parse_line


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("plain", (logging.INFO, "plain")),
        ("", (logging.INFO, "")),
        ("\x1e40\x1froot\x1fwent wrong", (logging.ERROR, "went wrong")),
        ("\x1e30\x1fmine.too\x1fa\x1db", (logging.WARNING, "mine.too: a\nb")),
        ("\x1enot a record", (logging.INFO, "\x1enot a record")),
        ("\x1eforty\x1fa\x1fb", (logging.INFO, "\x1eforty\x1fa\x1fb")),
        ("W0521 12:00:00.123456 7 file.py:12] careful", (logging.WARNING,)),
        ("E0000 00:00:1795230460.894925    9080 cuda.cc:52] no", (logging.ERROR,)),
        ("2024-05-21 12:00:00.123: W tensorflow/core/x.cc:1] careful", (logging.WARNING,)),
        ("Warm words", (logging.INFO, "Warm words")),
    ],
)
def test_line_has_the_level_it_was_written_with(line, expected):
    level, text = parse_line(line)
    assert (level, text)[: len(expected)] == expected
    assert text in (line, *expected)


def drain(caplog, out, err):
    ends = []
    for data in (out, err):
        reading, writing = os.pipe()
        os.write(writing, data)
        os.close(writing)
        ends.append(os.fdopen(reading, "rb", buffering=0))
    lines = LogLines(*ends, "script.py")
    lines.join(10)
    return lines, [record.getMessage() for record in caplog.records if record.name == "beam_tfscript.script"]


def test_lines_keep_the_label_of_their_own_run(caplog):
    mark = streams.RUN_MARK.encode()
    out = b"early\n" + mark + b"run 1\na\nno end" + mark + b"run 2\nb\nlast"
    err = mark + b"run 1\nold\n" + mark + b"run 2\nnew\n"
    lines, logged = drain(caplog, out, err)
    assert set(logged) == {
        "[script.py] early", "[run 1] a", "[run 1] no end", "[run 2] b", "[run 2] last", "[run 1] old", "[run 2] new",
    }  # fmt: skip
    assert lines.tail() == "new"


def test_long_and_broken_lines_are_logged_in_full(caplog):
    _, logged = drain(caplog, b"\xff\xfe" + b"x" * 60_000, b"")
    assert logged == ["[script.py] \\xff\\xfe" + "x" * 60_000]


def test_line_longer_than_the_bound_comes_in_pieces(caplog):
    import threading

    reading, writing = os.pipe()
    quiet, closed = os.pipe()
    os.close(closed)
    lines = LogLines(os.fdopen(reading, "rb", buffering=0), os.fdopen(quiet, "rb", buffering=0), "s")
    writer = threading.Thread(target=lambda: (os.write(writing, b"y" * 200_000), os.close(writing)))
    writer.start()
    writer.join()
    lines.join(10)
    logged = [record.getMessage() for record in caplog.records if record.name == "beam_tfscript.script"]
    assert len(logged) > 1 and sum(message.count("y") for message in logged) == 200_000
