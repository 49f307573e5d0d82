"""Imports between rooms, and modules that the script's interpreter may load."""

from __future__ import annotations

import ast
import pathlib
import subprocess
import sys

import pytest

import beam_tfscript

ROOT = pathlib.Path(beam_tfscript.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
RUNTIME = sorted((ROOT / "runtime").rglob("*.py")) + [ROOT / "__init__.py"]

# The rooms, one floor a line: a file imports from floors below its own, and from its own room.
FLOORS = (
    ("cli",),
    ("transforms", "tables"),
    ("dofns",),
    ("feeds",),
    ("options",),
    ("models", "python_env", "io"),
    ("worker", "cluster", "data", "files"),
    ("metrics", "errors", "runtime"),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
# The same inside the script process.
RUNTIME_FLOORS = (
    ("run",),
    ("compat",),
    ("config",),
    ("reading",),
    ("writing",),
    ("transport", "tf", "columns", "docs", "maxcompute"),
)
RUNTIME_FLOOR = {room: floor for floor, rooms in enumerate(RUNTIME_FLOORS) for room in rooms}
AT_THE_ROOT = {"__init__", "__main__", "errors", "metrics"}
# What the pipeline's side has of the script's side: the two ends' common ground.
COMMON = ("beam_tfscript.runtime.transport", "beam_tfscript.runtime.docs")
OF_RUNTIME = {
    # The spec by which the script's side parses Examples, for pipelines that parse them too.
    "data": ("beam_tfscript.runtime.columns", "beam_tfscript.runtime.reading.reader"),
    "worker": ("beam_tfscript.runtime.run",),  # the name of the program that a process runs
    "feeds": ("beam_tfscript.runtime.config.train_config",),  # how many reports a training may make
    "tables": ("beam_tfscript.runtime.maxcompute",),  # addresses and credentials, which scripts use too
}
# Rooms that may import Beam, and the files of `files` that read from its file systems.
KNOWS_BEAM = {"cli", "transforms", "tables", "dofns", "models", "io", "metrics"}
FILES_WITH_BEAM = {"artifacts", "beam_files", "beam_source", "open_source", "oss_file_system", "shared_directory"}


def imports_of(path):
    """(module, whether at the top level) of each import statement."""
    tree = ast.parse(path.read_text())
    top = set(map(id, tree.body))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            modules = [name for name in names if is_module(name)]
            yield from ((module, id(node) in top) for module in modules)
            if len(modules) < len(names):
                yield node.module, id(node) in top


def is_module(name):
    path = ROOT.parent / name.replace(".", "/")
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def module_of(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def find_violations(module, imported):
    """Yield the violations among a module's imports of the package."""
    parts = module.split(".")
    if len(parts) < 2 or parts[1] == "__main__":
        return  # the public names are loaded when they are asked for
    room = parts[1]
    for other in imported:
        others = other.split(".")
        if others[0] != "beam_tfscript" or len(others) < 2:
            continue
        if others[1] == room:
            is_between_rooms = room == "runtime" and len(parts) > 3 and others[2] != parts[2]
            if is_between_rooms and RUNTIME_FLOOR[others[2]] <= RUNTIME_FLOOR[parts[2]]:
                yield f"{module} imports {other}, which is not on a floor below"
        elif FLOOR[others[1]] <= FLOOR[room]:
            yield f"{module} imports {other}, which is not on a floor below"
        elif others[1] == "runtime" and not other.startswith(COMMON + OF_RUNTIME.get(room, ())):
            yield f"{module} imports {other}, which is of the script process alone"


def find_circle(graph):
    """Return the modules of a circle of imports; None where there is none."""
    done, under_way = set(), []

    def visit(module):
        if module in under_way:
            return under_way[under_way.index(module) :] + [module]
        if module not in done:
            under_way.append(module)
            for other in sorted(graph[module]):
                if circle := visit(other):
                    return circle
            done.add(under_way.pop())
        return None

    return next(filter(None, map(visit, sorted(graph))), None)


def test_every_file_is_in_a_room():
    for path in FILES:
        inside = path.relative_to(ROOT).with_suffix("").parts
        assert inside[0] in FLOOR if len(inside) > 1 else inside[0] in AT_THE_ROOT, f"{path} is in no room"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path):
    module = module_of(path)
    imported = [name for name, _ in imports_of(path)]
    assert not list(find_violations(module, imported))
    room = module.split(".")[1:2]
    if room and room[0] not in KNOWS_BEAM and not (room == ["files"] and path.stem in FILES_WITH_BEAM):
        assert not [name for name in imported if name.startswith("apache_beam")], f"{module} imports Beam"


def test_imports_make_no_circle():
    modules = {module_of(path): path for path in FILES}
    graph = {module: {name for name, _ in imports_of(path) if name in modules} for module, path in modules.items()}
    graph["beam_tfscript"] = set()  # its imports are for type checkers, and when a name is asked for
    assert find_circle(graph) is None


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("beam_tfscript.worker.pool", "beam_tfscript.feeds.run"),
        ("beam_tfscript.data.rows", "beam_tfscript.files.uris"),
        ("beam_tfscript.dofns.run_dataset", "beam_tfscript.runtime.run.run_script"),
        ("beam_tfscript.runtime.writing.writer", "beam_tfscript.runtime.reading.reader"),
    ],
)
def test_planted_violation_is_found(module, imported):
    assert list(find_violations(module, [imported]))


def test_planted_circle_is_found():
    assert find_circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


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
        "import sys, beam_tfscript, beam_tfscript.runtime.run.launcher;"
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
