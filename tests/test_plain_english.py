"""Checker of prose: planted violations are found, and plain sentences are left alone."""

from __future__ import annotations

import pytest

from tests import plain_english


def violations(source, name="file.py", *, directory):
    path = directory / name
    path.write_text(source)
    return [violation for _, violation in plain_english.find_violations(path)]


@pytest.mark.parametrize(
    ("source", "part"),
    [
        ('"""What a run is told."""', "'What'"),
        ('def f():\n    """Whether it is there."""', "'Whether'"),
        ('def f():\n    """Returns the rows."""', "say 'Return'"),
        ('def f():\n    """Copies the rows."""', "say 'Copy'"),
        ("# Whoever reads it.\n", "'Whoever'"),
        ('raise E("no package is to be had")', "'to be had'"),
        ('raise E(f"{name} stumbles over it")', "'stumbles over'"),
        ('"""Start-up costs 2 ms a row."""', "'ms a row'"),
        ('"""Rows ' + "and more rows " * 9 + '."""', "a sentence of 28 words"),
    ],
)
def test_violation_in_python_is_found(source, part, tmp_path):
    found = violations(source, directory=tmp_path)
    assert len(found) == 1 and part in found[0]


@pytest.mark.parametrize(
    "source",
    [
        'def f():\n    """Return the rows."""',
        'def f():\n    """Rows of the shard."""',
        'def f():\n    """Processes that are idle."""',
        'class A:\n    @property\n    def b(self):\n        """True if the rows are whole."""',
        "x = 'what is in code stays'",
        '"""It needs one call per row."""',
        '"""Rows.\n\nArgs:\n  ' + "a: of the rows.\n  " * 20 + '"""',
    ],
)
def test_plain_python_is_left_alone(source, tmp_path):
    assert not violations(source, directory=tmp_path)


def test_markdown_is_read_without_its_code(tmp_path):
    source = "# Title\n\nPlain text, [a link](where.md).\n\n```\nwhoever is at hand\n```\n\nIt is at hand.\n"
    assert violations(source, "page.md", directory=tmp_path) == ["'at hand': name the thing"]
