"""The library inside the script process: what a script may import as `beam_tfscript.runtime`.

A script needs none of it: `main(config)` is handed all there is. `get_config()` gives the same
config from any module of the script. Python 3.6 and TensorFlow 1.15 are enough; nothing but the
standard library is loaded until it is needed.
"""

from beam_tfscript.runtime.config import get_config

__all__ = ["get_config"]
