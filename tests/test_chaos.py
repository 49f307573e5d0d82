"""A minute of drawn runs and faults against the guarantees' model; `make soak` plays an hour of it on each engine.

The seed is that of the variable BEAM_TFSCRIPT_CHAOS_SEED, else always the same. `python -m tests.chaos --seed S
--engines in_memory,bundle_based --only N` plays a round again.
"""

from __future__ import annotations

import itertools
import os
import sys

import pytest

from tests.chaos import LOCAL, draw, play_rounds
from tests.chaos_model import Found, violations

SEED = int(os.environ.get("BEAM_TFSCRIPT_CHAOS_SEED", "11"))


@pytest.mark.cold  # its scratch directory is on the small disk that chaos draws
@pytest.mark.kills
def test_minute_of_chaos_keeps_every_guarantee(tmp_path):
    tally = play_rounds(SEED, itertools.count(), seconds=60, engines=LOCAL, directory=tmp_path)
    sys.stdout.write(f"seed {SEED}: {tally}\n")
    assert not tally.wrong, f"seed {SEED}: {tally}"
    assert tally.counts["rounds"] > 3 and tally.counts["rows"], tally


def test_round_is_drawn_from_its_seed_and_number_alone():
    assert draw(3, 14, LOCAL) == draw(3, 14, LOCAL)
    assert len({str(draw(3, number, LOCAL)) for number in range(20)}) == 20


PLAN = draw(0, 0, ["in_memory"])._replace(
    feed="bundles", replay=None, rows=4, window=None, batch=1, max_attempts=2, has_dead_letters=False, disk_mib=None,
    faults={1: ["kill"]},
)  # fmt: skip
METRICS = {"rows_out": 4, "seen": 4, "runs_failed": 1, "process_deaths": 1}
RIGHT = Found(None, [(row, None) for row in range(4)], [], METRICS, ["kill"])


def test_model_takes_what_is_right():
    assert violations(PLAN, RIGHT) == []
    assert violations(PLAN._replace(max_attempts=1), Found("chaos.py died", [], [], {}, ["kill"])) == []


@pytest.mark.parametrize(
    ("plan", "found", "expected"),
    [
        (PLAN, RIGHT._replace(good=RIGHT.good[1:]), "1 rows lost"),
        (PLAN, RIGHT._replace(good=[*RIGHT.good, RIGHT.good[0]]), "doubled"),
        (PLAN, RIGHT._replace(good=[*RIGHT.good, (9, None)]), "made up"),
        (PLAN, RIGHT._replace(bad=[2]), "dead letters"),
        (PLAN, RIGHT._replace(metrics={**METRICS, "seen": 5}), "seen is 5, not 4"),
        (PLAN, RIGHT._replace(metrics={**METRICS, "runs_failed": 2}), "runs_failed is 2, not 1"),
        (PLAN, Found("chaos.py died", [], [], {}, ["kill"]), "attempts left"),
        (PLAN._replace(max_attempts=1), Found("who knows", [], [], {}, ["kill"]), "it failed"),
        (PLAN._replace(window=2.0), RIGHT._replace(good=[(row, (0, 2)) for row in range(4)]), "window"),
        (PLAN._replace(feed="stream", replay=False), RIGHT._replace(good=RIGHT.good[1:]), "1 rows lost"),
    ],
)
def test_model_tells_what_is_wrong(plan, found, expected):
    assert expected in " ".join(violations(plan, found))
