"""Fixtures of all tests: a temporary directory of their own, engines, and nothing left behind."""

from __future__ import annotations

import logging
import tempfile

import pytest

from tests.leaks import assert_nothing_left
from tests.running import ENGINES, Runner


@pytest.fixture(autouse=True)
def scratch_parent(tmp_path_factory, monkeypatch):
    """Each test's scratch directories are its own, so that tests side by side do not see each other's."""
    directory = tmp_path_factory.mktemp("scratch")
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    with assert_nothing_left():
        yield directory


@pytest.fixture(params=sorted(ENGINES))
def runner(request, tmp_path):
    """Runs a transform on one of the engines of the local runner."""
    return Runner(request.param, tmp_path)


@pytest.fixture
def in_memory(tmp_path):
    """Runs a transform on the in-memory engine."""
    return Runner("in_memory", tmp_path)


@pytest.fixture(autouse=True)
def log_level():
    """What scripts print is logged at INFO."""
    logging.getLogger().setLevel(logging.INFO)
