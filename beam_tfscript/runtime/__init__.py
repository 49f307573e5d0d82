"""The library inside the script process: what a script may import as `beam_tfscript.runtime`.

A script needs none of it: `main(config)` is handed all there is. `get_config()` gives the same
config from any module of the script, and the classes are for annotations, such as
`def main(config: Config)`; `__init__.pyi` beside this file has their types. Python 3.6 and TensorFlow
1.15 are enough; nothing but the standard library is loaded until it is needed.
"""

from beam_tfscript.runtime.config.current import get_config
from beam_tfscript.runtime.config.feed_config import BundleTaskConfig as BundlesConfig
from beam_tfscript.runtime.config.feed_config import StreamTaskConfig as StreamConfig
from beam_tfscript.runtime.config.task_config import BatchTaskConfig as DatasetConfig
from beam_tfscript.runtime.config.task_config import TaskConfig as Config
from beam_tfscript.runtime.config.train_config import StreamTrainTaskConfig as StreamTrainConfig
from beam_tfscript.runtime.config.train_config import TrainTaskConfig as TrainConfig

__all__ = [
    "BundlesConfig", "Config", "DatasetConfig", "StreamConfig", "StreamTrainConfig", "TrainConfig", "get_config",
]  # fmt: skip
