"""Table of what is tested on which engine, made from the tests that pytest collects: docs/engines.md.

python -m tests.engine_table > docs/engines.md
"""

from __future__ import annotations

import collections
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[1]

ENGINES = {
    "in_memory": "in-memory", "bundle_based": "bundle-based", "prism": "Prism", "flink": "Flink",
    "cluster": "Flink cluster", "spark": "Spark", "dataflow": "Dataflow",
}  # fmt: skip
FEEDS = ("dataset", "bundles", "stream")
_CONFORMANCE = "test_conformance"


class Row(NamedTuple):
    """Behavior or fault, and the tests of it.

    Attributes:
      what: what is tested.
      tests: name of a test -> the feed of those of its cases that do not say it.
      placement: of the shards.
    """

    what: str
    tests: dict[str, str]
    placement: str = "independent"


BOUNDED = (
    Row("each row once, on both machines", {"test_each_row_comes_once_and_both_machines_work": ""}),
    Row("as many shards on each subtask", {"test_shards_are_spread_evenly_over_the_subtasks": "dataset"}),
    Row("every type of a column", {"test_every_type_comes_back_as_it_went_in": ""}),
    Row("TFRecord files in batches, in and out", {"test_tfrecord_files_go_through_to_tfrecord_files": ""}),
    Row("windows", {
        "test_windows_are_runs_of_their_own": "", "test_bundles_give_each_row_back_in_its_window": "bundles",
    }),
    Row("outputs into a GroupByKey", {"test_outputs_keep_their_counts_through_a_group_by_key": ""}),
    Row("side inputs", {"test_every_run_is_given_the_whole_side_input": "dataset"}),
    Row("no rows", {
        "test_empty_input_makes_no_run": "dataset", "test_runs_once_a_shard_without_rows_on_a_pipeline": "dataset",
    }),
    Row("bad rows, to the dead letters", {
        "test_bad_rows_go_to_the_dead_letters_and_the_rest_goes_on": "",
        "test_rows_that_do_not_fit_go_to_the_dead_letters": "dataset",
    }),
    Row("the script raises", {
        "test_exception_shows_the_scripts_own_lines": "dataset", "test_rows_of_a_run_that_fails_go_to_another": "",
        "test_run_that_fails_is_repeated_inside_the_bundle": "",
    }),
    Row("the script's process is killed", {
        "test_dead_run_is_repeated_and_its_rows_go_downstream_once": "dataset",
        "test_rows_of_a_run_that_fails_go_to_another": "", "test_run_that_fails_is_repeated_inside_the_bundle": "",
        "test_killed_scripts_are_repeated": "dataset",
    }),
    Row("the runner repeats a bundle", {
        "test_bundle_that_spark_repeats_gives_its_rows_once": "",
    }),
    Row("a TaskManager is killed, and the job restarts", {
        "test_job_restarts_when_a_task_manager_is_killed": "dataset",
    }),
    Row("the network between two machines is cut", {"test_batch_job_ends_though_the_network_was_cut": "dataset"}),
    Row("rows as files, `transport=\"files\"`", {
        "test_script_reads_all_rows_in_every_way": "dataset",
        "test_spooled_rows_are_read_on_the_other_machine_and_removed": "dataset",
    }),
    Row("cancel", {"test_cancelled_job_leaves_no_spooled_rows": "dataset"}),
    Row("a training", {"test_training_publishes_its_model_in_the_shared_directory": "dataset"}),
    Row("a training of a cluster", {
        "test_cluster_learns_what_its_rows_say_and_publishes_one_model": "dataset",
    }, "one_host"),
    Row("rows through a cluster", {"test_rows_of_all_tasks_come_once": "dataset"}, "one_host"),
    Row("a task of a cluster is killed", {"test_rows_of_a_cluster_that_died_come_once": "dataset"}, "one_host"),
    Row("a training of a cluster", {
        "test_cluster_learns_what_its_rows_say_and_publishes_one_model": "dataset",
        "test_all_reduce_over_two_machines_sums_the_rows_of_both": "dataset",
    }, "spread"),
    Row("rows through a cluster", {"test_rows_of_tasks_on_two_machines_come_once": "dataset"}, "spread"),
    Row("a task of a cluster is killed", {
        "test_training_whose_tasks_die_goes_on_from_its_checkpoints": "dataset",
        "test_parameter_servers_over_two_machines_go_on_when_script_processes_are_killed": "dataset",
    }, "spread"),
    Row("an SDK worker of a cluster is killed, or the network cut, and the job restarts", {
        "test_training_goes_on_from_its_checkpoint_when_the_job_restarts": "dataset",
    }, "spread"),
    Row("too few slots for a cluster", {
        "test_tasks_whose_bundles_come_one_after_the_other_fail_after_the_timeout": "dataset",
    }, "spread"),
    Row("large files reach the workers", {
        "test_large_local_files_travel_to_workers": "dataset",
        "test_files_of_the_submitter_reach_both_machines": "dataset",
    }),
    Row("requirements are installed", {"test_requirements_are_installed_on_both_machines": "dataset"}),
    Row("the demo", {
        "test_reads_at_least_95_of_100_unseen_digits": "dataset",
        "test_demo_runs_by_the_command_of_the_docs": "dataset",
    }),
    Row("the job graph, offline", {
        "test_shuffle_has_keys_and_windows_that_every_runner_knows": "dataset",
        "test_worker_needs_nothing_of_the_submitter_but_the_graph": "dataset",
        "test_large_local_files_are_in_the_request_to_dataflow": "dataset",
    }),
)  # fmt: skip
UNBOUNDED = (
    Row("windows", {
        "test_window_is_a_run_that_ends_with_it": "stream",
        "test_sliding_windows_give_a_row_to_a_run_of_each": "stream",
        "test_global_window_is_one_run_with_the_times_of_its_rows": "stream",
        "test_feed_dataset_makes_a_run_of_each_pane": "dataset",
        "test_feed_bundles_gives_each_row_back_once_in_its_window": "bundles",
    }),
    Row("late rows", {"test_late_rows_start_a_run_of_their_own_and_what_is_too_late_is_dropped": "stream"}),
    Row("triggers", {"test_triggers_change_nothing_for_rows_that_are_passed_on_as_they_come": ""}),
    Row("rows faster than the script", {"test_rows_that_come_faster_than_the_script_takes_them": "stream"}),
    Row("more runs than processes", {"test_runs_beyond_max_processes_wait_in_state": "stream"}),
    Row("the script raises", {"test_rows_of_a_window_are_replayed_when_its_run_fails_inside_a_bundle": "stream"}),
    Row("the script's process is killed", {
        "test_process_that_is_killed_between_bundles_costs_what_replay_says": "stream",
        "test_rows_of_a_window_are_replayed_when_its_run_fails_inside_a_bundle": "stream",
        "test_stream_goes_on_when_script_processes_are_killed": "stream",
        "test_each_record_is_accounted_for_after_a_kill_and_after_a_restart": "",
    }),
    Row("the runner repeats a bundle", {"test_bundle_that_the_runner_repeats_gives_its_rows_once": ""}),
    Row("rows through a cluster", {
        "test_unbounded_rows_are_given_back_once_though_a_task_reads_late": "stream",
    }, "one_host"),
    Row("a task of a cluster is killed", {
        "test_killed_worker_of_a_cluster_is_replayed_with_all_tasks": "stream",
    }, "one_host"),
    Row("checkpoints", {"test_each_row_is_given_back_once_while_checkpoints_are_taken": "stream"}),
    Row("the job goes back to a checkpoint", {
        "test_each_row_is_given_back_at_least_once_when_the_job_goes_back_to_a_checkpoint": "stream",
        "test_each_record_is_accounted_for_after_a_kill_and_after_a_restart": "",
    }),
    Row("an SDK worker is killed", {
        "test_job_goes_on_from_a_checkpoint_when_an_sdk_worker_is_killed": "",
    }),
    Row("a TaskManager is killed", {"test_job_goes_on_from_a_checkpoint_when_a_task_manager_is_killed": ""}),
    Row("the network between two machines is cut", {"test_stream_goes_on_when_the_network_was_cut": ""}),
    Row("a savepoint, with another parallelism", {"test_keys_move_with_a_savepoint_to_other_workers": "stream"}),
    Row("drain", {"test_drain_gives_out_what_has_come": ""}),
    Row("cancel", {"test_cancel_ends_the_processes": ""}),
    Row("Kafka, in and out", {
        "test_each_record_is_accounted_for_after_a_kill_and_after_a_restart": "", "test_command_of_the_docs": "bundles",
    }),
    Row("refused while the pipeline is built", {
        "test_unbounded_input_is_refused_on_spark_with_the_reason": "stream",
    }),
)  # fmt: skip

