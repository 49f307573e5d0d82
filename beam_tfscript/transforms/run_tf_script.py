"""RunTFScript: the arguments a pipeline's author writes, and the graph they expand to."""

# Annotations are not postponed here: Beam reads those of `expand` as type hints.
import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.pvalue import PCollection
from apache_beam.transforms.core import Windowing

from beam_tfscript.data.plain_arrow import plain_schema
from beam_tfscript.data.schema import Schema
from beam_tfscript.dofns.dead_letters import DeadLetters
from beam_tfscript.dofns.decode_output import output_type
from beam_tfscript.errors import ArgumentError
from beam_tfscript.options.argument_names import check_names
from beam_tfscript.options.display import display_items
from beam_tfscript.options.script_options import check_run_arguments
from beam_tfscript.transforms.side_inputs import check_side_inputs
from beam_tfscript.transforms.stages import run_script


class RunTFScript(beam.PTransform):
    """Run a TensorFlow script over the rows of a PCollection, in a process of its own.

    The rows are divided among `num_workers` shards. The script's `main(config)` is called once per shard and window. It
    gets the shard's rows by its `feed`: complete on disk, or as they come. The rows that it writes are the output.

        rows | RunTFScript(main_script_file="score.py", output_schema="id string, score float")

    Applied to a pipeline instead of a PCollection, it calls `main` once per shard, without rows.

    Input elements: `beam.Row`, NamedTuple, dataclass, dict, numpy record, `tf.train.Example` or its serialized bytes,
    and elements of many rows each: `pyarrow.RecordBatch`, `pyarrow.Table` or an `ExampleChunk`. A
    `tf.train.SequenceExample`, or its bytes, is passed on unread.

    Output elements: rows with a Beam schema, which have the names and types of `output_schema`
    (https://beam.apache.org/documentation/programming-guide/#schemas). They are in the window of their input rows. In
    `"dataset"` and `"stream"` their timestamp is the window's last one; in `"bundles"`, the earliest one of their
    batch. docs/types.md has the dtypes and shapes of the script's arrays, for each type of a column.

    Args:
      main_script_file: the Python file that defines `main(config)`; a local path or a URI (docs/uris.md).
      output_schema: columns of the output, such as `"id string, score float"`; None for no output. docs/types.md lists
        the types.
      user_files: files that the script needs beside it, where they are read-only. Archives (.zip, .tar.gz, .tgz, .tar)
        are unpacked there, and directories are copied as a whole. Local files and directories of up to 1 MiB each, and
        4 MiB together, travel in the job graph; larger ones travel as artifacts of the job. Modules that a local script
        imports from its own folder need not be named.
      user_params: any JSON value, or its text, that the script finds as `config.user_params`. Scalars and arrays of
        numpy become plain values.
      selected_cols: names of the columns that the script is given, in that order; None for all columns.
      num_workers: number of shards, or of a cluster's workers, the chief included; None for 1.
      num_ps: number of the cluster's parameter servers; None for 0, or for the remainder of `parallelism`.
      num_evaluators: number of the cluster's evaluators.
      parallelism: number of workers and parameter servers together. If neither `num_workers` nor `num_ps` is given, a
        quarter of them are parameter servers. If one of the two is given, the other is the remainder.
      placement: layout of the shards: `"independent"`, or the tasks of one cluster on `"one_host"` or `"spread"` over
        several. With `"independent"` each shard is alone. With `"one_host"`, the runs of all shards are a TensorFlow
        cluster on one machine. With `"spread"`, in feed="dataset", its tasks are on any machines. None for `"one_host"`
        if there are parameter servers or evaluators, else `"independent"`.
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
      feed: the way in which a run gets its rows: `"dataset"`, `"bundles"` or `"stream"`. In `"dataset"` the rows are
        complete before `main` is called. In `"bundles"` they come bundle by bundle, without a shuffle. In `"stream"`
        they come until their window ends. None for `"dataset"` on bounded input, else `"stream"`. docs/delivery.md says
        what each feed loses or repeats after a fault.
      entry: name of the function to call.
      script_args: `sys.argv[1:]` of the script.
      max_attempts: number of attempts at a run, or in `"bundles"` at a batch, before the bundle fails. None for 1 in
        `"dataset"`, else 3. With more than 1 in `"dataset"`, the outputs of a run stay on disk until the run has
        succeeded, so that they go downstream once.
      max_processes: maximum number of script processes that this transform uses at the same time, per worker process.
        None for the number of the machine's cores, and at least 2; in `"stream"` at least 2 per shard.
      max_runs: number of runs after which a script process is ended, and the next run gets a new one; None for no
        limit.
      max_rss_bytes: resident memory, in bytes, above which a script process is ended after a run, or in `"bundles"`
        after a bundle. Memory of its children counts too. None for no limit.
      transport: the way of the rows to the runs in `"dataset"`: `"shuffle"`, or `"files"` in `spool_dir`, of which only
        the names are shuffled. A runner holds a shard that is shuffled in memory, at four to six times its size; files
        are flat in memory. None for the shuffle while the data is small, and for files from 64 MiB per worker on, if a
        spool directory is known. On unbounded input only `"shuffle"`.
      spool_dir: directory for files of rows, on any of Beam's file systems, which all workers see. A job's files are
        removed at its end. None for the job's `temp_location`; if all workers are on this machine, for the directory of
        temporary files.
      replay: in `"stream"`, True to send all rows of a window again, from the runner's state, to the run that replaces
        a dead one. So a script that keeps values from row to row computes them again. Outputs that the dead run has
        written come again too. False to send only the rows that no process has acknowledged. None for True in windows
        that end, and for False in the global window.
      keep_unacked_bytes: in `"stream"` without `replay`, limit of the unacknowledged rows in the runner's state, in
        bytes. Rows beyond it, the oldest first, are lost if their process dies, and are counted as `rows_lost`.
      keep_unacked_seconds: in `"stream"` without `replay`, seconds that unacknowledged rows stay in the runner's state.
        Older rows are lost if their process dies, and are counted as `rows_lost`.
      poll_interval: in `"stream"`, seconds between two polls for outputs while no rows come.
      start_timeout: seconds that the script's interpreter may take to start and to import TensorFlow.
      feed_timeout: seconds without a sign of life from the script, after which the log shows the script's stack. In
        `"bundles"` and `"stream"` this silence is an error while rows wait to be read. In `"stream"` it is also an
        error if the feed has ended and `main` does not return.
      idle_timeout: seconds after which a process without work is ended; None for 60.
      env: environment variables of the script process. Their values are not shown on the job's page.
      shard_by: name of a column whose equal values go to the same shard; None assigns rows to the shards in turn.
      side_inputs: dict, name -> PCollection of rows, or name -> (PCollection, schema). Each run gets all rows of the
        PCollection in the run's window (https://beam.apache.org/documentation/programming-guide/#side-inputs). The
        script reads them from the file `config.side_files[name]`, or by `config.side_dataset(name)` or
        `config.side_batches(name, n)`. Not in `"bundles"`, nor in `"stream"` on unbounded input.
      output_as: form of the output elements: `"row"`, with a Beam schema; `"dict"`; `"example"`, a serialized
        `tf.train.Example`; `"examples"`, an `ExampleChunk` of many serialized Examples, for `WriteExamples`; or
        `"record_batch"`, a `pyarrow.RecordBatch` of several rows with the schema `output_arrow_schema`.
      compat_params: `"strings"` to pass each value of `user_params` as a string, as scripts for other platforms expect
        (docs/compat.md); None keeps JSON's types.
      log_level: the level at which lines that the script prints are logged; a name such as `"WARNING"`, or a number
        (https://docs.python.org/3/library/logging.html#logging-levels). Lines at INFO are shown only if the pipeline's
        program, or its runner, asks for that level. A record of Python's `logging`, or a line of TensorFlow's C++ code,
        keeps its own level.
      log_dir: a path or URI where the files that scripts write to `config.log_dir` are kept. Each attempt of a run has
        a directory of its own there. None removes the files with the run.

    Raises:
      ArgumentError: an argument cannot be used; while the pipeline is built.
      SchemaError: a schema cannot be parsed, or a column is not in it; while the pipeline is built.
      ScriptLoadError: the main script has a syntax error or no such function; while the pipeline is built.
    """

    @check_names
    def __init__(
        self,
        main_script_file: str,
        output_schema: str | Schema | None = None,
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
        intra_op_parallelism: int = 4,
        accelerators_per_process: float | None = None,
        input_schema: str | Schema | None = None,
        python_env: str | None = None,
        requirements: Sequence[str] | None = None,
        python_version: str | None = None,
        feed: str | None = None,
        entry: str = "main",
        script_args: Sequence[str] = (),
        max_attempts: int | None = None,
        max_processes: int | None = None,
        max_runs: int | None = None,
        max_rss_bytes: int | None = None,
        transport: str | None = None,
        spool_dir: str | None = None,
        replay: bool | None = None,
        keep_unacked_bytes: int = 64 << 20,
        keep_unacked_seconds: float = 600,
        poll_interval: float = 0.5,
        start_timeout: float = 120,
        feed_timeout: float = 600,
        idle_timeout: float | None = None,
        env: Mapping[str, str] | None = None,
        shard_by: str | None = None,
        side_inputs: Mapping[str, Any] | None = None,
        output_as: str = "row",
        compat_params: str | None = None,
        log_level: str | int = "INFO",
        log_dir: str | None = None,
    ):
        super().__init__()
        # The names of the parameters are those of the declaration: options/arguments/signatures.py.
        self._options = check_run_arguments(locals())
        self._side_inputs = check_side_inputs(side_inputs, feed)
        self._dead_letters: DeadLetters | None = None

    @property
    def output_arrow_schema(self) -> pa.Schema | None:
        """Arrow schema of the batches of `output_as="record_batch"`, as writers need it; None without output."""
        schema = self._options.output_schema
        return None if schema is None else plain_schema(schema)

    def with_exception_handling(
        self,
        main_tag: str = "good",
        dead_letter_tag: str = "bad",
        *,
        exc_class: type[BaseException] | tuple[type[BaseException], ...] = Exception,
        partial: bool = False,
        use_subprocess: bool = False,
        threshold: float = 1,
        threshold_windowing: Windowing | None = None,
        timeout: float | None = None,
        error_handler: Any = None,
        on_failure_callback: Callable[[Exception, Any], None] | None = None,
        allow_unsafe_userstate_in_process: bool = False,
    ) -> "RunTFScript":
        """Return the same transform with dead letters: it gives `(good, bad)` instead of failing on a row.

        These elements are dead letters, as `(element, (exception type, repr, traceback lines))`: input elements that
        cannot be encoded, and serialized Examples from the script that do not fit the output schema. In `"bundles"`,
        the rows of a batch that fails `max_attempts` times are dead letters too. Otherwise a script that fails still
        fails the bundle.

        The arguments are those of Beam's `ParDo.with_exception_handling`:
        https://beam.apache.org/releases/pydoc/current/apache_beam.transforms.core.html. `partial` and `use_subprocess`
        have no effect, as each row is handled by itself, and the script has a process of its own.

        Raises:
          ArgumentError: `timeout` is given, which has no meaning for rows that are encoded in bulk; or `threshold`, or
            a tag, cannot be used.
        """
        if timeout is not None:
            raise ArgumentError(
                "with_exception_handling: timeout is not supported, since rows are encoded in bulk, and a run has no "
                "time limit. The transform's argument feed_timeout limits the time that a script is silent."
            )
        handled = copy.copy(self)
        handled._dead_letters = DeadLetters(
            main_tag, dead_letter_tag, exc_class, threshold, threshold_windowing, error_handler, on_failure_callback
        )
        return handled

    def display_data(self) -> dict[str, Any]:
        """Return the display items of a job's page: the arguments, without secrets."""
        return display_items(self._options)

    def expand(self, pcoll):  # Beam warns of an annotation that allows both PCollection and PBegin
        """Add chunks by shard and a run for each shard; in the `bundles` feed, runs without a shuffle.

        Raises:
          ArgumentError, SchemaError: the input cannot be used.
        """
        outputs, rejected_rows = run_script(
            pcoll, self._options, self._side_inputs, label=self.label, dead_letters=self._dead_letters
        )
        return self._finish(pcoll if isinstance(pcoll, PCollection) else None, outputs, rejected_rows)

    def _finish(self, rows: PCollection | None, outputs: Any, rejected_rows: PCollection | None) -> Any:
        """Set the type of the outputs, and join the dead letters of both stages."""
        element_type = output_type(self._options.output_schema, self._options.output_as)
        if self._dead_letters is None:
            outputs.element_type = element_type
            return outputs
        good = outputs[self._dead_letters.main_tag]
        good.element_type = element_type
        rejected = outputs[self._dead_letters.dead_letter_tag]
        if rejected_rows is not None:
            rejected = (rejected_rows, rejected) | "Bad" >> beam.Flatten()
        return self._dead_letters.outputs(rows, good, rejected)
