"""Numbers of tasks in a cluster: every rule, and every combination that breaks one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_tfscript.cluster.counts import Counts, resolve_counts
from beam_tfscript.errors import ArgumentError


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, (1, 0)),
        ({"num_workers": 3}, (3, 0)),
        ({"num_ps": 2}, (1, 2)),
        ({"num_workers": 3, "num_ps": 2}, (3, 2)),
        ({"parallelism": 1}, (1, 0)),
        ({"parallelism": 2}, (1, 1)),
        ({"parallelism": 3}, (2, 1)),
        ({"parallelism": 4}, (3, 1)),
        ({"parallelism": 8}, (6, 2)),
        ({"parallelism": 11}, (9, 2)),
        ({"parallelism": 5, "num_workers": 2}, (2, 3)),
        ({"parallelism": 5, "num_ps": 1}, (4, 1)),
        ({"parallelism": 5, "num_ps": 0}, (5, 0)),
        ({"parallelism": 5, "num_workers": 5, "num_ps": 0}, (5, 0)),
    ],
    ids=str,
)
def test_counts_that_are_not_given_follow_from_those_that_are(given, expected):
    assert resolve_counts(**given) == Counts(*expected, 0)


def test_evaluators_come_on_top_of_the_total():
    counts = resolve_counts(parallelism=4, num_evaluators=1)
    assert counts == Counts(3, 1, 1) and counts.total == 5


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_workers": 0}, "num_workers must be a whole number of at least 1, got 0"),
        ({"num_workers": -1}, "at least 1, got -1"),
        ({"num_workers": True}, "got True"),
        ({"num_workers": 1.0}, "got 1.0"),
        ({"num_ps": -1}, "num_ps must be a whole number of at least 0, got -1"),
        ({"num_evaluators": -1}, "num_evaluators must be"),
        ({"num_evaluators": "1"}, "got '1'"),
        ({"parallelism": 0}, "parallelism must be a whole number of at least 1, got 0"),
        ({"parallelism": 4, "num_ps": 4}, "greater than num_ps, since num_workers is the remainder.*num_ps=4"),
        ({"parallelism": 4, "num_ps": 6}, "greater than num_ps.*num_ps=6"),
        ({"parallelism": 4, "num_workers": 4}, "greater than num_workers.*or give num_ps=0 too"),
        ({"parallelism": 4, "num_workers": 5}, "greater than num_workers.*num_workers=5"),
        ({"parallelism": 4, "num_workers": 4, "num_ps": 1}, r"got 4 \+ 1 and parallelism=4"),
        ({"parallelism": 4, "num_workers": 1, "num_ps": 1}, r"got 1 \+ 1 and parallelism=4"),
    ],
    ids=str,
)
def test_rejects_counts_that_make_no_cluster(given, message):
    with pytest.raises(ArgumentError, match=message):
        resolve_counts(**given)


_COUNT = st.none() | st.integers(-2, 40)


@given(num_workers=_COUNT, num_ps=_COUNT, parallelism=_COUNT, num_evaluators=st.integers(-1, 3))
def test_what_is_accepted_is_a_cluster_that_adds_up(num_workers, num_ps, parallelism, num_evaluators):
    try:
        counts = resolve_counts(num_workers, num_ps, parallelism, num_evaluators)
    except ArgumentError:
        return
    assert counts.num_workers >= 1 and counts.num_ps >= 0 and counts.num_evaluators == num_evaluators
    assert num_workers in (None, counts.num_workers) and num_ps in (None, counts.num_ps)
    assert parallelism in (None, counts.num_workers + counts.num_ps)
