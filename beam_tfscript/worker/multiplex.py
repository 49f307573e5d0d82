"""Wait for several script processes at a time: for the next frame, or the end, of any of them."""

from __future__ import annotations

import select
from collections.abc import Iterable

from beam_tfscript.worker.channel import Channel


def wait_any(channels: Iterable[Channel], timeout_s: float) -> None:
    """Wait until any channel has bytes to receive or can send queued ones, or its process has ended.

    Args:
      channels: of the processes.
      timeout_s: the longest wait, in seconds.
    """
    poll = select.poll()
    for channel in channels:
        timeout_s = min(timeout_s, channel.register(poll))
    poll.poll(int(timeout_s * 1000) + 1)
