"""Start command of a script's interpreter, and the check that its versions fit the pipeline's."""

from __future__ import annotations

import platform
import re
import sys
from typing import Any

from beam_tfscript.errors import ProtocolError, ScriptEnvironmentError
from beam_tfscript.runtime.transport import wire

_OLDEST_TENSORFLOW = [1, 15]

# Valid in every version of Python, so that one which is too old can print the reason itself.
COMMAND = (
    "import sys\n"
    "if sys.version_info < (3, 6):\n"
    "    sys.exit('the script\\'s interpreter is Python %d.%d; the runtime needs Python 3.6 or newer (the pipeline\\'s "
    "is {}.{})' % sys.version_info[:2])\n"
    "from beam_tfscript.runtime.run import launcher; launcher.main()"
).format(*sys.version_info[:2])


def check_versions(python: str, ready: dict[str, Any]) -> None:
    """Compare the versions of the script's process with the pipeline's.

    Args:
      python: path of the script's interpreter.
      ready: the JSON object of its READY frame.

    Raises:
      ProtocolError: it speaks another protocol.
      ScriptEnvironmentError: its TensorFlow is too old.
    """
    versions = (
        f"the script's side is {python} (Python {ready['python']}, TensorFlow {ready['tensorflow'] or 'none'}, "
        f"protocol {ready['protocol']}), the pipeline's is Python {platform.python_version()}, protocol "
        f"{wire.PROTOCOL_VERSION}"
    )
    if ready["protocol"] != wire.PROTOCOL_VERSION:
        raise ProtocolError(
            f"{versions}: another copy of beam_tfscript is on the script's path. Remove it from PYTHONPATH in env=."
        )
    numbers = [int(number) for number in re.findall(r"\d+", ready["tensorflow"] or "")[:2]]
    if numbers and numbers < _OLDEST_TENSORFLOW:
        raise ScriptEnvironmentError(f"{versions}: TensorFlow 1.15 or newer is needed")
