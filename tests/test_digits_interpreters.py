"""The demo's scoring script, unedited, in whatever interpreter is to be tested: the newest, or an old one."""

from __future__ import annotations

import gzip

import pytest

from beam_tfscript import RunTFScript
from pipelines import digits

pytestmark = pytest.mark.tensorflow


@pytest.mark.trainings
def test_digits_script_learns_in_this_interpreter(in_memory):
    lines = gzip.decompress(digits.INPUT.read_bytes()).decode("ascii").splitlines()
    transform = RunTFScript(
        str(digits.SCRIPT), digits.OUTPUT_SCHEMA, input_schema=digits.INPUT_SCHEMA, user_params=digits.USER_PARAMS
    )
    rows = in_memory.run(transform, list(digits.parse_digits(lines)))
    assert len(rows) == 599
    assert sum(row["label"] == row["predicted"] for row in rows) >= 0.95 * 599
