"""The main script's source, looked at without running it: whether it can be read, and defines what is called."""

from __future__ import annotations

import ast

from beam_tfscript.errors import ScriptLoadError
from beam_tfscript.script.staging import ScriptFile


def check_source(script: ScriptFile, entry: str) -> None:
    """Finds in the source what would otherwise fail on a worker.

    Args:
      script: the main script; one that is not here is not looked at.
      entry: name of the function that is called.

    Raises:
      ScriptLoadError: it has a syntax error, or does not define the function.
    """
    if script.content is None:
        return
    try:
        tree = ast.parse(script.content, filename=script.name)
    except (SyntaxError, ValueError) as error:
        place = f"{script.uri}, line {getattr(error, 'lineno', '?')}"
        raise ScriptLoadError(f"main_script_file: {place}: {error}") from error
    names, has_star = _top_level_names(tree)
    if entry not in names and not has_star:
        functions = sorted(node.name for node in tree.body if isinstance(node, ast.FunctionDef))
        raise ScriptLoadError(
            f"main_script_file: {script.uri} defines no {entry!r}: the script needs `def {entry}(config)`, or entry= "
            f"must name another of its functions ({', '.join(functions) or 'it defines none'})."
        )


def _top_level_names(tree: ast.Module) -> tuple[set[str], bool]:
    """What the module's own code binds, also under `if` and `try`; and whether it has a star import."""
    names: set[str] = set()
    has_star = False
    pending: list[ast.AST] = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
            continue
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names.update((alias.asname or alias.name).split(".")[0] for alias in node.names)
            has_star = has_star or any(alias.name == "*" for alias in node.names)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        pending.extend(ast.iter_child_nodes(node))
    return names, has_star
