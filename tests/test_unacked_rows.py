"""Rows of a bundle that are not done: what is acknowledged is forgotten, what is sent again is what is left."""

from __future__ import annotations

import os
from array import array

import hypothesis.strategies as st
import pytest
from hypothesis import given

from beam_tfscript.data import tfrecord
from beam_tfscript.feeds.unacked_rows import UnackedRows


@pytest.fixture
def rows(tmp_path):
    made = UnackedRows(lambda: str(tmp_path))
    yield made
    made.close()
    assert not os.listdir(tmp_path)


def named(start, end):
    return [b"row %d" % number for number in range(start, end)]


def unsent(rows):
    """The rows that are sent when all that may be is."""
    found = []
    while (part := rows.next_unsent()) is not None:
        assert part.count == len(part.records())
        found += part.records()
    return found


def test_what_is_not_done_is_sent_again_and_nothing_else(rows):
    rows.add(named(0, 10), "a", array("q", list(range(10))))
    rows.add(named(10, 20), "a", array("q", list(range(10, 20))))
    assert unsent(rows) == named(0, 20) and unsent(rows) == []
    assert rows.acknowledge(13) == ("a", 0)
    assert (rows.start, rows.count) == (13, 7)
    rows.send_again()
    assert unsent(rows) == named(13, 20)


def test_earliest_timestamp_is_that_of_the_rows_that_are_done(rows):
    rows.add(named(0, 4), "a", array("q", [5, 1, 9, 3]))
    unsent(rows)
    assert rows.acknowledge(1) == ("a", 5)
    assert rows.acknowledge(3) == ("a", 1)
    assert rows.acknowledge(4) == ("a", 3)


def test_memory_is_given_back_whatever_was_sent_again(rows):
    rows.add(named(0, 100), "a", array("q", [0] * 100))
    for done in range(10, 100, 10):
        unsent(rows)
        rows.acknowledge(done)
        rows.send_again()
    unsent(rows)
    rows.acknowledge(100)
    assert rows.memory_bytes == rows.count == 0


def test_batch_that_is_taken_out_is_of_one_window(rows):
    rows.add(named(0, 5), "a", array("q", [7, 6, 5, 4, 3]))
    rows.add(named(5, 7), "a", array("q", [2, 1]))
    rows.add(named(7, 10), "b", array("q", [0, 0, 0]))
    unsent(rows)
    rows.acknowledge(3)
    rows.send_again()
    assert rows.take_batch(100) == ("a", 1, named(3, 7))
    assert rows.take_batch(2) == ("b", 0, named(7, 9))
    assert unsent(rows) == named(9, 10)


def test_each_window_is_a_file_of_its_own(rows):
    rows.add(named(0, 3), "a", array("q", [3, 2, 1]))
    rows.add(named(3, 5), "b", array("q", [0, 0]))
    unsent(rows)
    rows.send_again()
    rows.spool()
    assert rows.memory_bytes == 0
    rows.add(named(5, 6), "a", array("q", [-1]))
    rows.add(named(6, 7), "c", array("q", [4]))
    files = []
    while rows.count:
        file = rows.next_file()
        files.append((file.window, tfrecord.read(file.path)))
        assert rows.acknowledge(rows.start + file.count)[0] == file.window
        assert not os.path.exists(file.path)
    assert files == [("a", [*named(0, 3), *named(5, 6)]), ("b", named(3, 5)), ("c", named(6, 7))]


def test_only_what_is_left_is_spooled(rows):
    rows.add(named(0, 5), "a", array("q", [0, 1, 2, 3, 4]))
    unsent(rows)
    rows.acknowledge(2)
    rows.spool()
    assert rows.next_file().timestamp_micros == 2
    assert rows.take_batch(1) == ("a", 2, named(2, 5))  # a file is a batch


def test_clear_forgets_all(rows):
    rows.add(named(0, 5), "a", array("q", [0] * 5))
    unsent(rows)
    rows.acknowledge(2)
    rows.clear()
    assert (rows.start, rows.count, rows.memory_bytes) == (5, 0, 0)
    rows.add(named(5, 6), "b", array("q", [1]))
    assert unsent(rows) == named(5, 6)


@given(st.lists(st.tuples(st.sampled_from("asrdt"), st.integers(1, 9)), max_size=40))
def test_no_row_is_lost_or_twice_whatever_happens(steps):
    """Add, send, start anew, acknowledge and take out in any order."""
    rows = UnackedRows(lambda: "/nowhere")
    added, done, sent = 0, [], []
    for step, n in steps:
        if step == "a":
            rows.add(named(added, added + n), "w", array("q", [0] * n))
            added += n
        elif step == "s" and (part := rows.next_unsent()) is not None:
            sent += part.records()
        elif step == "r":
            rows.send_again()
            sent = []
        elif step == "d" and sent:
            part, sent = sent[:n], sent[n:]
            rows.acknowledge(rows.start + len(part))
            done += part
        elif step == "t" and rows.count:
            rows.send_again()
            sent = []
            done += rows.take_batch(n)[2]
    rows.send_again()
    assert done + unsent(rows) == named(0, added)
    assert rows.count == added - len(done)
