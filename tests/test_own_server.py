"""Scripts that start their task's server themselves, in graph mode, and read a stream on it: on every interpreter.

Which interpreters: those in BEAM_TFSCRIPT_TEST_PYTHONS, paths with ':' between them; by default the one that runs the
tests.
"""

from __future__ import annotations

import pytest

from beam_tfscript import RunTFScript
from tests.checks import PYTHONS, environment_of, name_of
from tests.running import script

pytestmark = pytest.mark.tensorflow

ROWS = [{"id": str(number), "part": str(number % 5)} for number in range(60)]


@pytest.mark.trainings
@pytest.mark.parametrize("cluster", [{"num_workers": 2}, {"num_ps": 1}], ids=["workers", "parameter server"])
@pytest.mark.parametrize("python", PYTHONS, ids=name_of)
def test_stream_is_read_by_a_session_on_the_tasks_own_server(in_memory, python, cluster):
    transform = RunTFScript(
        script("own_server.py"), "id string, task string", input_schema="id string not null, part string not null",
        feed="stream", placement="one_host", shard_by="part", max_attempts=1, cluster_grace=60,
        python_env=environment_of(python), **cluster,
    )  # fmt: skip
    rows = in_memory.run(transform, ROWS)
    assert sorted(int(row["id"]) for row in rows) == list(range(len(ROWS)))
    tasks = {row["task"] for row in rows}
    assert tasks == ({"chief:0", "worker:0"} if "num_workers" in cluster else {"chief:0"})
