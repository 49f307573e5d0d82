"""Arguments about runs: the feed, the attempts, the processes and the timeouts."""

from __future__ import annotations

from typing import Any

from beam_tfscript.files.uris import mask_uri
from beam_tfscript.options.arguments import checks
from beam_tfscript.options.arguments.argument import FEEDS, Argument, Flag, Show, attribute

# A script has at most some 16 MiB of rows on their way to it, and a few chunks wait. So a single run loses no rows
# with this limit, unless a batch takes longer than the time below.
_KEEP_BYTES = 64 << 20
_KEEP_S = 600
_MIB = 1 << 20

_STREAM = ("stream",)


def _replay(options: Any) -> int | None:
    return None if options.replay is None or options.feed != "stream" else int(options.replay)


def _without_replay(field: str) -> Show:
    return lambda options: None if options.feed != "stream" or options.replay else getattr(options, field)


FEED = Argument(
    "feed",
    str | None,
    'the way in which a run gets its rows: `"dataset"`, `"bundles"` or `"stream"`. In `"dataset"` the rows are '
    'complete before `main` is called. In `"bundles"` they come bundle by bundle, without a shuffle. In `"stream"` '
    'they come until their window ends. None for `"dataset"` on bounded input, else `"stream"`. docs/delivery.md '
    "says what each feed loses or repeats after a fault.",
    default=None,
    choices=FEEDS,
    field="feed",
    show=attribute("feed"),
    flag=Flag("script", note="dataset by default"),
)
MAX_ATTEMPTS = Argument(
    "max_attempts",
    int | None,
    'number of attempts at a run, or in `"bundles"` at a batch, before the bundle fails. None for 1 in `"dataset"`, '
    'else 3. With more than 1 in `"dataset"`, the outputs of a run stay on disk until the run has succeeded, so that '
    "they go downstream once.",
    default=None,
    # In `dataset` a repeat means spooling all outputs, so it must be asked for; in the others it costs nothing.
    feed_defaults={"dataset": 1, "bundles": 3, "stream": 3},
    check=checks.whole_number(1),
    field="max_attempts",
    show=attribute("max_attempts"),
)
MAX_PROCESSES = Argument(
    "max_processes",
    int | None,
    "maximum number of script processes that this transform uses at the same time, per worker process. None for the "
    'number of the machine\'s cores, and at least 2; in `"stream"` at least 2 per shard.',
    default=None,
    check=checks.whole_number(1),
    field="max_processes",
    show=attribute("max_processes"),
)
TRANSPORT = Argument(
    "transport",
    str | None,
    'the way of the rows to the runs in `"dataset"`: `"shuffle"`, or `"files"` in `spool_dir`, of which only the names '
    "are shuffled. A runner holds a shard that is shuffled in memory, at four to six times its size; files are flat in "
    "memory. None for the shuffle while the data is small, and for files from 64 MiB per worker on, if a spool "
    'directory is known. On unbounded input only `"shuffle"`.',
    default=None,
    choices=("shuffle", "files"),
    feeds=("dataset",),
    wrong_feed="Rows go to the run as they come.",
    field="transport",
    show=attribute("transport"),
    flag=Flag("script"),
)
SPOOL_DIR = Argument(
    "spool_dir",
    str | None,
    "directory for files of rows, on any of Beam's file systems, which all workers see. A job's files are removed at "
    "its end. None for the job's `temp_location`; if all workers are on this machine, for the directory of temporary "
    "files.",
    default=None,
    check=checks.path_or_uri,
    show=lambda options: None if options.spool_dir is None else mask_uri(options.spool_dir),
    flag=Flag("script", "DIR"),
)
MAX_RUNS = Argument(
    "max_runs",
    int | None,
    "number of runs after which a script process is ended, and the next run gets a new one; None for no limit.",
    default=None,
    feeds=("dataset", "stream"),
    wrong_feed="There, a run goes on for as long as its process. max_rss_bytes limits the memory of a process.",
    check=checks.whole_number(1),
    field="max_runs",
    show=attribute("max_runs"),
)
MAX_RSS_BYTES = Argument(
    "max_rss_bytes",
    int | None,
    "resident memory, in bytes, above which a script process is ended after a run, or in "
    '`"bundles"` after a bundle. Memory of its children counts too. None for no limit.',
    default=None,
    # A smaller number is a mistake about its unit: an interpreter alone takes more.
    check=checks.whole_number(_MIB),
    field="max_rss_bytes",
    show=attribute("max_rss_bytes"),
)
REPLAY = Argument(
    "replay",
    bool | None,
    'in `"stream"`, True to send all rows of a window again, from the runner\'s state, to the run that replaces a dead '
    "one. So a script that keeps values from row to row computes them again. Outputs that the dead run has written "
    "come again too. False to send only the rows that no process has acknowledged. None for True in windows that end, "
    "and for False in the global window.",
    default=None,
    feeds=_STREAM,
    wrong_feed="There, max_attempts says how often a run is repeated.",
    check=checks.true_or_false,
    field="replay",
    show=_replay,
)
KEEP_UNACKED_BYTES = Argument(
    "keep_unacked_bytes",
    int,
    'in `"stream"` without `replay`, limit of the unacknowledged rows in the runner\'s state, in bytes. Rows beyond '
    "it, the oldest first, are lost if their process dies, and are counted as `rows_lost`.",
    default=_KEEP_BYTES,
    feeds=_STREAM,
    check=checks.whole_number(0),
    field="keep_unacked_bytes",
    show=_without_replay("keep_unacked_bytes"),
)
KEEP_UNACKED_SECONDS = Argument(
    "keep_unacked_seconds",
    float,
    'in `"stream"` without `replay`, seconds that unacknowledged rows stay in the runner\'s state. Older rows are '
    "lost if their process dies, and are counted as `rows_lost`.",
    default=_KEEP_S,
    feeds=_STREAM,
    check=checks.seconds,
    field="keep_unacked_s",
    show=_without_replay("keep_unacked_s"),
)
POLL_INTERVAL = Argument(
    "poll_interval",
    float,
    'in `"stream"`, seconds between two polls for outputs while no rows come.',
    default=0.5,
    feeds=_STREAM,
    check=checks.seconds,
    field="poll_interval_s",
)
START_TIMEOUT = Argument(
    "start_timeout",
    float,
    "seconds that the script's interpreter may take to start and to import TensorFlow.",
    default=120,
    check=checks.seconds,
    field="start_timeout_s",
    show=attribute("start_timeout_s"),
    flag=Flag("the script's Python", "SECONDS", parse=float),
)
FEED_TIMEOUT = Argument(
    "feed_timeout",
    float,
    "seconds without a sign of life from the script, after which the log shows the script's stack. In "
    '`"bundles"` and `"stream"` this silence is an error while rows wait to be read. In `"stream"` it is also an error '
    "if the feed has ended and `main` does not return.",
    default=600,
    check=checks.seconds,
    field="feed_timeout_s",
    show=attribute("feed_timeout_s"),
)
IDLE_TIMEOUT = Argument(
    "idle_timeout",
    float | None,
    "seconds after which a process without work is ended; None for 60.",
    default=None,
    check=checks.seconds,
    field="idle_timeout_s",
    show=attribute("idle_timeout_s"),
)

RUNS = (
    FEED, MAX_ATTEMPTS, MAX_PROCESSES, MAX_RUNS, MAX_RSS_BYTES, TRANSPORT, SPOOL_DIR, REPLAY, KEEP_UNACKED_BYTES,
    KEEP_UNACKED_SECONDS, POLL_INTERVAL, START_TIMEOUT, FEED_TIMEOUT, IDLE_TIMEOUT,
)  # fmt: skip
