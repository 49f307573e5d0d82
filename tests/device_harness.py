"""A pipeline in a process of its own: another SDK harness on this machine.

python -m tests.device_harness '{"entry": "tells", …}' prints a line of JSON per output row.
"""

from __future__ import annotations

import json
import pathlib
import sys
import tempfile
from typing import Any

from beam_tfscript import RunTFScript
from tests.running import Runner, script
from tests.without_tensorflow import blocked

SCHEMA = "devices string, growth string, task string, pid bigint, began bigint, ended bigint"


def device_run(entry: str, directory: pathlib.Path, **arguments: Any) -> RunTFScript:
    """Return the transform with an entry of the devices' script, in processes without TensorFlow.

    Args:
      entry: name of the function.
      directory: where the module is made that blocks TensorFlow.
      **arguments: further arguments of the transform.
    """
    arguments.setdefault("env", blocked(directory))
    return RunTFScript(script("devices.py"), SCHEMA, entry=entry, **{"user_params": {}, **arguments})


def main() -> None:
    """Run the transform over no rows, and print its outputs."""
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        runner = Runner("in_memory", directory)
        threads = ["--direct_num_workers=3", "--direct_running_mode=multi_threading"]
        for row in runner.run(device_run(directory=directory, **json.loads(sys.argv[1])), options=threads):
            sys.stdout.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
