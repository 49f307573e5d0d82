"""Random schemas and rows through a real script process and back, equal to the bit."""

from __future__ import annotations

import dataclasses
import os
import sys
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from beam_tfscript.data.chunks import Chunker
from beam_tfscript.data.encoding import RowEncoder
from beam_tfscript.data.schema import Schema
from beam_tfscript.dofns.decode_output import OutputDecoder
from beam_tfscript.dofns.script_dofns import stage_once
from beam_tfscript.feeds.dataset import ShardRun
from beam_tfscript.feeds.run_requests import make_spec
from beam_tfscript.feeds.staged_script import StagedScript
from beam_tfscript.files.staging import stage_files, stage_runtime
from beam_tfscript.options.script_options import ScriptOptions
from beam_tfscript.transforms.run_tf_script import RunTFScript
from beam_tfscript.worker.pool import get_pool
from tests import strategies
from tests.running import script

pytestmark = pytest.mark.tensorflow

# Building a parser for each schema takes TensorFlow a tenth of a second, so the ways through it get fewer.
EXAMPLES = {"echo_typed": 100, "echo_rows": 100, "echo_records": 300}


class Harness:
    """The stations of a record one after the other, without a runner: one process serves all runs."""

    def __init__(self, entry: str):
        self._options: ScriptOptions = RunTFScript(script("echo.py"), "x float", entry=entry)._options.resolve(
            "dataset", None
        )
        self._pool = get_pool()
        self._pool.register(self._options.key, self)
        directory = os.path.join(self._pool.scratch(), "script")
        runtime = stage_once(stage_runtime, directory, "runtime")
        files = stage_once(lambda path: stage_files(self._options.files, path), directory, "files")
        spec = make_spec(self._options, sys.executable, runtime)
        self._staged = StagedScript(self._options, spec, self._pool, files)

    def close(self) -> None:
        self._pool.unregister(self._options.key, self)

    def echo(self, schema: Schema, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        encoded = RowEncoder(schema).encode(rows, keep_going=False)
        chunker = Chunker(1, 0)
        chunks = [*chunker.add(encoded.examples), *chunker.flush()]
        options = dataclasses.replace(self._options, input_schema=schema, output_schema=schema)
        run = ShardRun(dataclasses.replace(self._staged, options=options), user=self, side_inputs={})
        decoder = OutputDecoder(schema, "dict")
        written = run.rows(0, None, [(0, chunk.count, chunk.payload, "") for chunk in chunks])
        return [row for records in written for row in decoder.decode(records)]


@pytest.mark.fuzz
@pytest.mark.parametrize("entry", sorted(EXAMPLES))
def test_rows_of_any_schema_come_back_equal(entry):
    harness = Harness(entry)

    @settings(max_examples=EXAMPLES[entry], deadline=None, suppress_health_check=list(HealthCheck))
    @given(schema_and_rows=strategies.schemas_and_rows())
    def check(schema_and_rows):
        schema, rows = schema_and_rows
        back = harness.echo(schema, rows)
        assert len(back) == len(rows)
        for sent, got in zip(rows, back):
            for column in schema:
                assert strategies.canonical(got[column.name], column) == strategies.canonical(sent[column.name], column)

    try:
        check()
    finally:
        harness.close()
