"""The exception tree: every error of this package, and the side that has to be fixed.

    TFScriptError
    ├── ArgumentError        the pipeline's arguments: fix the call of the transform (also a ValueError)
    │   ├── UnknownArgumentError    a keyword argument that does not exist (also a TypeError)
    │   └── SchemaError      a schema text or type that cannot be used
    ├── RowError             the rows: an input element does not fit the input schema
    ├── ScriptError          the script: look at its own code
    │   ├── ScriptLoadError  the script cannot be imported, or has no such entry function
    │   ├── ScriptRaised     its entry function raised
    │   ├── ScriptDied       its process ended in the middle of a run, or had to be killed
    │   ├── ModelError       its export is not a SavedModel, or cannot be loaded
    │   ├── FeedError        it returned before the end of its feed, or does not read the feed
    │   └── OutputError      its output does not fit the output schema
    ├── TableError           a table of MaxCompute: missing, refused, or not answering while the pipeline runs
    ├── ScriptEnvironmentError    the script's environment: interpreter, packages, files, disk
    └── ProtocolError        this package: the two ends of the channel disagree; please report it

The script process has the same names for the errors that it can raise itself (`beam_tfscript.runtime`). They arrive
here as text, since the two interpreters need not share a class.
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
    "TableError",
    "UnknownArgumentError",
]


class TFScriptError(Exception):
    """Base class of all errors that this package raises on purpose."""


class ArgumentError(TFScriptError, ValueError):
    """An argument of a transform, or its input, cannot be used.

    Raised while the pipeline is built, so no worker is started. The message has the argument's name, the rule, and the
    value unless it may be a secret.
    """


class UnknownArgumentError(ArgumentError, TypeError):
    """A keyword argument that the transform does not have; the message suggests the nearest names."""


class SchemaError(ArgumentError):
    """A schema that cannot be parsed, or that names a type, column or conversion that does not exist."""


class RowError(TFScriptError):
    """An input element that does not fit the input schema; raised while the pipeline runs.

    With `RunTFScript.with_exception_handling()`, such elements are dead letters, and do not fail the bundle.

    Attributes:
      index: position of the element in the list that was encoded, from 0; None if it is not known.
      column: name of the column that does not fit; None if it is not known.
    """

    def __init__(self, message: str, *, index: int | None = None, column: str | None = None):
        super().__init__(message)
        self.index = index
        self.column = column

    def __reduce__(self) -> tuple:
        return _rebuild, (type(self), str(self), {"index": self.index, "column": self.column})


class Summary(Exception):
    """The first line of an error, as its cause, so that a traceback of that error begins with it."""


class ScriptError(TFScriptError):
    """Failure of the script; raised while the pipeline runs.

    The message names the script, task, shard, window and attempt. It has the traceback of the script's own lines or
    the signal's name, and the last lines that the script printed.
    """

    def __init__(self, message: str):
        super().__init__(message)
        first, has_more, _ = message.partition("\n")
        if has_more:
            # Runners show the text of a job's error: Beam builds the exception anew from its message, and formats its
            # traceback. Python prints the cause first, and only the message of a cause that was never raised.
            self.__cause__ = Summary(first)


class ScriptLoadError(ScriptError):
    """A script that cannot be imported, or that does not define the entry function. Not retried.

    Raised while the pipeline is built for a local script with a syntax error or without the function.
    """


class ScriptRaised(ScriptError):
    """An exception in the script's entry function; the message has the traceback of its own lines."""


class ScriptDied(ScriptError):
    """End of the script's process before its run was finished: it exited, was killed, or did not answer.

    Attributes:
      returncode: exit status, or the negative number of a signal, as in
        https://docs.python.org/3/library/subprocess.html#subprocess.Popen.returncode. None if it is not known.
    """

    def __init__(self, message: str, *, returncode: int | None = None):
        super().__init__(message)
        self.returncode = returncode

    def __reduce__(self) -> tuple:
        return _rebuild, (type(self), str(self), {"returncode": self.returncode})


class ModelError(ScriptError):
    """An export of the script that is not one SavedModel, or that cannot be loaded.

    SavedModels are described in https://www.tensorflow.org/guide/saved_model.
    """


class FeedError(ScriptError):
    """A script that returns before the end of its feed, or that does not read its rows; in `bundles` and `stream`."""


class OutputError(ScriptError):
    """An Example from the script that does not fit the output schema.

    With `RunTFScript.with_exception_handling()`, such Examples are dead letters, and do not fail the bundle.

    Attributes:
      index: position of the Example in the list that was decoded, from 0; None if it is not known.
      column: name of the column that does not fit; None if it is not known.
    """

    def __init__(self, message: str, *, index: int | None = None, column: str | None = None):
        super().__init__(message)
        self.index = index
        self.column = column

    def __reduce__(self) -> tuple:
        return _rebuild, (type(self), str(self), {"index": self.index, "column": self.column})


class ScriptEnvironmentError(TFScriptError):
    """An environment that cannot be used: the interpreter, packages, files or disk of the script.

    Raised while the pipeline runs, on a worker. Its message has the path or URI without secrets, and the next step.
    """


class TableError(TFScriptError):
    """A table that cannot be read or written while the pipeline runs; the message has no credentials."""


class ProtocolError(TFScriptError):
    """Data from the script process that is not a frame of the protocol.

    This is a bug of this package, or the script has closed or written to a file descriptor that it did not open.
    """


def _rebuild(cls: type[TFScriptError], message: str, fields: dict) -> TFScriptError:
    # Exceptions with keyword arguments do not unpickle by themselves, and dead letters are pickled.
    return cls(message, **fields)
