"""The page of what is tested on which engine says what pytest collects."""

from __future__ import annotations

import pathlib

import pytest

from tests import engine_table

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "engines.md"


def test_page_is_what_is_collected():
    made = engine_table.make_page(engine_table.collect())
    assert PAGE.read_text("utf-8") == made, "run `python -m tests.engine_table > docs/engines.md`"


def test_row_whose_test_is_gone_is_refused():
    with pytest.raises(ValueError, match="test_drain_gives_out_what_has_come"):
        engine_table.make_page([])
