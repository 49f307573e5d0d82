"""The module names that scripts for other platforms import: made when a script imports one of them.

Comes in: the name of a module, such as `akdl.runner.config`. Goes out: a module with what such scripts take from it,
from this room. The finder stands behind all others, so that a module of the script's own folder, or one
installed in its environment, is the one that counts.

    task_configs    the three config classes
    example_inputs  feature specs, parsers, placeholders and datasets of an example config
    run_configs     RunConfig of an Estimator
    estimators      trainings from configs
    early_stopping  hooks that end a training
    model_files     models as rows, and the files that an Estimator leaves
    output_writers  writers of Examples
    tf_settings     threads, and a look at TFRecord files
    flink_context   the class of what an entry function is handed
    flink_servers   server, device and session configuration of parameter-server training

The readers and writers of `flink_tables` and the context are in `runtime/config/`: a config gives them too.
"""

import importlib
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec

from beam_tfscript.runtime.docs import page

_ROOM = "beam_tfscript.runtime.compat."

# Name that a script imports -> where it is made; None for a package that holds nothing but others.
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
}
# The same by the names of three releases.
for _package in ("dl_on_flink_tensorflow", "flink_ml_tensorflow", "flink_ml_tensorflow2"):
    NAMES[_package] = None
    NAMES[_package + ".tensorflow_context"] = "beam_tfscript.runtime.config.context"
    NAMES[_package + ".flink_row_writer"] = "beam_tfscript.runtime.config.flink_tables"
    NAMES[_package + ".flink_tables"] = "beam_tfscript.runtime.config.flink_tables"
    NAMES[_package + ".flink_servers"] = _ROOM + "flink_servers"
for _package in ("dl_on_flink_framework", "flink_ml_framework"):
    NAMES[_package] = None
    NAMES[_package + ".context"] = _ROOM + "flink_context"


class _CompatFinder(MetaPathFinder, Loader):
    """Finds and loads the modules of `NAMES`."""

    def find_spec(self, name, path=None, target=None):
        """A spec for a name that is here and nowhere else; None for any other."""
        # A path means that the package is someone else's: what it lacks is not mixed with what is here.
        if path:
            return None
        if name in NAMES:
            return ModuleSpec(name, self, is_package=NAMES[name] is None)
        if name.rpartition(".")[0] in NAMES:
            raise ModuleNotFoundError(
                "No module named {!r}: of this package only what {} lists is here. Install the package in the script's "
                "environment, or give it in user_files.".format(name, page("compat")),
                name=name,
            )
        return None

    def create_module(self, spec):
        """An ordinary module."""

    def exec_module(self, module):
        """Fills the module."""
        place = NAMES[module.__name__]
        if place is not None:
            made = importlib.import_module(place)
            module.__doc__ = made.__doc__
            module.__all__ = list(made.__all__)
            for name in made.__all__:
                setattr(module, name, getattr(made, name))


def install():
    """Lets scripts import the names; nothing is loaded until they do."""
    if not any(isinstance(finder, _CompatFinder) for finder in sys.meta_path):
        sys.meta_path.append(_CompatFinder())
