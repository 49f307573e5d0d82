"""Draws runs and faults, plays them on an engine, and compares what came of them with the guarantees' model.

A round is drawn from the seed and the round's number alone, so `--seed 5 --only 17` plays round 17 of seed 5 again.
Scripts need no TensorFlow, so a round takes a second or two; each has a bound, and may leave nothing behind.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import itertools
import logging
import os
import pathlib
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import mock

import apache_beam as beam
from apache_beam.testing.test_stream import TestStream
from apache_beam.transforms.window import FixedWindows, TimestampedValue

from beam_tfscript import RunTFScript
from beam_tfscript.worker.pool import get_pool
from tests.chaos_model import Found, Plan, violations
from tests.disks import tmpfs
from tests.engines import ENGINES
from tests.engines.server import started
from tests.leaks import assert_nothing_left
from tests.running import Runner, script
from tests.unbounded import Events, Pause, Rows, Watermark
from tests.without_tensorflow import blocked

LOCAL = ("in_memory", "bundle_based")
# For one round, everything included; and when a bundle has failed on Prism, which does not always end the job then.
ROUND_S, _HOPELESS_S = 180.0, 15.0
_FEED_TIMEOUT_S = 2.0
_HARMLESS = ("pause", "wait", "fork", "leave_child")
# Waits that are there for the sake of speed or of slow machines, shortened so that a round is short.
_SHORT_WAITS = {
    "beam_tfscript.feeds.run.ANSWER_S": 2.0,
    "beam_tfscript.worker.pool.UNUSED_GRACE_S": 0.2,
    "beam_tfscript.worker.pool.IDLE_TIMEOUT_S": 4.0,
    "apache_beam.runners.worker.sdk_worker.DEFAULT_BUNDLE_PROCESSOR_CACHE_SHUTDOWN_THRESHOLD_S": 5.0,
}


class RoundTimeout(BaseException):
    """A round took too long; not an error that anything between here and there may catch."""


@dataclasses.dataclass
class Tally:
    """Totals of the rounds.

    Attributes:
      wrong: violations of the guarantees, each with its round.
      counts: number of rounds, rows, faults and failed runs, of each kind.
    """

    wrong: list[str] = dataclasses.field(default_factory=list)
    counts: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)

    def __str__(self):
        counts = "  ".join(f"{name} {n}" for name, n in sorted(self.counts.items()))
        return "\n".join([counts, *self.wrong, f"{len(self.wrong)} violations"])


def draw(seed: int, number: int, engines: Sequence[str]) -> Plan:
    """The plan of a round."""
    rng = random.Random(f"{seed} {number}")
    engine = rng.choice(engines)
    can_be_both = engine in ENGINES and engine != "spark"
    is_unbounded = engine == "bundle_based" or (can_be_both and rng.random() < 0.5)
    feed = rng.choice(["dataset", "bundles", "stream"])
    window = rng.choice([None, 7.0, 100.0])
    if is_unbounded and feed == "dataset":
        window = window or 50.0  # a group in the global window needs a trigger
    size = rng.choice([0, 0, 100, 10_000, 300_000])
    rows = rng.choice([0, 1, 7, 50, 200] if is_unbounded or size > 1000 else [1, 7, 100, 1000])
    faults: dict[int, list[str]] = {}
    for _ in range(rng.choice([0, 1, 1, 2, 3, 5]) if rows else 0):
        kinds = rng.choices(
            ["kill", "leave", "fail", "freeze", "close", "scribble", *_HARMLESS],
            weights=[4, 2, 4, 1, 1, 1, 2, 2, 2, 1],
            k=rng.choice([1, 1, 1, 3]),
        )
        faults.setdefault(rng.randrange(rows), []).extend(kinds)
    return Plan(
        engine=engine,
        feed=feed,
        replay=rng.choice([None, True, False]) if feed == "stream" else None,
        keep_unacked_bytes=rng.choice([None, None, 0]) if feed == "stream" and is_unbounded else None,
        max_attempts=rng.choice([1, 2, 3, 9]),
        num_workers=1 if feed == "bundles" else rng.choice([1, 1, 2]),
        rows=rows,
        row_bytes=size,
        output_bytes=rng.choice([0, 100, 10_000]),
        batch=rng.choice([1, 3, 10, 64, 1000]),
        window=window,
        chunk=rng.choice([5, 20, 100]) if is_unbounded else None,
        has_dead_letters=feed == "bundles" and rng.random() < 0.3,
        disk_mib=rng.choice([2, 8]) if rng.random() < 0.07 and engine not in ENGINES and not os.geteuid() else None,
        faults=faults,
    )


def play(plan: Plan, directory: pathlib.Path, options: Sequence[str] = ()) -> Found:
    """Runs a plan.

    Args:
      plan: what to do.
      directory: empty, for what the round needs.
      options: pipeline options of the engine.
    """
    (directory / "marks").mkdir()
    faults = {
        str(row): [[f"{row} {number} {kind}", kind, 0.3] for number, kind in enumerate(kinds)]
        for row, kinds in plan.faults.items()
    }
    arguments = {
        name: getattr(plan, name)
        for name in ("replay", "keep_unacked_bytes", "max_attempts")
        if getattr(plan, name) is not None
    }
    if plan.feed != "bundles":
        arguments["num_workers"] = plan.num_workers
    transform: Any = RunTFScript(
        script("chaos.py"),
        user_files=[script("feeds.py")],
        entry="main",
        feed=plan.feed,
        input_schema="id string",
        output_schema="id string",
        user_params={
            "faults": faults, "marks": str(directory / "marks"), "batch": plan.batch, "output_bytes": plan.output_bytes
        },
        env=blocked(directory),
        feed_timeout=_FEED_TIMEOUT_S,
        start_timeout=30,
        **arguments,
    )  # fmt: skip
    if plan.has_dead_letters:
        transform = transform.with_exception_handling()
    runner = Runner(plan.engine, directory, options)
    error, outputs = None, {}
    with _small_disk(plan, directory):
        try:
            outputs = runner.outputs(_Chaos(plan, transform), options=["--streaming"] if plan.chunk else [])
        except Exception as caught:  # noqa: BLE001 - whatever the engine makes of it
            error = str(caught)
            if plan.engine in ENGINES:
                # As a worker of its own process would end with its job: a thread of Beam's may wait for the answer
                # of a job that is over, and hold its DoFn.
                get_pool().shutdown()
    return Found(
        error,
        [(_number(output.row), output.window) for output in outputs.get("good", [])],
        [_number(output.row[0]) for output in outputs.get("bad", [])],
        runner.metrics,
        [name.split()[2] for name in sorted(os.listdir(directory / "marks"))],
    )


class _Chaos(beam.PTransform):
    """The rows as they come, and the script."""

    def __init__(self, plan: Plan, transform: Any):
        super().__init__()
        self._plan = plan
        self._transform = transform

    def expand(self, pipeline):
        plan = self._plan
        if plan.chunk is None:
            numbers = pipeline | beam.Create(range(plan.rows)) | beam.Map(lambda n: TimestampedValue(n, n))
        else:
            chunks = [range(plan.rows)[at : at + plan.chunk] for at in range(0, plan.rows, plan.chunk)]
            numbers = pipeline | self._come(chunks)
        more = "x" * plan.row_bytes
        rows = numbers | "Row" >> beam.Map(lambda n: {"id": f"#{n}#{more}"}).with_output_types(dict)
        if plan.window is not None:
            rows = rows | beam.WindowInto(FixedWindows(plan.window))
        return rows | self._transform

    def _come(self, chunks):
        if self._plan.engine == "bundle_based":
            stream = TestStream().advance_watermark_to(-1).advance_processing_time(int(time.time()))
            for chunk in chunks:
                stream = stream.add_elements([TimestampedValue(n, n) for n in chunk]).advance_processing_time(1)
                stream = stream.advance_watermark_to(chunk[-1])
            return stream.advance_watermark_to_infinity()
        events = [event for chunk in chunks for event in (Rows(tuple(chunk)), Watermark(chunk[-1]), Pause(0.2))]
        return _Numbers(self._plan.engine, events)


class _Numbers(beam.PTransform):
    def __init__(self, engine: str, events: Sequence[Any]):
        super().__init__()
        self._source = Events(engine, events)

    def expand(self, pipeline):
        return pipeline | self._source | "Number" >> beam.Map(lambda row: int(row["id"]))


def _number(row: Any) -> int:
    return int((row["id"] if isinstance(row, dict) else row.id).split("#")[1])


@contextlib.contextmanager
def _small_disk(plan: Plan, directory: pathlib.Path) -> Iterator[None]:
    """Temporary files are the round's own, on a disk of their own where it is to be small."""
    with contextlib.ExitStack() as stack:
        temporary = directory / "tmp"
        if plan.disk_mib is None:
            temporary.mkdir()
        else:
            stack.enter_context(tmpfs(temporary, f"size={plan.disk_mib}m"))
        stack.enter_context(mock.patch.object(tempfile, "tempdir", str(temporary)))
        stack.enter_context(assert_nothing_left(but_tcp=plan.engine in ENGINES))
        yield


