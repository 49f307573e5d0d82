"""The stub for scripts' annotations has the methods and properties of the classes."""

from __future__ import annotations

import ast
import inspect
import pathlib

import pytest

from beam_tfscript import runtime

STUB = pathlib.Path(runtime.__file__).with_suffix(".pyi")
CLASSES = {node.name: node for node in ast.parse(STUB.read_text()).body if isinstance(node, ast.ClassDef)}
# Methods that only the runtime calls, and methods that only raise, as they belong to another feed.
INTERNAL = {"finish", "rows_in"}
REFUSED = {"BundlesConfig": {"dataset", "dataset_fn"}}


def declared(name):
    """Return method or property -> its parameters (None for a property), of a class of the stub and its bases."""
    found = {}
    for base in CLASSES[name].bases:
        found.update(declared(base.id) if isinstance(base, ast.Name) and base.id in CLASSES else {})
    for node in CLASSES[name].body:
        if isinstance(node, ast.FunctionDef):
            names = [argument.arg for argument in node.args.args + node.args.kwonlyargs]
            is_property = any(isinstance(mark, ast.Name) and mark.id == "property" for mark in node.decorator_list)
            found[node.name] = None if is_property else names
    return found


def actual(kind):
    """Return the same of the runtime's class."""
    found = {}
    for name, value in inspect.getmembers(kind):
        if name.startswith("_"):
            continue
        if isinstance(value, property):
            found[name] = None
        elif inspect.isfunction(value):
            found[name] = [
                parameter.name for parameter in inspect.signature(value).parameters.values()
                if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
            ]  # fmt: skip
    return found


@pytest.mark.parametrize("name", [name for name in runtime.__all__ if name != "get_config"])
def test_types_are_those_of_the_class(name):
    wanted = {key: value for key, value in actual(getattr(runtime, name)).items() if key not in INTERNAL}
    for refused in REFUSED.get(name, ()):
        del wanted[refused]
    found = declared(name)
    if name == "Config":  # every kind of run has these two, each in its own way
        assert found.pop("batches") == ["self", "n", "masks"]
        assert found.pop("example_batches") == ["self", "n"]
    assert found == wanted
