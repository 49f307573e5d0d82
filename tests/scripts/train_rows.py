"""Runs of a cluster that write rows: each task's view of its cluster, and its own rows."""

import json
import os
import signal


def tell(config):
    """Write the task's rows, with its role and index; all tasks count themselves."""
    told = json.loads(os.environ["TF_CONFIG"])
    assert told["cluster"] == config.cluster and told["task"] == {
        "type": config.task_type,
        "index": config.task_index,
    }
    assert {role: len(addresses) for role, addresses in config.cluster.items()} == {"chief": 1, "worker": 1, "ps": 1}
    assert os.getcwd() == os.path.realpath(config.work_dir) and "localhost" in os.environ["no_proxy"]
    task = "{}:{}".format(config.task_type, config.task_index)
    config.counter("tasks").inc()
    rows = 0
    for batch in config.batches(16):
        config.write_batch(id=batch["id"], task=[task] * len(batch["id"]), attempt=[config.attempt] * len(batch["id"]))
        rows += len(batch["id"])
        if config.user_params.get("die") == task and config.attempt == 1 and rows > 64:
            os.kill(os.getpid(), signal.SIGKILL)
    assert rows == config.dataset_length
    if config.task_type != "ps":
        assert config.dataset_lengths[config.shard] == rows
    else:
        config.write(id=-1, task=task, attempt=config.attempt)
        # The run does not wait for a server's end, so that its rows come while other tasks work.
        assert rows == 0


def hosted(config):
    """Write as `tell` does; servers do not call `main`."""
    assert config.task_type != "ps"
    tell(config)
