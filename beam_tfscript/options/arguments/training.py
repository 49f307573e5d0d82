"""Arguments of trainings alone, and those whose default or meaning is another in a training."""

from __future__ import annotations

import dataclasses

from beam_tfscript.options.arguments import checks
from beam_tfscript.options.arguments.argument import Argument
from beam_tfscript.options.arguments.cluster import NUM_WORKERS, PLACEMENT
from beam_tfscript.options.arguments.runs import FEED, MAX_ATTEMPTS
from beam_tfscript.options.arguments.script import LOG_DIR

MODEL_DIR = Argument(
    "model_dir",
    str | None,
    "directory in which versions are published: a local path, or a URI of any of Beam's file systems. None to output "
    "the model itself, as rows. Beam's file systems: "
    "https://beam.apache.org/releases/pydoc/current/apache_beam.io.filesystems.html.",
    check=checks.optional(checks.path_or_uri),
)
CHECKPOINT_DIR = Argument(
    "checkpoint_dir",
    str | None,
    "directory of the script's checkpoints, `config.checkpoint_dir`, from which a repeated training continues. A path "
    "or a URI that the script's TensorFlow can open. None for a directory that is removed after this training; with "
    '`placement="spread"` it is below `spool_dir`.',
    default=None,
    check=checks.path_or_uri,
)
NUM_WORKERS_OF_TRAINING = dataclasses.replace(
    NUM_WORKERS,
    meaning="number of workers, the chief included; None for 1. Several workers are one cluster.",
)
PLACEMENT_OF_TRAINING = dataclasses.replace(
    PLACEMENT,
    meaning='layout of the workers: None or `"one_host"` for one TensorFlow cluster on one machine, `"spread"` for one '
    'whose tasks are on any machines, in feed="dataset". `"independent"` is possible only for a single worker.',
)
FEED_OF_TRAINING = dataclasses.replace(
    FEED,
    meaning='the way in which a training gets its rows: None or `"dataset"` for all rows before `main` is called; '
    '`"stream"` for rows that come during the training. There the script calls `config.export()` for each model '
    "that is ready in `config.saved_model_dir`.",
)
MAX_ATTEMPTS_OF_TRAINING = dataclasses.replace(
    MAX_ATTEMPTS,
    annotation=int,
    meaning="number of attempts at a training before the bundle fails. Each attempt continues from the checkpoints.",
    default=3,
    feed_defaults={},
    check=checks.optional(checks.whole_number(1)),
)
LOG_DIR_OF_TRAINING = dataclasses.replace(
    LOG_DIR,
    meaning="a path or URI where the files that the script writes to `config.log_dir` are kept, such as TensorBoard's "
    "logs. Each attempt has a directory of its own there. None for `model_dir/logs`.",
)

TRAINING = (
    MODEL_DIR, CHECKPOINT_DIR, NUM_WORKERS_OF_TRAINING, PLACEMENT_OF_TRAINING, FEED_OF_TRAINING,
    MAX_ATTEMPTS_OF_TRAINING, LOG_DIR_OF_TRAINING,
)  # fmt: skip