@contextlib.contextmanager
def _bound(seconds: float, is_hopeless: Callable[[], bool]) -> Iterator[None]:
    """Raise `RoundTimeout` in the block when it takes too long, or is hopeless for a while."""
    deadline = time.monotonic() + seconds

    def look(*_):
        nonlocal deadline
        now = time.monotonic()
        if now > deadline:
            raise RoundTimeout(f"the round is not over after {seconds} s")
        if is_hopeless():
            deadline = min(deadline, now + _HOPELESS_S)

    before = signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, 1.0, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def play_rounds(
    seed: int, numbers: Iterator[int], *, seconds: float, engines: Sequence[str], directory: pathlib.Path
) -> Tally:
    """Play rounds until the time is over.

    Args:
      seed: what they are drawn from.
      numbers: of the rounds.
      seconds: no round begins later than this.
      engines: names of those that are drawn from.
      directory: empty; a round's files are in it while it goes on.
    """
    tally, begin = Tally(), time.monotonic()
    with contextlib.ExitStack() as stack:
        # Records hold tracebacks, and those hold the DoFns of bundles that failed.
        stack.callback(logging.disable, logging.root.manager.disable)
        logging.disable(logging.CRITICAL)
        for name, value in _SHORT_WAITS.items():
            stack.enter_context(mock.patch(name, value))
        options = {
            name: stack.enter_context(_served(name, directory)) for name in engines if name != "prism"
        }  # fmt: skip
        for number in numbers:
            if time.monotonic() - begin > seconds:
                break
            plan = draw(seed, number, engines)
            place = directory / f"round {number}"
            place.mkdir()
            with contextlib.ExitStack() as round_stack:
                if plan.engine == "prism":  # a job that hangs there would go on beside the rounds after it
                    options["prism"] = round_stack.enter_context(_served("prism", place))
                wrong = _play_round(plan, place, options[plan.engine], tally)
            tally.wrong += [f"seed {seed} round {number}: {text}\n    {plan}" for text in wrong]
    return tally


