"""The exception tree: every error of this package, and whose fault each one is.

    TFScriptError
    ├── ArgumentError        the pipeline's arguments: fix the call of the transform (also a ValueError)
    │   ├── UnknownArgumentError    a keyword argument that there is not (also a TypeError)
    │   └── SchemaError      a schema text or type that cannot be used
    ├── RowError             the rows: an input element does not fit the input schema
    ├── ScriptError          the script: its own code is what to look at
    │   ├── ScriptLoadError  it cannot be imported, or has no such entry function
    │   ├── ScriptRaised     its entry function raised
    │   ├── ScriptDied       its process ended in the middle of a run, or had to be killed
    │   ├── ModelError       what it exported is no SavedModel, or cannot be loaded
    │   ├── FeedError        it returned while its feed goes on, or does not read it
    │   └── OutputError      what it wrote does not fit the output schema
    ├── ScriptEnvironmentError    the script's environment: interpreter, packages, files, disk
    └── ProtocolError        this package: the two ends of the channel disagree; please report it

The script process has the same names for what it can raise by itself (`beam_tfscript.runtime`);
they arrive here as text, since the two interpreters need not share a class.
"""

from __future__ import annotations

__all__ = [
    "ArgumentError",
    "ScriptEnvironmentError",
    "FeedError",
    "ModelError",
    "OutputError",
    "ProtocolError",
    "RowError",
    "SchemaError",
    "ScriptDied",
    "ScriptError",
    "ScriptLoadError",
    "ScriptRaised",
    "TFScriptError",
    "UnknownArgumentError",
]


class TFScriptError(Exception):
    """Anything that this package raises on purpose."""


class ArgumentError(TFScriptError, ValueError):
    """The transform was given something it cannot use; raised while the pipeline is built."""


class UnknownArgumentError(ArgumentError, TypeError):
    """The transform was given a keyword argument that it does not have."""


class SchemaError(ArgumentError):
    """A schema cannot be parsed, or names a type, column or conversion that does not exist."""


class RowError(TFScriptError):
    """An input element does not fit the input schema.

    Attributes:
      index: position of the element in the list that was being encoded, or None.
      column: name of the column that does not fit, or None.
    """

    def __init__(self, message: str, *, index: int | None = None, column: str | None = None):
        super().__init__(message)
        self.index = index
        self.column = column

    def __reduce__(self) -> tuple:
        return _rebuild, (type(self), str(self), {"index": self.index, "column": self.column})


class Summary(Exception):
    """The first line of an error, as its cause: so it is what a traceback of that error begins with."""


class ScriptError(TFScriptError):
    """The script failed. The message names script, task, shard, window and attempt."""

    def __init__(self, message: str):
        super().__init__(message)
        first, has_more, _ = message.partition("\n")
        if has_more:
            # Runners give the text of a job's error: Beam makes it again from its message, and formats its traceback.
            # Python shows a cause before that, and of a cause that was never raised just the message.
            self.__cause__ = Summary(first)


class ScriptLoadError(ScriptError):
    """The script cannot be imported, or does not define the entry function."""


class ScriptRaised(ScriptError):
    """The script's entry function raised; the message holds the traceback of its own lines."""


class ScriptDied(ScriptError):
    """The script's process ended before its run was finished.

    Attributes:
      returncode: exit status, negative for a signal, as in `subprocess.Popen.returncode`.
    """

    def __init__(self, message: str, *, returncode: int | None = None):
        super().__init__(message)
        self.returncode = returncode

    def __reduce__(self) -> tuple:
        return _rebuild, (type(self), str(self), {"returncode": self.returncode})


class ModelError(ScriptError):
    """What the script exported is no SavedModel, is several, or cannot be loaded."""


class FeedError(ScriptError):
    """The script returned while its feed goes on, or does not read what it is given."""


class OutputError(ScriptError):
    """An Example that the script wrote does not fit the output schema.

    Attributes:
      index: position of the Example in the list that was being decoded, or None.
      column: name of the column that does not fit, or None.
    """

    def __init__(self, message: str, *, index: int | None = None, column: str | None = None):
        super().__init__(message)
        self.index = index
        self.column = column

    def __reduce__(self) -> tuple:
        return _rebuild, (type(self), str(self), {"index": self.index, "column": self.column})


class ScriptEnvironmentError(TFScriptError):
    """The script's environment cannot be used: its interpreter, packages, files or disk."""


class ProtocolError(TFScriptError):
    """The script process sent something that is not a frame of the protocol: a bug of this package,
    or a file descriptor that the script closed or wrote to."""


def _rebuild(cls: type[TFScriptError], message: str, fields: dict) -> TFScriptError:
    # Exceptions with keyword arguments do not unpickle by themselves, and bad records are pickled.
    return cls(message, **fields)