# Engines of tests that do not say them by a parameter.
_ENGINE_OF = {
    "test_reads_at_least_95_of_100_unseen_digits": "in_memory",
    "test_bundle_that_the_runner_repeats_gives_its_rows_once": "bundle_based",
    "test_killed_worker_of_a_cluster_is_replayed_with_all_tasks": "bundle_based",
    "test_unbounded_rows_are_given_back_once_though_a_task_reads_late": "bundle_based",
    "test_shuffle_has_keys_and_windows_that_every_runner_knows": "dataflow",
    "test_worker_needs_nothing_of_the_submitter_but_the_graph": "dataflow",
    "test_large_local_files_are_in_the_request_to_dataflow": "dataflow",
    "test_unbounded_input_is_refused_on_spark_with_the_reason": "spark",
    "test_script_reads_all_rows_in_every_way": "in_memory",
    "test_tasks_whose_bundles_come_one_after_the_other_fail_after_the_timeout": "in_memory",
}
_TEXT = """# Engines

This page says which behavior and which faults are tested on which engine. `python -m tests.engine_table` makes it from
the tests that pytest collects, and `tests/test_engine_table.py` compares. A cell names the feeds: **d**ataset,
**b**undles, **s**tream. An empty cell has no test. [Feeds and faults](delivery.md) says what is promised, and
[Submit](submit.md#what-was-tried) describes the setups.

- In-memory and bundle-based are the engines of Beam's DirectRunner. The former is for bounded input only.
- Prism, Flink and Spark are the real programs, behind their job servers on one machine. Flink and Spark run in one
  process each.
- The Flink cluster has two TaskManagers on machines of their own: other users, networks and files.
- Dataflow's jobs are built offline, and never sent to the service.

## Bounded input

{bounded}

The tests:

{tests_of_bounded}

## Unbounded input

{unbounded}

The tests:

{tests_of_unbounded}
"""


