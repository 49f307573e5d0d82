"""Modules that scripts for other platforms import: a name such as `akdl.runner.config` in, a module out.

The finder is the last one on `sys.meta_path`. So a module in the script's folder, or one that is installed in its
environment, comes first.

    task_configs    the three config classes
    example_inputs  feature specs, parsers, placeholders and Datasets of an example config
    run_configs     RunConfig of an Estimator
    estimators      trainings from configs
    early_stopping  hooks that end a training
    model_files     models as rows, and removal of an Estimator's files
    output_writers  writers of Examples
    tf_settings     threads, and printing of TFRecord files
    flink_context   class of the entry function's argument
    flink_servers   server, device and session configuration of parameter-server training
    table_readers   readers of tables, and the exception at their end
    table_writers   writer of tables
    table_sources   rows for the readers, from the feed or from MaxCompute

`flink_tables` and the context are in `runtime/config/`, as a config's methods return them too.
"""

import importlib
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec

from beam_tfscript.runtime.docs import page

_ROOM = "beam_tfscript.runtime.compat."

# Name that a script imports -> modules of this package, one or several; None for a package that only holds modules.
NAMES = {
    "akdl": None,
    "akdl.runner": None,
    "akdl.runner.config": _ROOM + "task_configs",
    "akdl.runner.io_helper": _ROOM + "model_files",
    "akdl.runner.output_writer": _ROOM + "output_writers",
    "akdl.runner.tf_helper": _ROOM + "tf_settings",
    "akdl.engine": None,
    "akdl.engine.early_stopping": _ROOM + "early_stopping",
    "akdl.engine.inputs": _ROOM + "example_inputs",
    "akdl.engine.run_config": _ROOM + "run_configs",
    "akdl.engine.train": _ROOM + "estimators",
}  # type: dict
# The same modules had three names in three releases.
for _package in ("dl_on_flink_tensorflow", "flink_ml_tensorflow", "flink_ml_tensorflow2"):
    NAMES[_package] = None
    NAMES[_package + ".tensorflow_context"] = "beam_tfscript.runtime.config.tf_context"
    NAMES[_package + ".flink_row_writer"] = "beam_tfscript.runtime.config.flink_tables"
    NAMES[_package + ".flink_tables"] = "beam_tfscript.runtime.config.flink_tables"
    NAMES[_package + ".flink_servers"] = _ROOM + "flink_servers"
for _package in ("dl_on_flink_framework", "flink_ml_framework"):
    NAMES[_package] = None
    NAMES[_package + ".context"] = _ROOM + "flink_context"
_TABLES = (_ROOM + "table_readers", _ROOM + "table_writers")
NAMES.update({"common_io": None, "common_io.table": _TABLES, "common_io.exception": _ROOM + "table_readers"})
# Its releases have the names in the package, or in modules of it.
NAMES.update({"paiio": _TABLES, "paiio.data": _ROOM + "table_readers", "paiio.python_io": _TABLES})
# Packages whose modules a script uses without importing them: `common_io.table.TableReader` after `import common_io`.
_WITH_MODULES = ("common_io", "paiio")


class _CompatFinder(MetaPathFinder, Loader):
    """Finder and loader of the modules in `NAMES`."""

    def find_spec(self, name, path=None, target=None):
        """Return a spec for a name in `NAMES`, None for any other; raise for a missing module of these packages."""
        # With a path, the package is a real one, which the user installed: its modules are not mixed with these.
        if path:
            return None
        if name in NAMES:
            return ModuleSpec(name, self, is_package=any(other.startswith(name + ".") for other in NAMES))
        if name.rpartition(".")[0] in NAMES:
            raise ModuleNotFoundError(
                "No module named {!r}: of this package, beam_tfscript has only the modules that {} lists. Install the "
                "package in the script's environment, or add its files to user_files.".format(name, page("compat")),
                name=name,
            )
        return None

    def create_module(self, spec):
        """Return None: Python then makes an ordinary module."""

    def exec_module(self, module):
        """Fill the module with the public names of this package's module."""
        targets = NAMES[module.__name__] or ()
        module.__all__ = []
        for target in (targets,) if isinstance(targets, str) else targets:
            source = importlib.import_module(target)
            module.__doc__ = source.__doc__
            module.__all__ += source.__all__
            for name in source.__all__:
                setattr(module, name, getattr(source, name))
            # What other platforms' modules do to TensorFlow when they are imported.
            if hasattr(source, "on_import"):
                source.on_import()
        if module.__name__ in _WITH_MODULES:
            for name in NAMES:
                if name.startswith(module.__name__ + "."):
                    importlib.import_module(name)


def install():
    """Let scripts import the names; a module is loaded when a script imports it."""
    if not any(isinstance(finder, _CompatFinder) for finder in sys.meta_path):
        sys.meta_path.append(_CompatFinder())


def forget():
    """Have the next run import the names anew: what an import does to TensorFlow is undone after each run."""
    for name in NAMES:
        if isinstance(getattr(sys.modules.get(name), "__loader__", None), _CompatFinder):
            del sys.modules[name]
