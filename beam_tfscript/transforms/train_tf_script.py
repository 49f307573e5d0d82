"""TrainTFScript: the arguments of a training, and the graph it expands to."""

# Annotations are not postponed here: Beam reads those of `expand` as type hints.
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import apache_beam as beam

from beam_tfscript.data.schema import Schema
from beam_tfscript.models.model_rows import ModelRow
from beam_tfscript.models.trained_model import TrainedModel
from beam_tfscript.options.argument_names import check_names
from beam_tfscript.options.cluster_options import check_cluster
from beam_tfscript.options.display import display_items
from beam_tfscript.options.log_dir import check_log_dir
from beam_tfscript.options.script_options import KEEP_UNACKED_BYTES, KEEP_UNACKED_S, check_options
from beam_tfscript.options.train_options import check_training
from beam_tfscript.transforms.side_inputs import check_side_inputs
from beam_tfscript.transforms.stages import run_script

# A training that is killed goes on from its checkpoints.
_MAX_ATTEMPTS = 3


class TrainTFScript(beam.PTransform):
    """Trains a model on the rows of a PCollection with a TensorFlow script, and publishes its SavedModel.

    The script's `main(config)` is called once for each window, or once for each task of a cluster where there are
    several workers or parameter servers, with its rows complete on disk. It exports a SavedModel into
    `config.saved_model_dir`, or a directory under it.

        rows | TrainTFScript("train.py", model_dir="/models/digits")

    Output elements: a `TrainedModel` for each model, which is then complete in `model_dir/<version>/`, the layout that
    TensorFlow Serving watches. With `model_dir=None`, the model itself as `ModelRow(model_id, model_info)` rows, which
    `ModelRowsToSavedModel` makes a directory of again.

    Args:
      main_script_file: the Python file that defines `main(config)`; a local path or a URI (docs/uris.md).
      model_dir: where versions are published; a local path or a URI of any of Beam's file systems, or None.
      checkpoint_dir: `config.checkpoint_dir`: where the script keeps what a repeated training goes on from; a path or
        URI that the script's TensorFlow can open. None for a directory that lasts as long as this training.
      num_workers, num_ps, num_evaluators, parallelism, placement, tf_config, ps_main, cluster_grace: the cluster, as
        in `RunTFScript`; several workers are one cluster.
      log_dir: where what the script writes to `config.log_dir` is kept, such as TensorBoard's logs, a directory for
        each attempt; a path or URI. None for `model_dir/logs`.
      max_attempts: how many times the training is started before the bundle fails.
      feed: None or `"dataset"`, for a training with its rows complete; or `"stream"`, for one that goes on while they
        come, and calls `config.export()` for each model that it has ready in `config.saved_model_dir`.
      user_files, user_params, selected_cols, intra_op_parallelism, input_schema, python_env, requirements,
        python_version, entry, script_args, start_timeout, feed_timeout, env, shard_by, side_inputs, compat_params: as
        in `RunTFScript`.
      log_level: the level at which lines that the script prints are logged: a name such as `"WARNING"`, or a number.
        Beam shows INFO only where the pipeline's program or its runner asks for it. A line that says its own level
        keeps it: a record of Python's `logging`, or a line of TensorFlow's C++.

    Raises:
      ArgumentError, SchemaError, ScriptLoadError: as `RunTFScript`; while the pipeline is built.
    """

    @check_names
    def __init__(
        self,
        main_script_file: str,
        model_dir: str | None,
        user_files: Sequence[str] = (),
        user_params: Any = None,
        selected_cols: Sequence[str] | None = None,
        num_workers: int | None = None,
        num_ps: int | None = None,
        num_evaluators: int = 0,
        parallelism: int | None = None,
        placement: str | None = None,
        tf_config: str | None = None,
        ps_main: bool = False,
        cluster_grace: float = 60,
        checkpoint_dir: str | None = None,
        intra_op_parallelism: int = 4,
        input_schema: str | Schema | None = None,
        python_env: str | None = None,
        requirements: Sequence[str] | None = None,
        python_version: str | None = None,
        feed: str | None = None,
        entry: str = "main",
        script_args: Sequence[str] = (),
        max_attempts: int = _MAX_ATTEMPTS,
        start_timeout: float = 120,
        feed_timeout: float = 600,
        env: Mapping[str, str] | None = None,
        shard_by: str | None = None,
        side_inputs: Mapping[str, Any] | None = None,
        compat_params: str | None = None,
        log_level: str | int = "INFO",
        log_dir: str | None = None,
    ):
        super().__init__()
        cluster = check_cluster(
            num_workers=num_workers,
            num_ps=num_ps,
            num_evaluators=num_evaluators,
            parallelism=parallelism,
            placement=placement,
            tf_config=tf_config,
            ps_main=ps_main,
            cluster_grace=cluster_grace,
            is_training=True,
        )
        self._options = check_options(
            main_script_file=main_script_file,
            output_schema=None,
            user_files=user_files,
            user_params=user_params,
            compat_params=compat_params,
            selected_cols=selected_cols,
            num_workers=num_workers,
            intra_op_parallelism=intra_op_parallelism,
            input_schema=input_schema,
            python_env=python_env,
            requirements=requirements,
            python_version=python_version,
            feed=feed or "dataset",
            entry=entry,
            script_args=script_args,
            max_attempts=max_attempts,
            max_processes=None,
            replay=None,
            keep_unacked_bytes=KEEP_UNACKED_BYTES,
            keep_unacked_seconds=KEEP_UNACKED_S,
            poll_interval=1.0,
            start_timeout=start_timeout,
            feed_timeout=feed_timeout,
            idle_timeout=None,
            env=env,
            shard_by=shard_by,
            output_as="row",
            log_level=log_level,
            cluster=cluster,
        )
        self._side_inputs = check_side_inputs(side_inputs, feed)
        self._train = check_training(model_dir, checkpoint_dir, script=self._options.script.name)
        logs = check_log_dir(log_dir, model_dir=self._train.model_dir)
        self._options = dataclasses.replace(self._options, log_dir=logs)

    def display_data(self) -> dict[str, Any]:
        """What a job's page shows: the arguments, without secrets."""
        return display_items(self._options)

    def expand(self, pcoll):  # Beam warns of an annotation that allows both PCollection and PBegin
        """The graph: chunks by cluster, and a training for each window of them.

        Raises:
          ArgumentError, SchemaError: the input cannot be used.
        """
        models, _ = run_script(pcoll, self._options, self._side_inputs, label=self.label, train=self._train)
        models.element_type = ModelRow if self._train.model_dir is None else TrainedModel
        return models