def collect() -> list[dict]:
    """Return the tests that a target of the Makefile runs, as `collected.py` notes them."""
    from tests.test_targets import commands

    names = [name for name in ENGINES if name != "dataflow"]
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "tests")
        environment = {
            **os.environ, "TESTS": path, "BEAM_TFSCRIPT_TEST_ENGINES": ",".join(names), "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "", "-p", "tests.collected", "tests"],
            cwd=ROOT, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(done.stdout[-3000:] + done.stderr[-3000:])
        found = [json.loads(line) for line in pathlib.Path(path).read_text().splitlines()]
    files = {name: " ".join(commands(f"test-{name}")) for name in names if name not in ("in_memory", "bundle_based")}
    return [test for test in found if _has_target(test, files)]


def _has_target(test: dict, files: dict[str, str]) -> bool:
    """Return False for a case of an engine whose target does not have its file."""
    if test["file"] == "test_script_artifacts.py":  # starts its engines itself, in `make test-heavy`
        return True
    return test["engine"] not in files or f"tests/{test['file']}" in files[test["engine"]]


def make_page(tests: list[dict]) -> str:
    """Return the page.

    Raises:
      ValueError: a test of a row is not collected for any engine, or its feed is not known.
    """
    # Some tests of one engine have the name of a conformance test.
    general = {test["name"] for test in tests if test["file"].startswith(_CONFORMANCE)}
    cases = collections.defaultdict(set)
    for test in tests:
        engine = _ENGINE_OF.get(test["name"], test["engine"])
        if engine is not None and (test["name"] not in general or test["file"].startswith(_CONFORMANCE)):
            cases[test["name"]].add((engine, test["feed"], test["placement"]))
    missing = [name for row in (*BOUNDED, *UNBOUNDED) for name in row.tests if not cases[name]]
    if missing:
        raise ValueError(f"no such test, or none with an engine: {missing}")
    parts = {"bounded": _table(BOUNDED, cases), "unbounded": _table(UNBOUNDED, cases)}
    return _TEXT.format(**parts, tests_of_bounded=_list(BOUNDED), tests_of_unbounded=_list(UNBOUNDED))


def _list(rows: tuple[Row, ...]) -> str:
    return "\n".join(f"- {row.what}: " + ", ".join(f"`{name}`" for name in row.tests) for row in rows)


def _table(rows: tuple[Row, ...], cases: dict[str, set]) -> str:
    lines = ["| | `placement` | " + " | ".join(ENGINES.values()) + " |", "| --- " * (len(ENGINES) + 2) + "|"]
    for row in rows:
        tested = collections.defaultdict(set)
        for name, default in row.tests.items():
            for engine, feed, placement in cases[name]:
                if placement in (None, row.placement):
                    tested[engine].add(feed or default)
        unknown = set().union(*tested.values()) - set(FEEDS)
        if unknown:
            raise ValueError(f"{row.what}: {unknown} is no feed, and the row says none for such a case")
        cells = [" ".join(feed[0] for feed in FEEDS if feed in tested[engine]) for engine in ENGINES]
        lines.append(f"| {row.what} | {row.placement} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(make_page(collect()))
