"""Library inside the script process: the modules that a script may import as `beam_tfscript.runtime`.

A script needs no import of it: `main(config)` gets its rows, its output and its parameters by its argument.
`get_config()` returns the same config in any module of the script. The classes serve as annotations, such as
`def main(config: Config)`; `__init__.pyi` beside this file has their types.

    transport    frames between the pipeline's process and this one, log lines, the scratch directory
    run          the process's main function, and one run of the script
    config       `config`, the argument of the script's entry function
    reading      rows for the script: serialized Examples in, tensors or numpy arrays out
    writing      rows from the script: Python and numpy values in, serialized Examples out
    tf           TensorFlow: its versions, its state between runs, SavedModels
    compat       modules that scripts for other platforms import
    columns.py   columns of a schema
    docs.py      addresses of the documentation's pages

All files run on Python 3.6 and newer, and with TensorFlow 1.15 and newer. They import the standard library only;
TensorFlow and numpy are imported inside functions.
"""

from beam_tfscript.runtime.config.current import get_config
from beam_tfscript.runtime.config.dataset_config import DatasetConfig
from beam_tfscript.runtime.config.feed_config import BundlesConfig, StreamConfig
from beam_tfscript.runtime.config.task_config import Config
from beam_tfscript.runtime.config.train_config import StreamTrainConfig, TrainConfig

__all__ = [
    "BundlesConfig", "Config", "DatasetConfig", "StreamConfig", "StreamTrainConfig", "TrainConfig", "get_config",
]  # fmt: skip
