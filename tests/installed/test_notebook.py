"""A notebook, executed by a real kernel: the script is written by a cell, and a pipeline run over rows."""

from __future__ import annotations

import sys

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

SCRIPT = """%%writefile count_in_cell.py
def main(config):
    for records in config.example_batches(512):
        config.write(rows=len(records) * 1)
"""
PIPELINE = """
import apache_beam as beam
from beam_tfscript import RunTFScript

with beam.Pipeline() as pipeline:
    rows = pipeline | beam.Create([beam.Row(id="a", x=1.0), beam.Row(id="b", x=2.0)])
    counts = rows | RunTFScript("count_in_cell.py", "rows bigint", feed="bundles", env={env!r})
    counts | beam.Map(lambda row: print("rows:", row.rows))
"""


def execute(work, *cells):
    """The notebook with what its cells gave; an error in a cell is raised here."""
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager

    class OwnKernel(KernelSpecManager):
        def get_kernel_spec(self, kernel_name):
            return KernelSpec(
                argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
                display_name="own", language="python",
            )  # fmt: skip

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    manager = AsyncKernelManager(kernel_name="own", kernel_spec_manager=OwnKernel())
    client = nbclient.NotebookClient(
        notebook, km=manager, timeout=240, allow_errors=True, resources={"metadata": {"path": str(work)}}
    )
    client.execute()
    return notebook


def text(cell):
    return "".join(output.get("text", "") for output in cell.outputs if output.output_type == "stream")


def errors(notebook):
    return [output for cell in notebook.cells for output in cell.outputs if output.output_type == "error"]


def test_pipeline_in_a_notebook(work, without_tensorflow):
    notebook = execute(work, SCRIPT, PIPELINE.format(env=without_tensorflow))
    assert not errors(notebook), errors(notebook)
    assert "rows: 2\n" in text(notebook.cells[1])


def test_function_in_place_of_a_file(work):
    notebook = execute(
        work, "def main(config): pass", "from beam_tfscript import RunTFScript\nRunTFScript(main, 'id string')"
    )
    (error,) = errors(notebook)
    assert error.ename == "ArgumentError" and "%%writefile" in error.evalue


def test_error_of_a_script_is_the_last_thing_shown(work, without_tensorflow):
    broken = SCRIPT.replace("* 1", "/ None")
    notebook = execute(work, broken, PIPELINE.format(env=without_tensorflow))
    (error,) = errors(notebook)
    assert "count_in_cell.py" in error.evalue.splitlines()[0] and "TypeError" in error.evalue.splitlines()[0]
    assert "TypeError" in error.traceback[-1].splitlines()[-1] or "TypeError" in error.evalue.splitlines()[-1]
