"""Program that writes a file of handwritten digits into a folder every second, and changes the digits after a while.

    python -m pipelines.stream_feed FOLDER [--seconds 60] [--drift_after 30] [--drift invert]

In: the digits in `data/`, repeatedly, in an order drawn with a seed. Out: files of JSON lines for
`pipelines.stream_drift`, with event time `at`, `label`, and the 64 pixels of `image`; at the end, a file called END.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence

from pipelines.digits import INPUT
from pipelines.stream_folder import END, SUFFIX

__all__ = ["DRIFTS", "drop_files", "main", "make_rows"]

FULL_INK = 16
_SIDE = 8


def _invert(image: list[int]) -> list[int]:
    return [FULL_INK - ink for ink in image]


def _shift(image: list[int]) -> list[int]:
    """Shift by two pixels to the right; pixels that leave there enter on the left."""
    rows = [image[start : start + _SIDE] for start in range(0, len(image), _SIDE)]
    return [ink for row in rows for ink in row[-2:] + row[:-2]]


DRIFTS: dict[str, Callable[[list[int]], list[int]]] = {"invert": _invert, "shift": _shift, "none": list}


def make_rows(*, start_s: float, rate: int, drift: str, drift_after_s: float, seed: int = 1) -> Iterator[dict]:
    """Yield rows without end.

    Args:
      start_s: event time of the first row, in seconds since 1970-01-01 UTC.
      rate: rows per second of event time.
      drift: change of the images, a key of `DRIFTS`.
      drift_after_s: seconds after the first row at which the change begins.
      seed: seed of the rows' order.
    """
    with gzip.open(INPUT, "rt", encoding="ascii") as file:
        digits = [list(map(int, line.split(","))) for line in file]
    random.Random(seed).shuffle(digits)
    for number, (*image, label) in enumerate(itertools.cycle(digits)):
        after_s = number / rate
        changed = DRIFTS[drift](image) if after_s >= drift_after_s else image
        yield {"at": start_s + after_s, "label": label, "image": changed}


def drop_files(folder: str, rows: Iterator[dict], *, rate: int, seconds: float | None) -> None:
    """Write a file every second, and at the end the file that ends the stream.

    Args:
      folder: local path; made if it is missing.
      rows: rows to write.
      rate: rows per file.
      seconds: number of files; None for no end.
    """
    os.makedirs(folder, exist_ok=True)
    begin = time.monotonic()
    for number in itertools.count() if seconds is None else range(round(seconds)):
        # A second's rows are written when the second is over.
        time.sleep(max(0.0, begin + number + 1 - time.monotonic()))
        _put(os.path.join(folder, f"{time.time_ns()}-{number:06}{SUFFIX}"), itertools.islice(rows, rate))
    _put(os.path.join(folder, END), iter(()))


def main(argv: Sequence[str] | None = None) -> None:
    """Write the files; the command line's function."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.stream_feed", description="Writes files of digits into a folder, one per second."
    )
    parser.add_argument("folder", help="folder, made if it is missing")
    parser.add_argument("--rate", type=int, default=40, help="rows per second (default: %(default)s)")
    parser.add_argument("--seconds", type=float, help="time after which the stream ends (default: never)")
    parser.add_argument("--drift", choices=DRIFTS, default="invert", help="kind of change (default: %(default)s)")
    parser.add_argument(
        "--drift_after", type=float, default=30, metavar="S", help="time until the change (default: %(default)s)"
    )
    parser.add_argument("--start", type=float, metavar="UNIX_S", help="event time of the first row (default: now)")
    options = parser.parse_args(argv)
    start_s = time.time() if options.start is None else options.start
    changes = time.strftime("%H:%M:%S", time.gmtime(start_s + options.drift_after))
    print(f"{options.rate} digits per second, into {options.folder}; drift ({options.drift}) from {changes} UTC on")
    rows = make_rows(start_s=start_s, rate=options.rate, drift=options.drift, drift_after_s=options.drift_after)
    try:
        drop_files(options.folder, rows, rate=options.rate, seconds=options.seconds)
    except KeyboardInterrupt:
        print("stopped, without the file that ends the stream: another run may continue it")


def _put(path: str, rows: Iterator[dict]) -> None:
    # Renamed when it is complete: a reader takes a file as soon as its name appears.
    with open(path + ".part", "w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    os.rename(path + ".part", path)


if __name__ == "__main__":
    main()
