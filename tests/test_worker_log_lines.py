"""Lines of a script process: their level, their run, and nothing that a script prints can stop them."""

from __future__ import annotations

import logging
import os
import time

import pytest

from beam_tfscript.runtime.transport import stdio
from beam_tfscript.worker.known_noise import is_known_noise
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
        ("\x1e99999\x1fa\x1fb", (logging.INFO, "\x1e99999\x1fa\x1fb")),
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
    lines.close()
    return lines, [record.getMessage() for record in caplog.records if record.name == "beam_tfscript.script"]


def test_lines_keep_the_label_of_their_own_run(caplog):
    mark = stdio.RUN_MARK.encode()
    out = b"early\n" + mark + b"run 1\na\nno end" + mark + b"run 2\nb\nlast"
    err = mark + b"run 1\nold\n" + mark + b"run 2\nnew\n"
    lines, logged = drain(caplog, out, err)
    assert set(logged) == {
        "[script.py] early", "[run 1] a", "[run 1] no end", "[run 2] b", "[run 2] last", "[run 1] old", "[run 2] new",
    }  # fmt: skip
    assert sorted(lines.tail().splitlines()) == ["b", "last", "new"]


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
    lines.close()
    logged = [record.getMessage() for record in caplog.records if record.name == "beam_tfscript.script"]
    assert len(logged) > 1 and sum(message.count("y") for message in logged) == 200_000


class Refuses(logging.Handler):
    """A handler of the pipeline's own that cannot take every line."""

    def emit(self, record):
        if "refused" in record.getMessage():
            raise ValueError("no such line")


def test_line_that_cannot_be_logged_does_not_end_the_reader(caplog):
    handler = Refuses()
    logger = logging.getLogger("beam_tfscript.script")
    logger.addHandler(handler)
    try:
        out = b"refused\n" * 3 + b"\x1e99999999999999999999\x1fa\x1fb\n" + b"taken\n"
        _, logged = drain(caplog, out, b"")
    finally:
        logger.removeHandler(handler)
    assert logged == ["[script.py] \x1e99999999999999999999\x1fa\x1fb", "[script.py] taken"]


class Slow(logging.Handler):
    """A handler that takes its time for each line."""

    def emit(self, record):
        time.sleep(0.02)


@pytest.fixture
def pipes():
    """A reader of two pipes with a slow log, and the ends to write to."""
    ends = [os.pipe(), os.pipe()]
    lines = LogLines(*(os.fdopen(reading, "rb", buffering=0) for reading, _ in ends), "s")
    handler, logger = Slow(), logging.getLogger("beam_tfscript.script")
    logger.addHandler(handler)
    try:
        yield lines, *(writing for _, writing in ends)
    finally:
        lines.close()
        logger.removeHandler(handler)
        for _, writing in ends:
            os.close(writing)


def test_reader_that_is_asked_catches_up_first(pipes):
    lines, out, err = pipes
    for at in range(3):
        os.write(out, b"a\n" * 5 + b"out %d\n" % at)
        os.write(err, b"err %d, no end" % at)
        lines.settle(10)
        tail = lines.tail().splitlines()
        assert f"out {at}" in tail and any(line.endswith(f"err {at}, no end") for line in tail)
    assert lines.tail(1).endswith("err 2, no end")


def test_wait_for_lines_has_an_end(pipes):
    lines, out, _ = pipes
    os.write(out, b"a\n" * 200)
    begin = time.monotonic()
    lines.settle(0.2)
    assert time.monotonic() - begin < 2
    lines.close()
    lines.settle(10)
    assert time.monotonic() - begin < 9


@pytest.mark.parametrize(
    "line",
    ["the model said: failed call to cuInit: ", "To enable dropout", "W0000 00:00:1.5 1 x.cc:5] careful"],
)
def test_line_that_is_not_known_is_no_noise(line):
    assert not is_known_noise(line)


def test_reader_ends_though_something_holds_the_pipe():
    reading, writing = os.pipe()
    quiet, closed = os.pipe()
    lines = LogLines(os.fdopen(reading, "rb", buffering=0), os.fdopen(quiet, "rb", buffering=0), "s")
    lines.join(0.1)
    lines.close()
    os.close(writing)
    os.close(closed)
