"""`dl_on_flink_framework.context`: the class of an entry function's argument, which scripts name.

The config counts as an instance for `isinstance`, and has the class's methods: `Config` finds them in `TFContext`.
"""

from abc import ABCMeta

from beam_tfscript.runtime.config.task_config import Config
from beam_tfscript.runtime.config.tf_context import TFContext

__all__ = ["Context"]


class Context(metaclass=ABCMeta):  # noqa: B024 - for register()
    """Class for annotations; scripts make no instance."""


Context.register(Config)
Context.register(TFContext)
