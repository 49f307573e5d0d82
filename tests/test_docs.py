"""What the documents say of tests is so."""

from __future__ import annotations

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
DELIVERY = (ROOT / "docs/delivery.md").read_text(encoding="utf-8")
TESTS = set(re.findall(r"def (test_\w+)", "\n".join(path.read_text() for path in ROOT.glob("tests/test_*.py"))))


@pytest.mark.parametrize("path", sorted(ROOT.glob("docs/*.md")), ids=lambda path: path.name)
def test_tests_that_are_named_exist(path):
    text = path.read_text(encoding="utf-8")
    named = {name for name in re.findall(r"`(test_\w+)`", text) if not (ROOT / "tests" / f"{name}.py").exists()}
    assert named <= TESTS, named - TESTS


def test_each_promise_names_its_test():
    """Or says that it has none."""
    table = DELIVERY.split("| fault |")[1].split("\n\n")[0].splitlines()[2:]
    assert len(table) > 15
    for line in table:
        fault, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        assert len(cells) == 3, line
        for cell in cells:
            assert "`test_" in cell or cell == "–" or "not tried" in cell or "nothing to move" in cell, (fault, cell)
