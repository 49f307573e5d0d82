"""`akdl.engine.early_stopping`: hooks that end an Estimator's training, from `tf.estimator.experimental`."""

from beam_tfscript.runtime.tf import tf_versions

__all__ = [
    "make_early_stopping_hook",
    "stop_if_higher_hook",
    "stop_if_lower_hook",
    "stop_if_no_decrease_hook",
    "stop_if_no_increase_hook",
]


_hooks = tf_versions.estimators().experimental

make_early_stopping_hook = _hooks.make_early_stopping_hook
stop_if_higher_hook = _hooks.stop_if_higher_hook
stop_if_lower_hook = _hooks.stop_if_lower_hook
stop_if_no_decrease_hook = _hooks.stop_if_no_decrease_hook
stop_if_no_increase_hook = _hooks.stop_if_no_increase_hook
