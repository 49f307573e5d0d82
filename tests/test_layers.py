"""Who may import whom, and what the script's interpreter may have to load."""

from __future__ import annotations

import ast
import pathlib
import subprocess
import sys

import pytest

import beam_tfscript

ROOT = pathlib.Path(beam_tfscript.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
RUNTIME = sorted((ROOT / "runtime").rglob("*.py")) + [ROOT / "__init__.py", ROOT / "docs.py"]
ROOMS = ("data", "script", "worker", "cluster", "runtime")

# room -> what of the package it may import beside its own room and `errors`.
ALLOWED = {
    "data": set(),
    "script": {"beam_tfscript", "beam_tfscript.runtime.config"},
    "worker": {
        "beam_tfscript.runtime",
        "beam_tfscript.runtime.wire",
        "beam_tfscript.runtime.launcher",
        "beam_tfscript.runtime.streams",
        "beam_tfscript.runtime.scratch",
    },
    "cluster": set(),
    "runtime": set(),
}
NO_BEAM = ("data", "worker", "cluster", "runtime")


def imports_of(path):
    """(module, whether at the top level) of each import statement."""
    tree = ast.parse(path.read_text())
    top = set(map(id, tree.body))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module, id(node) in top
            for alias in node.names:
                if (ROOT.parent / node.module.replace(".", "/") / f"{alias.name}.py").exists():
                    yield f"{node.module}.{alias.name}", id(node) in top


def room_of(path):
    inside = path.relative_to(ROOT).parts[0]
    return inside if inside in ROOMS else None


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_rooms_keep_to_themselves(path):
    room = room_of(path)
    for module, _ in imports_of(path):
        if room is None or not module.startswith("beam_tfscript"):
            continue
        own = module == f"beam_tfscript.{room}" or module.startswith(f"beam_tfscript.{room}.")
        shared = module == "beam_tfscript.docs" or (module == "beam_tfscript.errors" and room != "runtime")
        assert own or shared or module in ALLOWED[room], f"{path.name} imports {module}"
    if room in NO_BEAM:
        assert not any(module.startswith("apache_beam") for module, _ in imports_of(path))


@pytest.mark.parametrize("path", RUNTIME, ids=lambda path: path.name)
def test_runtime_is_python_3_6_and_loads_only_the_standard_library(path):
    tree = ast.parse(path.read_text(), feature_version=(3, 6))
    banned = {"dataclasses", "apache_beam", "pyarrow", "tfx_bsl"}
    for module, is_top in imports_of(path):
        root = module.split(".")[0]
        assert root not in banned
        if is_top:
            assert root == "beam_tfscript" or root in sys.stdlib_module_names
    features = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert "annotations" not in features


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_says_what_it_is_for_and_stays_small(path):
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), "a file says in its first line what it does"
    assert len(text.splitlines()) <= 300


def test_importing_the_package_and_the_runtime_loads_nothing_heavy():
    code = (
        "import sys, beam_tfscript, beam_tfscript.runtime.launcher;"
        "heavy = {'apache_beam', 'pyarrow', 'tfx_bsl', 'tensorflow', 'numpy'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_pipelines_process_never_loads_tensorflow():
    code = "import sys, beam_tfscript; beam_tfscript.RunTFScript;assert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names_are_there():
    for name in beam_tfscript.__all__:
        assert getattr(beam_tfscript, name)
        assert name in dir(beam_tfscript)
    with pytest.raises(AttributeError, match="NoSuchName"):
        beam_tfscript.NoSuchName
