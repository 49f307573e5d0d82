"""Tests and files that the documentation names exist."""

from __future__ import annotations

import importlib.util
import pathlib
import re

import pytest

from beam_tfscript import __version__
from beam_tfscript.runtime.docs import ADDRESS

ROOT = pathlib.Path(__file__).parents[1]
DELIVERY = (ROOT / "docs/delivery.md").read_text(encoding="utf-8")
TESTS = set(re.findall(r"def (test_\w+)", "\n".join(path.read_text() for path in ROOT.glob("tests/test_*.py"))))
PAGES = [*sorted(ROOT.glob("docs/*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
FOLDERS = ("beam_tfscript", "benchmarks", "docs", "pipelines", "tests")
# A reader's own files.
EXAMPLES = {"helpers.py", "my-score.py", "pipeline.py", "score.py", "train.py", "types.py"}


@pytest.mark.parametrize("path", sorted(ROOT.glob("docs/*.md")), ids=lambda path: path.name)
def test_tests_that_are_named_exist(path):
    text = path.read_text(encoding="utf-8")
    named = {name for name in re.findall(r"`(test_\w+)`", text) if not (ROOT / "tests" / f"{name}.py").exists()}
    assert named <= TESTS, named - TESTS


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_lists_tables_and_code_begin_after_an_empty_line(path):
    """Without one the hosting site shows a list, and the built site a paragraph."""
    is_code = is_block = False
    before = ""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        begins = bool(re.match(r"- |\d+\. |\||```", line)) and not is_code
        assert not begins or is_block or not before.strip(), f"{path.name}:{number}: {line}"
        if line.startswith("```"):
            is_code = not is_code
        is_block = begins or (is_block and line.startswith(" "))
        before = line


@pytest.mark.parametrize(
    ("folder", "link", "address"),
    [
        ("docs", "guide.md#the-input", "guide.md#the-input"),
        ("docs", "../pipelines/digits.py", f"{ADDRESS}/blob/v{__version__}/pipelines/digits.py"),
        ("docs", "../tests/scripts", f"{ADDRESS}/tree/v{__version__}/tests/scripts"),
        ("", "docs/guide.md#the-input", "guide.md#the-input"),
        ("", "docs/digits.png", "digits.png"),
        ("", "Dockerfile", f"{ADDRESS}/blob/v{__version__}/Dockerfile"),
        ("", "#install", "#install"),
        ("", "https://semver.org", "https://semver.org"),
    ],
)
def test_links_lead_to_the_site_or_to_the_hosting_site(folder, link, address):
    spec = importlib.util.spec_from_file_location("site_hooks", ROOT / "docs/site_hooks.py")
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    assert hooks.relinked(f"See ![a picture]({link}) or [a page]({link}).", folder) == (
        f"See ![a picture]({address}) or [a page]({address})."
    )


def test_files_that_are_named_exist():
    """A name may be the end of a path, such as `reading/feed.py`."""
    files = [path.relative_to(ROOT).as_posix() for folder in FOLDERS for path in ROOT.glob(f"{folder}/**/*.py")]
    known = {
        "/".join(parts[start:]) for parts in (["", *file.split("/")] for file in files) for start in range(len(parts))
    }
    for page in PAGES:
        named = set(re.findall(r"(?<![\w./:-])(?:\.\./)*[\w-]+(?:/[\w-]+)*\.py\b", page.read_text(encoding="utf-8")))
        unknown = {name for name in named if name.removeprefix("../") not in known | EXAMPLES | {"setup.py"}}
        assert not unknown, (page.name, unknown)


def test_each_promise_names_its_test():
    """Or says that it has none."""
    table = DELIVERY.split("| fault |")[1].split("\n\n")[0].splitlines()[2:]
    assert len(table) > 15
    for line in table:
        fault, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        assert len(cells) == 3, line
        for cell in cells:
            assert "`test_" in cell or cell == "–" or "not tried" in cell or "nothing to move" in cell, (fault, cell)
