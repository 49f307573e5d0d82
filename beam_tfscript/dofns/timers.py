"""Timers of Beam's, set as this package needs them."""

from __future__ import annotations

import inspect
from typing import Any

from apache_beam.utils.timestamp import Timestamp


def set_holding(timer: Any, due: Timestamp, hold: Timestamp) -> None:
    """Set a processing-time timer that holds the output watermark back until it fires.

    Beam's Python SDK gives a timer no way to say what it holds (`Timer.withOutputTimestamp` in Java). A timer that is
    set for an element holds that element's timestamp. One that is set again when it fires holds the time on the clock,
    and so nothing: outputs that come later would be late, and dropped where they are grouped. The timestamp is an
    attribute of the SDK's timers; a timer without it, as in tests and in runners of other kinds, is just set.

    Args:
      timer: what a `TimerParam` gives.
      due: when the timer is to fire, on the clock.
      hold: the timestamp of the outputs that may come until then.
    """
    if "output_timestamp" in inspect.signature(timer.set).parameters:
        timer.set(due, output_timestamp=hold)
        return
    if hasattr(timer, "_input_timestamp"):
        timer._input_timestamp = hold
    timer.set(due)
