"""The script's end of a feed: the rows of a batch, and the time of its ACK."""

from __future__ import annotations

import queue
import subprocess
import sys

import pytest

from beam_tfscript.runtime.reading.feed import Feed, FeedMisused
from beam_tfscript.runtime.transport import wire


class Ends:
    """Both ends of a channel: the test puts frames in, and reads the ACKs in `said`."""

    def __init__(self, fills_batches=True):
        self.frames = queue.Queue()
        self.said = []
        self.feed = Feed(self, self.frames, lambda: self.said.append("flush"), fills_batches)

    def send(self, frame):
        self.said.append(wire.unpack_ack(frame))

    def check_owner(self, action):
        pass

    def rows(self, *records):
        self.frames.put(wire.records_frame(wire.ROWS, list(records)))

    def say(self, kind, value=None):
        self.frames.put(wire.control_frame(kind, value))


@pytest.fixture
def ends():
    return Ends()


def test_asking_for_more_says_that_the_rest_is_done(ends):
    ends.rows(b"1", b"2", b"3", b"4")
    ends.say(wire.END_FEED)
    assert ends.feed.take(3) == [b"1", b"2", b"3"]
    assert ends.said == ["flush", (0, 3)]
    assert ends.feed.take(2) == [b"4"]
    assert ends.said[2:] == ["flush", (3, 2)]
    assert ends.feed.take(2) is None
    assert ends.said[4:] == ["flush", (4, 2)]
    assert ends.feed.ended and ends.feed.taken == ends.feed.position == 4


def test_end_comes_again_and_again(ends):
    ends.say(wire.END_FEED)
    assert [ends.feed.take(1) for _ in range(3)] == [None] * 3
    assert ends.feed.take_any() is None


def test_batch_is_filled_from_several_frames_but_not_across_a_bundles_end(ends):
    ends.rows(b"1")
    ends.rows(b"2", b"3")
    ends.say(wire.END_BUNDLE)
    ends.rows(b"4")
    ends.say(wire.END_BUNDLE)
    ends.say(wire.END_FEED)
    assert ends.feed.take(2) == [b"1", b"2"]
    assert ends.feed.take(2) == [b"3"]
    assert ends.feed.take(2) == [b"4"]
    assert ends.feed.take(2) is None


def test_end_of_a_bundle_whose_rows_are_out_gives_no_empty_batch(ends):
    ends.rows(b"1", b"2")
    ends.say(wire.END_BUNDLE)
    ends.rows(b"3")
    ends.say(wire.END_BUNDLE)
    assert ends.feed.take(2) == [b"1", b"2"]
    assert ends.feed.take(2) == [b"3"]


def test_batch_is_of_one_window(ends):
    ends.say(wire.WINDOW, [0, 10])
    ends.rows(b"1")
    ends.say(wire.WINDOW, [10, 20])
    ends.rows(b"2", b"3")
    ends.say(wire.END_BUNDLE)
    assert ends.feed.take(9) == [b"1"] and ends.feed.window == [0, 10]
    assert ends.feed.take(9) == [b"2", b"3"] and ends.feed.window == [10, 20]


def test_batch_that_is_not_filled_is_what_is_there():
    ends = Ends(fills_batches=False)
    ends.rows(b"1")
    ends.rows(b"2")
    assert ends.feed.take(9) == [b"1", b"2"]
    ends.rows()
    ends.rows(b"3")
    assert ends.feed.take(9) == [b"3"]


def test_any_number_is_wanted_where_tensorflow_asks():
    ends = Ends(fills_batches=False)
    ends.rows(*[b"%d" % number for number in range(5000)])
    ends.say(wire.END_FEED)
    assert [len(ends.feed.take_any()) for _ in range(2)] == [4096, 904]
    assert ends.feed.take_any() is None
    assert ends.said == ["flush", (0, wire.WANT_ANY), "flush", (4096, wire.WANT_ANY), "flush", (5000, wire.WANT_ANY)]


@pytest.mark.parametrize("n", [wire.WANT_DATASET - 1, wire.WANT_DATASET, 1 << 40])
def test_batch_may_be_of_any_size(ends, n):
    ends.rows(b"1")
    ends.say(wire.END_BUNDLE)
    assert ends.feed.take(n) == [b"1"]
    assert ends.said == ["flush", (0, wire.WANT_DATASET - 1)]


def test_stop_acknowledges_nothing_more_and_gives_nothing_more(ends):
    ends.rows(b"1", b"2", b"3")
    assert ends.feed.take(2) == [b"1", b"2"]
    ends.feed.stop()
    assert ends.feed.take(2) is None
    assert ends.said == ["flush", (0, 2), "flush"]  # what is done is said by DONE, behind what the script still writes
    assert ends.feed.position == ends.feed.taken == 2


def test_whole_bundles_come_by_their_files(ends):
    ends.say(wire.DATASET, {"path": "/a", "count": 3, "window": [0, 10]})
    ends.say(wire.DATASET, {"path": "/b", "count": 2, "window": None})
    ends.say(wire.END_FEED)
    assert ends.feed.take_dataset() == ("/a", 3) and ends.feed.window == [0, 10]
    assert ends.feed.take_dataset() == ("/b", 2) and ends.feed.window is None
    assert ends.feed.take_dataset() is None
    assert [said for said in ends.said if said != "flush"] == [(n, wire.WANT_DATASET) for n in (0, 3, 5)]


def test_rows_and_whole_bundles_are_not_mixed(ends):
    ends.say(wire.DATASET, {"path": "/a", "count": 3, "window": None})
    ends.feed.take_dataset()
    with pytest.raises(FeedMisused, match="cannot be used in one run"):
        ends.feed.take(1)


SILENT = """
import os, queue, socket, threading
from beam_tfscript.runtime.reading.feed import Feed
from beam_tfscript.runtime.transport import wire
from beam_tfscript.runtime.transport.connection import Connection

ours, theirs = socket.socketpair()

def probe():
    assert wire.receive_frame(ours, 0).kind == wire.ACK
    wire.send_frame(ours, wire.control_frame(wire.PROBE))
    print(wire.receive_frame(ours, 1).json()["stack"], flush=True)
    os._exit(0)

def main():
    Feed(Connection(theirs, "/nowhere"), queue.Queue(), lambda: None, True).take(1)

threading.Thread(target=probe).start()
main()
"""


def test_stack_of_a_waiting_script_has_the_scripts_frames_and_not_the_packages():
    done = subprocess.run([sys.executable, "-c", SILENT], capture_output=True, text=True, timeout=60, check=True)
    assert "in main" in done.stdout and "beam_tfscript" not in done.stdout
