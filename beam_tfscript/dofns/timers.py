"""Timers that hold the output watermark back until they fire."""

from __future__ import annotations

import inspect
from typing import Any

from apache_beam.utils.timestamp import Timestamp


def set_holding(timer: Any, due: Timestamp, hold: Timestamp) -> None:
    """Set a processing-time timer that holds the output watermark back until it fires.

    In Beam's Java SDK, `Timer.withOutputTimestamp` says which timestamp a timer holds. The Python SDK has no such
    method. Its timer holds the timestamp of the element that it is set for. A timer that is set again when it fires
    holds the current time, and so holds nothing back: later outputs would be late, and dropped where they are grouped.

    The SDK's timers keep the timestamp in an attribute, which is set here unless `set` takes an `output_timestamp`. A
    timer with neither, as in tests and in some runners, holds its own default.

    Args:
      timer: the value of a `TimerParam`.
      due: processing time at which the timer fires.
      hold: timestamp of the outputs that may come until then.
    """
    if "output_timestamp" in inspect.signature(timer.set).parameters:
        timer.set(due, output_timestamp=hold)
        return
    if hasattr(timer, "_input_timestamp"):
        timer._input_timestamp = hold
    timer.set(due)
