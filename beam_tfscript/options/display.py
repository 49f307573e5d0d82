"""Display items of a transform: its arguments as a job's page shows them, without secrets."""

from __future__ import annotations

from beam_tfscript.options.arguments.signatures import RUN_TF_SCRIPT
from beam_tfscript.options.script_options import ScriptOptions, TransformOptions

__all__ = ["display_items"]

# A longer text makes a job's page unreadable. A shorter limit would cut a schema of 30 columns.
_MAX_CHARS = 1000
_DIGEST_CHARS = 12


def display_items(options: TransformOptions | ScriptOptions) -> dict[str, str | int | float]:
    """Return the display items of a transform; arguments that are not given are left out.

    Args:
      options: the options, as given or resolved.

    Returns:
      Name of the options' field or of the argument -> its value, short and without secrets. `script_sha256` is the
      beginning of the main script's hash, which tells whether two jobs ran the same script. It is left out if the
      hash is not known while the pipeline is built.
    """
    items = {argument.field or argument.name: argument.show(options) for argument in RUN_TF_SCRIPT if argument.show}
    items["script_sha256"] = options.script.sha256 and options.script.sha256[:_DIGEST_CHARS]
    return {name: _shorten(value) for name, value in items.items() if value is not None}


def _shorten(value: str | int | float) -> str | int | float:
    if isinstance(value, str) and len(value) > _MAX_CHARS:
        return f"{value[:_MAX_CHARS]}… ({len(value)} characters)"
    return value
