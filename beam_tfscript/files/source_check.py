"""Check of the main script's source, without running it: its syntax, and the function that is called."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from beam_tfscript.errors import ScriptLoadError
from beam_tfscript.files.staging import ScriptFile

_IMPORTS = (ast.Import, ast.ImportFrom)


def check_source(script: ScriptFile, entry: str) -> None:
    """Check the source for errors that would otherwise show on a worker.

    Args:
      script: the main script; without its content, nothing is checked.
      entry: name of the function that is called.

    Raises:
      ScriptLoadError: the script has a syntax error, does not define the function, or the function cannot be called
        with the config alone.
    """
    if script.content is None:
        return
    try:
        tree = ast.parse(script.content, filename=script.name)
    except (SyntaxError, ValueError) as error:
        line = f"{script.uri}, line {getattr(error, 'lineno', '?')}"
        raise ScriptLoadError(f"main_script_file: {line}: {error}") from error
    names, has_star = _top_level_names(tree)
    if entry not in names and not has_star:
        functions = sorted(node.name for node in tree.body if isinstance(node, ast.FunctionDef))
        raise ScriptLoadError(
            f"main_script_file: {script.uri} defines no {entry!r}: the script needs `def {entry}(config)`, or entry= "
            f"must name another of its functions ({', '.join(functions) or 'it defines none'})."
        )
    if not has_star:
        _check_parameters(script, tree, entry)


def _check_parameters(script: ScriptFile, tree: ast.Module, entry: str) -> None:
    """Refuse a function that certainly cannot be called with one argument."""
    bindings = [node for node in _top_level_nodes(tree) if entry in _bound_by(node)]
    errors = [_parameter_error(node) for node in bindings]
    # Of several definitions, as under `if`, one may be right.
    if not errors or None in errors:
        return
    node = bindings[-1]
    assert isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    raise ScriptLoadError(
        f"main_script_file: {script.uri}, line {node.lineno}: `{entry}` {errors[-1]}, and it is called with one "
        f"argument, the config: write `def {entry}(config):`. user_params and script_args pass values of your own."
    )


def _parameter_error(node: ast.AST) -> str | None:
    """Return the reason why a function cannot be called with one argument; None if it can, or may."""
    # A decorator may change a function's parameters.
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or node.decorator_list:
        return None
    has = node.args
    names = [argument.arg for argument in (*has.posonlyargs, *has.args)]
    if not names and has.vararg is None:
        return "takes no positional parameter"
    needed = names[: len(names) - len(has.defaults)]
    needed += [argument.arg for argument, default in zip(has.kwonlyargs, has.kw_defaults) if default is None]
    if len(needed) > 1 or (needed and needed[0] not in names):
        return f"needs the arguments {', '.join(needed)}"
    return None


def _top_level_names(tree: ast.Module) -> tuple[set[str], bool]:
    """Return the names that the module's code binds, also under `if` and `try`; and True if it has a star import."""
    nodes = list(_top_level_nodes(tree))
    has_star = any(isinstance(node, _IMPORTS) and any(alias.name == "*" for alias in node.names) for node in nodes)
    return set().union(*map(_bound_by, nodes)), has_star


def _top_level_nodes(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield the nodes of the module's code in order, without the bodies of functions and classes."""
    pending: list[ast.AST] = [*tree.body[::-1]]
    while pending:
        node = pending.pop()
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            pending.extend([*ast.iter_child_nodes(node)][::-1])


def _bound_by(node: ast.AST) -> set[str]:
    """Return the names that a node binds, without its inner nodes."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {node.name}
    if isinstance(node, _IMPORTS):
        return {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    return {node.id} if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) else set()