def _play_round(plan: Plan, place: pathlib.Path, options: Sequence[str], tally: Tally) -> list[str]:
    tally.counts.update(["rounds", f"rounds.{plan.engine}", f"rounds.{plan.feed}"])
    try:
        with _bound(ROUND_S, lambda: bool(_failure_in_prisms_log(plan, place))):
            found = play(plan, place, options)
    except RoundTimeout:
        get_pool().shutdown()
        failure = _failure_in_prisms_log(plan, place)
        if not failure:
            return [traceback.format_exc()]
        tally.counts["hangs of Prism"] += 1
        found = Found(failure, [], [], {}, [])
    except AssertionError:
        return [traceback.format_exc()]
    tally.counts.update(f"fault.{kind}" for kind in found.happened)
    tally.counts["rows"] += len(found.good)
    tally.counts["errors"] += found.error is not None
    wrong = violations(plan, found)
    if wrong:
        return [f"{text}; {found.error or ''} {found.metrics} {found.happened}" for text in wrong]
    return []


def _failure_in_prisms_log(plan: Plan, place: pathlib.Path) -> str:
    """A bundle's error that Prism has logged: it does not always end the job for it."""
    log = place / "prism" / "server.log"
    if plan.engine != "prism" or not log.exists():
        return ""
    return log.read_text(errors="replace").partition("Bundle Failed.")[2]


@contextlib.contextmanager
def _served(name: str, directory: pathlib.Path) -> Iterator[Sequence[str]]:
    """The pipeline options for an engine, while its job server runs."""
    if name not in ENGINES:
        yield ()
        return
    engine = ENGINES[name]
    engine.build()
    home = directory / name
    home.mkdir()
    with started(engine, home) as address:
        yield (f"--job_endpoint={address}", "--environment_type=LOOPBACK", *engine.OPTIONS)


def main(argv: Sequence[str] | None = None) -> int:
    """Play for some time; return 0 if nothing was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--engines", default=",".join([*LOCAL, *ENGINES]), help="(%(default)s)")
    parser.add_argument("--seconds", type=float, default=3600, help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=None, help="(drawn, and told)")
    parser.add_argument("--only", type=int, help="the number of one round")
    options = parser.parse_args(argv)
    seed = random.SystemRandom().randrange(1 << 32) if options.seed is None else options.seed
    sys.stdout.write(f"seed {seed}\n")
    sys.stdout.flush()
    numbers = itertools.count() if options.only is None else iter([options.only])
    with tempfile.TemporaryDirectory(prefix="chaos-") as directory:
        tally = play_rounds(
            seed,
            numbers,
            seconds=options.seconds,
            engines=options.engines.split(","),
            directory=pathlib.Path(directory),
        )
    sys.stdout.write(f"{tally}\n")
    return 1 if tally.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
