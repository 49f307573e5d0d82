"""`dl_on_flink_framework.context`: the class of what an entry function is handed, which scripts name.

The config is an instance of it (`isinstance` says so), and has its methods: `TaskConfig` looks for them in `TFContext`.
"""

from abc import ABCMeta

from beam_tfscript.runtime.config.context import TFContext
from beam_tfscript.runtime.config.task_config import TaskConfig

__all__ = ["Context"]


class Context(metaclass=ABCMeta):  # noqa: B024 - for register()
    """Stands in annotations; scripts do not make one."""


Context.register(TaskConfig)
Context.register(TFContext)
