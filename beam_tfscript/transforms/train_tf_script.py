"""TrainTFScript: the arguments of a training, and the graph it expands to."""

# Annotations are not postponed here: Beam reads those of `expand` as type hints.
from collections.abc import Mapping, Sequence
from typing import Any

import apache_beam as beam

from beam_tfscript.data.schema import Schema
from beam_tfscript.models.model_rows import ModelRow
from beam_tfscript.models.trained_model import TrainedModel
from beam_tfscript.options.argument_names import check_names
from beam_tfscript.options.display import display_items
from beam_tfscript.options.script_options import check_train_arguments
from beam_tfscript.transforms.side_inputs import check_side_inputs
from beam_tfscript.transforms.stages import run_script


class TrainTFScript(beam.PTransform):
    """Train a model on the rows of a PCollection with a TensorFlow script, and publish its SavedModel.

    The script's `main(config)` is called once per window, with its rows complete on disk. If there are several workers
    or parameter servers, it is called once per task of their cluster. It exports a SavedModel
    (https://www.tensorflow.org/guide/saved_model) into `config.saved_model_dir`, or into a directory below.

        rows | TrainTFScript("train.py", model_dir="/models/digits")

    Input elements: as in `RunTFScript`.

    Output elements: a `TrainedModel` for each model, once the model is complete in `model_dir/<version>/`. TensorFlow
    Serving watches this layout (https://www.tensorflow.org/tfx/serving/serving_config). With `model_dir=None`, the
    model itself as `ModelRow(model_id, model_info)` rows, from which `ModelRowsToSavedModel` makes the directory.

    Args:
      main_script_file: the Python file that defines `main(config)`; a local path or a URI (docs/uris.md).
      model_dir: directory in which versions are published: a local path, or a URI of any of Beam's file systems. None
        to output the model itself, as rows. Beam's file systems:
        https://beam.apache.org/releases/pydoc/current/apache_beam.io.filesystems.html.
      user_files: files that the script needs beside it, where they are read-only. Archives (.zip, .tar.gz, .tgz, .tar)
        are unpacked there, and directories are copied as a whole. Local files and directories of up to 1 MiB each, and
        4 MiB together, travel in the job graph; larger ones travel as artifacts of the job. Modules that a local script
        imports from its own folder need not be named.
      user_params: any JSON value, or its text, that the script finds as `config.user_params`. Scalars and arrays of
        numpy become plain values.
      selected_cols: names of the columns that the script is given, in that order; None for all columns.
      num_workers: number of workers, the chief included; None for 1. Several workers are one cluster.
      num_ps: number of the cluster's parameter servers; None for 0, or for the remainder of `parallelism`.
      num_evaluators: number of the cluster's evaluators.
      parallelism: number of workers and parameter servers together. If neither `num_workers` nor `num_ps` is given, a
        quarter of them are parameter servers. If one of the two is given, the other is the remainder.
      placement: layout of the workers: None or `"one_host"` for one TensorFlow cluster on one machine, `"spread"` for
        one whose tasks are on any machines, in feed="dataset". `"independent"` is possible only for a single worker.
      tf_config: `"always"` to set `TF_CONFIG` for a cluster of one task as well. TensorFlow describes the variable in
        https://www.tensorflow.org/guide/distributed_training#setting_up_the_tf_config_environment_variable.
      ps_main: calls `main` on parameter servers too, which otherwise only serve.
      cluster_grace: seconds that workers and evaluators may continue after the chief has ended.
      cluster_timeout: seconds for which the tasks of a cluster with `placement="spread"` wait until all of them have
        begun.
      cluster_network: the network, such as `"10.0.0.0/8"`, in which the machines of a cluster with `placement="spread"`
        reach each other. None to try all addresses of each machine. If the environment variable `BEAM_TFSCRIPT_HOST` of
        a worker is set, it is the worker's only address.
      cluster_ports: range of the ports that the tasks of a cluster listen on, such as `"30000-30999"`. None for free
        ports that the system chooses.
      checkpoint_dir: directory of the script's checkpoints, `config.checkpoint_dir`, from which a repeated training
        continues. A path or a URI that the script's TensorFlow can open. None for a directory that is removed after
        this training; with `placement="spread"` it is below `spool_dir`.
      intra_op_parallelism: number of threads in TensorFlow's and OpenMP's pools of the script process, set before
        `main`; 0 leaves the numbers unset. TensorFlow's pool:
        https://www.tensorflow.org/api_docs/python/tf/config/threading/set_intra_op_parallelism_threads.
      accelerators_per_process: number of GPUs that a script process has to itself, in `CUDA_VISIBLE_DEVICES`. A
        fraction such as 0.5 or 0.25 if several processes share one GPU; 0 for none. A run waits until so many are free
        on its machine. In a cluster, only the chief and the workers get GPUs. None for no limit: each process sees what
        the worker sees. More: docs/guide.md.
      input_schema: columns of the input, such as `"id string, x array<float>"`; None for those of the PCollection's
        Beam schema. Dicts need it, and so do serialized Examples that the script reads parsed, as by
        `config.batches()`. A Beam schema is described in
        https://beam.apache.org/documentation/programming-guide/#schemas.
      python_env: the Python that runs the script: a directory with `bin/python`, or an archive of one by any URI.
        `worker:///opt/script` is a directory that only the workers have, as in their image. None for the worker's own
        interpreter. More: docs/environments.md.
      requirements: packages of an environment that each machine builds once, in place of `python_env`. Each is a line
        of a requirements file, such as `"tensorflow==2.3.4"`.
      python_version: the Python of the environment that is built, such as `"3.8"`; None for the version of the worker's
        Python.
      feed: the way in which a training gets its rows: None or `"dataset"` for all rows before `main` is called;
        `"stream"` for rows that come during the training. There the script calls `config.export()` for each model that
        is ready in `config.saved_model_dir`.
      entry: name of the function to call.
      script_args: `sys.argv[1:]` of the script.
      max_attempts: number of attempts at a training before the bundle fails. Each attempt continues from the
        checkpoints.
      transport: the way of the rows to the runs in `"dataset"`: `"shuffle"`, or `"files"` in `spool_dir`, of which only
        the names are shuffled. A runner holds a shard that is shuffled in memory, at four to six times its size; files
        are flat in memory. None for the shuffle while the data is small, and for files from 64 MiB per worker on, if a
        spool directory is known. On unbounded input only `"shuffle"`.
      spool_dir: directory for files of rows, on any of Beam's file systems, which all workers see. A job's files are
        removed at its end. None for the job's `temp_location`; if all workers are on this machine, for the directory of
        temporary files.
      start_timeout: seconds that the script's interpreter may take to start and to import TensorFlow.
      feed_timeout: seconds without a sign of life from the script, after which the log shows the script's stack. In
        `"bundles"` and `"stream"` this silence is an error while rows wait to be read. In `"stream"` it is also an
        error if the feed has ended and `main` does not return.
      env: environment variables of the script process. Their values are not shown on the job's page.
      shard_by: name of a column whose equal values go to the same shard; None assigns rows to the shards in turn.
      side_inputs: dict, name -> PCollection of rows, or name -> (PCollection, schema). Each run gets all rows of the
        PCollection in the run's window (https://beam.apache.org/documentation/programming-guide/#side-inputs). The
        script reads them from the file `config.side_files[name]`, or by `config.side_dataset(name)` or
        `config.side_batches(name, n)`. Not in `"bundles"`, nor in `"stream"` on unbounded input.
      compat_params: `"strings"` to pass each value of `user_params` as a string, as scripts for other platforms expect
        (docs/compat.md); None keeps JSON's types.
      log_level: the level at which lines that the script prints are logged; a name such as `"WARNING"`, or a number
        (https://docs.python.org/3/library/logging.html#logging-levels). Lines at INFO are shown only if the pipeline's
        program, or its runner, asks for that level. A record of Python's `logging`, or a line of TensorFlow's C++ code,
        keeps its own level.
      log_dir: a path or URI where the files that the script writes to `config.log_dir` are kept, such as TensorBoard's
        logs. Each attempt has a directory of its own there. None for `model_dir/logs`.

    Raises:
      ArgumentError: an argument cannot be used; while the pipeline is built.
      SchemaError: a schema cannot be parsed, or a column is not in it; while the pipeline is built.
      ScriptLoadError: the main script has a syntax error or no such function; while the pipeline is built.
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
        cluster_timeout: float = 600,
        cluster_network: str | None = None,
        cluster_ports: str | None = None,
        checkpoint_dir: str | None = None,
        intra_op_parallelism: int = 4,
        accelerators_per_process: float | None = None,
        input_schema: str | Schema | None = None,
        python_env: str | None = None,
        requirements: Sequence[str] | None = None,
        python_version: str | None = None,
        feed: str | None = None,
        entry: str = "main",
        script_args: Sequence[str] = (),
        max_attempts: int = 3,
        transport: str | None = None,
        spool_dir: str | None = None,
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
        # The names of the parameters are those of the declaration: options/arguments/signatures.py.
        self._options, self._train = check_train_arguments(locals())
        self._side_inputs = check_side_inputs(side_inputs, feed)

    def display_data(self) -> dict[str, Any]:
        """Return the display items of a job's page: the arguments, without secrets."""
        return display_items(self._options)

    def expand(self, pcoll):  # Beam warns of an annotation that allows both PCollection and PBegin
        """Add chunks by cluster, and a training for each window of them.

        Raises:
          ArgumentError, SchemaError: the input cannot be used.
        """
        models, _ = run_script(pcoll, self._options, self._side_inputs, label=self.label, train=self._train)
        models.element_type = ModelRow if self._train.model_dir is None else TrainedModel
        return models
