"""Loading of the main script: a path in, the entry function that the script defines out."""

import importlib.machinery
import importlib.util
import inspect
import os
import re
import sys

# Modules of Python that open a browser or print when they are imported.
_NOT_IMPORTED = ("antigravity", "this")


class LoadError(Exception):
    """The script has no entry function that can be called."""


def load_entry(work_dir, file_name, entry_name):
    """Load the script and find its entry function.

    Args:
      work_dir: path of the run's directory, first on `sys.path`.
      file_name: the script's file name in that directory.
      entry_name: name of the function.

    Raises:
      LoadError: the script has no such function, or calling the function would run no code.
    """
    script = _load(work_dir, file_name)
    entry = getattr(script, entry_name, None)
    if not callable(entry):
        functions = sorted(
            key
            for key, value in vars(script).items()
            if callable(value) and getattr(value, "__module__", None) == script.__name__
        )
        raise LoadError(
            "{} has no function {!r}; it defines {}".format(
                file_name, entry_name, ", ".join(functions) or "no function at all"
            )
        )
    if inspect.isgeneratorfunction(entry) or inspect.iscoroutinefunction(entry):
        raise LoadError(
            "{} in {} is a generator or coroutine function: a call would run none of its code. Write rows with "
            "config.write() or config.write_batch() instead of yielding them.".format(entry_name, file_name)
        )
    return entry


def _load(work_dir, file_name):
    """Return the script's module, named as its file unless another module has that name."""
    path = os.path.join(work_dir, file_name)
    name = _module_name(work_dir, os.path.splitext(file_name)[0])
    importlib.invalidate_caches()
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # the file's name ends with .py
    module = importlib.util.module_from_spec(spec)
    # As an import does: pickle looks here, and so do the script's modules that import the main script.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    # A module may replace itself in sys.modules.
    return sys.modules.get(name, module)


def _module_name(work_dir, stem):
    if stem.isidentifier() and stem not in sys.modules and not _is_of_python(work_dir, stem):
        return stem
    name = "tfscript_" + re.sub(r"\W", "_", stem)
    while name in sys.modules:
        name += "_"
    # The "spawn" method of multiprocessing imports the module by name in the child: without this file it would fail.
    try:
        os.symlink(stem + ".py", os.path.join(work_dir, name + ".py"))
    except OSError:
        pass  # another task of the cluster has made the link, or the file system has none: only "spawn" needs it
    return name


def _is_of_python(work_dir, stem):
    """Return True if Python itself has a module of that name, and import that module.

    The run's directory is first on `sys.path`. A library that imports, say, `csv` later must not get the script.
    """
    if stem in sys.builtin_module_names:
        return True
    library = os.path.dirname(os.__file__)
    directories = [library, os.path.join(library, "lib-dynload")]
    spec = importlib.machinery.PathFinder.find_spec(stem, directories)
    if spec is None or spec.origin is None:  # no module, or a directory without code
        return False
    if stem in _NOT_IMPORTED:
        return True
    path = list(sys.path)
    sys.path[:] = [entry for entry in path if os.path.realpath(entry or ".") != os.path.realpath(work_dir)]
    try:
        importlib.import_module(stem)
    except ImportError:
        pass  # a module of Python, such as tkinter, may need a library that is not installed
    finally:
        sys.path[:] = path
    return True
