"""Frames that are not as they were sent: an error in bounded time, and never a wrong row."""

from __future__ import annotations

import inspect
import random
import socket
import textwrap
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_tfscript.errors import ProtocolError
from beam_tfscript.runtime.transport import wire
from beam_tfscript.worker.channel import Channel, ChannelClosed
from tests.without_tensorflow import blocked, ids, run_of

KINDS = sorted(wire.NAMES)
FRAMES = st.lists(
    st.builds(wire.Frame, st.sampled_from(KINDS), st.integers(0, 1000), st.binary(max_size=200)), min_size=1, max_size=6
)


def mutate(data, rng):
    """`data` with one thing wrong; its text runs on the script's side too."""
    at = rng.randrange(len(data))
    end = min(len(data), at + rng.choice([1, 4, 28, 1000]))
    how = rng.choice(["flip", "cut", "drop", "double", "insert", "swap"])
    if how == "flip":
        return data[:at] + bytes([data[at] ^ (1 << rng.randrange(6))]) + data[at + 1 :]
    if how == "cut":
        return data[:at]
    if how == "drop":
        return data[:at] + data[end:]
    if how == "double":
        return data[:end] + data[at:]
    if how == "swap":
        return data[at:] + data[:at]
    return data[:at] + bytes(rng.randrange(256) for _ in range(end - at)) + data[at:]


def sent(frames):
    return b"".join(wire.pack_header(frame, number) + frame.payload for number, frame in enumerate(frames))


def check_prefix(found, frames):
    """Nothing but the frames that were sent, in order, has come through."""
    assert found == frames[: len(found)]


@settings(deadline=None, max_examples=300)
@given(FRAMES, st.randoms(use_true_random=False))
def test_pipelines_end_takes_nothing_but_what_was_sent(frames, rng):
    ours, theirs = socket.socketpair()
    channel = Channel(ours, None, lambda: True)
    found = []
    try:
        theirs.sendall(mutate(sent(frames), rng))
        theirs.close()
        with pytest.raises((ProtocolError, ChannelClosed)):
            while True:
                frame = channel.receive(10)
                assert frame is not None
                found.append(wire.Frame(frame.kind, frame.count, bytes(frame.payload)))
    finally:
        channel.close()
    check_prefix(found, frames)


@settings(deadline=None, max_examples=300)
@given(FRAMES, st.randoms(use_true_random=False))
def test_scripts_end_takes_nothing_but_what_was_sent(frames, rng):
    ours, theirs = socket.socketpair()
    found = []
    with theirs:
        with ours:
            ours.sendall(mutate(sent(frames), rng))
        try:
            while (frame := wire.receive_frame(theirs, len(found))) is not None:
                found.append(wire.Frame(frame.kind, frame.count, bytes(frame.payload)))
        except wire.WireError:
            pass
    check_prefix(found, frames)


SCRIPTS_SIDE = inspect.getsource(mutate) + textwrap.dedent("""
    import os, random
    from beam_tfscript.runtime.transport import wire

    rng = random.Random(int(os.environ["FUZZ_SEED"]))
    at = rng.randrange(8)


    def send_frame(sock, frame, number):
        data = wire.pack_header(frame, number) + bytes(frame.payload)
        sock.sendall(mutate(data, rng) if number == at else data)


    wire.send_frame = send_frame
""")


@pytest.mark.fuzz
@pytest.mark.parametrize("feed", ["dataset", "bundles", "stream"])
@pytest.mark.parametrize("seed", range(6))
def test_frames_that_the_script_garbles_are_an_error_or_cost_nothing(in_memory, tmp_path, monkeypatch, feed, seed):
    monkeypatch.setattr("beam_tfscript.feeds.run.ANSWER_S", 1.0)
    env = {**blocked(tmp_path, SCRIPTS_SIDE), "FUZZ_SEED": str(seed)}
    check_run(in_memory, feed, env)


@pytest.mark.fuzz
@pytest.mark.parametrize("feed", ["dataset", "bundles", "stream"])
@pytest.mark.parametrize("seed", range(4))
def test_frames_that_the_pipeline_garbles_are_an_error_or_cost_nothing(in_memory, tmp_path, monkeypatch, feed, seed):
    monkeypatch.setattr("beam_tfscript.feeds.run.ANSWER_S", 1.0)
    rng = random.Random(seed)
    at, lock, send = rng.randrange(5), threading.Lock(), Channel.send

    def garble(channel, frame):
        with lock:
            is_here = channel._num_sent == at
        if not is_here:
            send(channel, frame)
            return
        data = wire.pack_header(frame, channel._num_sent) + bytes(frame.payload)
        channel._num_sent += 1
        channel._outbound.append(memoryview(mutate(data, rng)))
        channel._send_queued()

    monkeypatch.setattr(Channel, "send", garble)
    check_run(in_memory, feed, blocked(tmp_path))


def check_run(in_memory, feed, env):
    entry = "echo_file" if feed == "dataset" else "echo"
    arguments = {} if feed == "bundles" else {"num_workers": 2}
    begin = time.monotonic()
    try:
        rows = in_memory.run(
            run_of(entry, feed, env=env, feed_timeout=1, start_timeout=5, max_attempts=2, **arguments), ids(200)
        )
    except Exception as error:  # noqa: BLE001 - whatever a runner makes of it
        assert "feeds.py" in str(error)
    else:
        assert sorted(int(row["id"]) for row in rows) == list(range(200))
    assert time.monotonic() - begin < 60
