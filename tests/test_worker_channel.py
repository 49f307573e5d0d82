"""Frames over a real socket pair: whole, cut short, garbled, large, and when the other end goes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from beam_tfscript.errors import ProtocolError
from beam_tfscript.runtime.transport import wire
from beam_tfscript.worker.channel import Channel, ChannelClosed
from beam_tfscript.worker.multiplex import wait_any


@pytest.fixture
def ends():
    """Our channel and the other end's socket."""
    ours, theirs = socket.socketpair()
    channel = Channel(ours, None, lambda: True)
    yield channel, theirs
    channel.close()
    theirs.close()


RECORDS = [b"", b"a", b"bc" * 1000, os.urandom(3 << 20)]


def test_records_come_through_whole(ends):
    channel, theirs = ends
    sender = threading.Thread(target=wire.send_frame, args=(theirs, wire.records_frame(wire.EXAMPLES, RECORDS)))
    sender.start()
    frame = channel.receive(10)
    sender.join()
    assert (frame.name, frame.count, frame.records()) == ("EXAMPLES", 4, RECORDS)


def test_both_ends_send_much_at_once_without_blocking_each_other(ends):
    channel, theirs = ends
    got = []

    def other_end():
        wire.send_frame(theirs, wire.records_frame(wire.EXAMPLES, RECORDS))
        got.append(wire.receive_frame(theirs))

    thread = threading.Thread(target=other_end)
    thread.start()
    channel.send(wire.records_frame(wire.EXAMPLES, RECORDS))
    assert channel.receive(10).records() == RECORDS
    while thread.is_alive():
        channel.receive(0.05)
    assert got[0].records() == RECORDS


def test_silence_gives_none_after_the_timeout(ends):
    channel, _ = ends
    begin = time.monotonic()
    assert channel.receive(0.1) is None
    assert 0.09 < time.monotonic() - begin < 5


@pytest.mark.parametrize("cut", [0, 1, 19, 20, 25])
def test_end_of_the_stream_is_seen_wherever_it_is_cut(ends, cut):
    channel, theirs = ends
    frame = wire.control_frame(wire.DONE, {"rows": 1})
    theirs.sendall((wire.pack_header(frame) + frame.payload)[:cut])
    theirs.close()
    with pytest.raises(ChannelClosed):
        channel.receive(10)


def test_what_was_sent_before_the_end_is_received(ends):
    channel, theirs = ends
    wire.send_frame(theirs, wire.control_frame(wire.DONE, {"rows": 1}))
    theirs.close()
    assert channel.receive(10).json() == {"rows": 1}
    with pytest.raises(ChannelClosed):
        channel.receive(10)


@pytest.mark.parametrize("garbage", [b"x" * 28, b"BTFS" + b"\xff" * 24, b"BTFS\x12\0\0\0" + b"\xff" * 20])
def test_garbage_is_an_error_that_names_its_likely_cause(ends, garbage):
    channel, theirs = ends
    theirs.sendall(garbage)
    with pytest.raises(ProtocolError):
        channel.receive(10)


def test_lengths_that_do_not_add_up_are_an_error():
    with pytest.raises(wire.WireError, match="add up to"):
        wire.unpack_records(1, b"\x05\0\0\0abc")
    with pytest.raises(wire.WireError, match="announced"):
        wire.unpack_records(9, b"\x05\0\0\0")


def test_cut_frame_is_an_error_for_the_script_process():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        frame = wire.control_frame(wire.RUN, {"a": 1})
        ours.sendall((wire.pack_header(frame) + frame.payload)[:-1])
        ours.close()
        with pytest.raises(wire.WireError, match="ended"):
            wire.receive_frame(theirs)


def test_polls_without_a_wait_send_what_is_queued(ends):
    channel, theirs = ends
    got = []
    thread = threading.Thread(target=lambda: got.append(wire.receive_frame(theirs)))
    thread.start()
    channel.send(wire.Frame(wire.RUN, 0, b"x" * (8 << 20)))
    deadline = time.monotonic() + 20
    while thread.is_alive():
        assert channel.receive(0) is None and time.monotonic() < deadline
        wait_any([channel], 0.1)
    assert len(got[0].payload) == 8 << 20


def test_flush_sends_all_or_gives_up_in_time(ends):
    channel, theirs = ends
    channel.send(wire.Frame(wire.RUN, 0, b"x" * (8 << 20)))
    theirs.sendall(b"unread")  # which must not make the wait spin
    begin, cpu = time.monotonic(), time.process_time()
    assert not channel.flush(0.5)
    assert time.monotonic() - begin >= 0.5 and time.process_time() - cpu < 0.25
    thread = threading.Thread(target=wire.receive_frame, args=(theirs,))
    thread.start()
    assert channel.flush(20)
    thread.join()


@pytest.mark.parametrize("timeout", [30, 0])
def test_death_is_seen_at_once_though_a_grandchild_holds_the_socket(timeout):
    ours, theirs = socket.socketpair()
    code = (
        "import subprocess, sys, os;"
        "subprocess.Popen(['sleep', '60'], pass_fds=[int(sys.argv[1])], start_new_session=False);"
        "os.kill(os.getpid(), 9)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(theirs.fileno())], pass_fds=[theirs.fileno()], start_new_session=True
    )
    theirs.close()
    descriptor = os.pidfd_open(process.pid)
    channel = Channel(ours, descriptor, lambda: process.poll() is None)
    begin = time.monotonic()
    try:
        with pytest.raises(ChannelClosed):
            while time.monotonic() - begin < 20:
                channel.receive(timeout)
                wait_any([channel], 1)
        assert time.monotonic() - begin < 20
    finally:
        os.killpg(process.pid, 9)
        process.wait()
        channel.close()
        os.close(descriptor)


def test_death_is_seen_without_an_exit_descriptor():
    ours, theirs = socket.socketpair()
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    channel = Channel(ours, None, lambda: process.poll() is None)
    try:
        with pytest.raises(ChannelClosed):
            channel.receive(30)
    finally:
        process.wait()
        channel.close()
        theirs.close()
