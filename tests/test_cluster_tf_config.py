"""Tasks of a cluster and the TF_CONFIG of each, also as TensorFlow's Estimators read it."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess

import pytest

from beam_tfscript.cluster.counts import Counts
from beam_tfscript.cluster.ports import HeldPorts
from beam_tfscript.cluster.tf_config import make_addresses, make_tasks, num_addresses, tf_config, tf_config_text
from beam_tfscript.errors import ArgumentError
from tests.checks import PYTHONS, has_estimators
from tests.running import script

# TensorFlow's import and a training of 40 steps, up to three at a time on a busy machine.
_TIMEOUT_S = 150


def test_the_chief_is_the_first_worker_and_shards_are_dealt_to_workers_only():
    tasks = make_tasks(Counts(3, 2, 1))
    assert [str(task) for task in tasks] == ["chief:0", "worker:0", "worker:1", "ps:0", "ps:1", "evaluator:0"]
    assert [task.shard for task in tasks] == [0, 1, 2, None, None, None]


def test_the_evaluator_is_not_in_the_cluster_and_has_its_place_all_the_same():
    counts = Counts(2, 1, 1)
    addresses = make_addresses(counts, ["h:1", "h:2", "h:3"])
    assert addresses == {"chief": ["h:1"], "worker": ["h:2"], "ps": ["h:3"]}
    assert tf_config(addresses, "evaluator", 0) == {
        "cluster": addresses,
        "task": {"type": "evaluator", "index": 0},
    }


@pytest.mark.parametrize(
    ("counts", "expected"), [((1, 0, 0), 0), ((1, 0, 1), 1), ((3, 0, 0), 3), ((2, 2, 1), 4)], ids=str
)
def test_each_task_that_is_spoken_to_needs_an_address(counts, expected):
    counts = Counts(*counts)
    assert num_addresses(counts) == expected
    if expected:
        with pytest.raises(ValueError, match="addresses are needed, got 9"):
            make_addresses(counts, ["h:1"] * 9)


def test_a_run_that_is_alone_has_a_cluster_but_no_tf_config():
    counts = Counts(1, 0, 0)
    (task,) = make_tasks(counts)
    addresses = make_addresses(counts)
    assert addresses == {"chief": ["localhost:0"]}
    assert tf_config_text(counts, addresses, task) is None
    assert json.loads(tf_config_text(counts, addresses, task, when="always")) == tf_config(addresses, "chief", 0)


def test_every_task_of_a_cluster_has_a_tf_config():
    counts = Counts(1, 0, 1)
    addresses = make_addresses(counts, ["h:1"])
    texts = [tf_config_text(counts, addresses, task) for task in make_tasks(counts)]
    assert [json.loads(text)["task"]["type"] for text in texts] == ["chief", "evaluator"]
    assert all(json.loads(text)["cluster"] == {"chief": ["h:1"]} for text in texts)


def test_rejects_another_word_for_when():
    with pytest.raises(ArgumentError, match='tf_config must be "always" or None'):
        tf_config_text(Counts(1, 0, 0), {}, make_tasks(Counts(1, 0, 0))[0], when="never")


def test_changing_a_config_doesnt_change_the_cluster():
    addresses = make_addresses(Counts(2, 0, 0), ["h:1", "h:2"])
    tf_config(addresses, "chief", 0)["cluster"]["chief"].append("h:3")
    assert addresses["chief"] == ["h:1"] and make_addresses(Counts(1, 0, 0)) is not make_addresses(Counts(1, 0, 0))


@pytest.mark.trainings
@pytest.mark.parametrize(
    ("python", "counts"),
    # Smaller clusters on the first interpreter only, which is the oldest.
    [(python, Counts(1, 1, 1)) for python in PYTHONS] + [(PYTHONS[0], Counts(1, 0, n)) for n in (0, 1)],
    ids=str,
)
def test_an_estimator_evaluates_and_exports(python: str, counts: Counts, tmp_path: pathlib.Path):
    if not has_estimators(python):
        # TensorFlow 2.16 has no Estimators any more; test-envs runs this where there are.
        return
    tasks = make_tasks(counts)
    with HeldPorts(num_addresses(counts)) as held:
        addresses = make_addresses(counts, held.addresses)
        processes = {}
        for task in tasks:
            text = tf_config_text(counts, addresses, task)
            environ = dict(os.environ, TF_CPP_MIN_LOG_LEVEL="3", **({} if text is None else {"TF_CONFIG": text}))
            with open(tmp_path / f"{task}.log", "w") as log:
                processes[task] = subprocess.Popen(
                    [python, script("cluster_estimator.py"), str(tmp_path / "model")], env=environ, stderr=log
                )
        try:
            for task, process in processes.items():
                if task.type != "ps":
                    assert process.wait(_TIMEOUT_S) == 0, (tmp_path / f"{task}.log").read_text()[-4000:]
        finally:
            for process in processes.values():
                process.kill()
                process.wait()
    assert list((tmp_path / "model" / "eval").iterdir())
    assert list((tmp_path / "model" / "export" / "latest").glob("*/saved_model.pb"))
