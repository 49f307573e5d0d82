"""Waits for several script processes at a time: whichever says something, or ends."""

from __future__ import annotations

import select
from collections.abc import Iterable

from beam_tfscript.worker.channel import Channel


def wait_any(channels: Iterable[Channel], timeout_s: float) -> None:
    """Returns when one of the channels has something to receive, can send what is queued, or its process has ended.

    Args:
      channels: what to wait for.
      timeout_s: the longest wait.
    """
    poll = select.poll()
    for channel in channels:
        timeout_s = min(timeout_s, channel.register(poll))
    poll.poll(int(timeout_s * 1000) + 1)
