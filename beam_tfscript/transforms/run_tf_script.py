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
from beam_tfscript.options.cluster_options import check_cluster
from beam_tfscript.options.display import display_items
from beam_tfscript.options.log_dir import check_log_dir
from beam_tfscript.options.script_options import KEEP_UNACKED_BYTES, KEEP_UNACKED_S, check_options
from beam_tfscript.transforms.side_inputs import check_side_inputs
from beam_tfscript.transforms.stages import run_script


class RunTFScript(beam.PTransform):
    """Runs a TensorFlow script over the rows of a PCollection, in a process of its own.

    The rows are dealt out to `num_workers` shards. The script's `main(config)` is called once for each
    shard and window, with the shard's rows complete on disk or as they come (`feed`); what it writes is the output.

        rows | RunTFScript(main_script_file="score.py", output_schema="id string, score float")

    Applied to a pipeline instead of a PCollection, it calls `main` once a shard without rows.

    Input elements: `beam.Row`, NamedTuple, dataclass, dict, numpy record, `tf.train.Example` or its serialized bytes,
    `pyarrow.RecordBatch` or Table; a `tf.train.SequenceExample` or its bytes is passed on unread. Output
    elements: rows with a Beam schema, with the names and types of `output_schema`, at the end of their window.

    Args:
      main_script_file: the Python file that defines `main(config)`; a local path or a URI (docs/uris.md).
      output_schema: the output's columns, such as `"id string, score float"`; None for no output.
      user_files: files that the script needs beside it; archives (.zip, .tar.gz, .tgz, .tar) are unpacked
        there, and directories are there as a whole. Local files up to 1 MiB, 4 MiB together, travel with the job.
      user_params: any JSON value, or its text, that the script finds as `config.user_params`.
      selected_cols: names of the columns that the script is given, in that order; None for all.
      num_workers: number of shards; None for one. In a cluster, its workers, the chief among them.
      num_ps: parameter servers of the cluster; None for none, or the rest of `parallelism`.
      num_evaluators: evaluators of the cluster.
      parallelism: workers and parameter servers together, where one count or none is given.
      placement: `"independent"`, where each shard is alone; `"one_host"`, where the runs of all shards are one
        TensorFlow cluster, started together on one machine. None for `"one_host"` where there are parameter servers
        or evaluators, else `"independent"`.
      tf_config: `"always"` to set `TF_CONFIG` for a cluster of one task too.
      ps_main: whether `main` is called on parameter servers, which otherwise just serve.
      cluster_grace: seconds that workers and evaluators may go on when the chief is done.
      intra_op_parallelism: threads of TensorFlow's and OpenMP's pools in the script process, set before
        `main`; 0 leaves them alone.
      input_schema: the input's columns. Not needed where the PCollection has a Beam schema; needed for
        dicts, and for serialized Examples where the script uses `config.batches()` and the like.
      python_env: the Python that runs the script: a directory with `bin/python`, or an archive of one by any URI
        (docs/environments.md); None for the pipeline's own interpreter.
      requirements: instead of `python_env`, packages to make an environment of, once on each machine.
      python_version: the Python of that environment, such as `"3.8"`.
      feed: how a run gets its rows: `"dataset"`, complete before `main`; `"bundles"`, as the runner brings them,
        without a shuffle; `"stream"`, as they come, until their window ends. None for `"dataset"` on bounded input,
        else `"stream"`. docs/delivery.md says which is for what, and what each loses or repeats after a fault.
      entry: name of the function to call.
      script_args: `sys.argv[1:]` of the script.
      max_attempts: how many times a run is tried before the bundle fails; in `"bundles"`, a batch. None for 1 in
        `"dataset"`, where more keep a run's outputs on disk until it has ended well, so that they go downstream once;
        else 3.
      max_processes: how many script processes of this transform one worker process may have at work; None for as many
        as the machine has cores, and in `"stream"` at least two a shard.
      replay: in `"stream"`, whether a run whose process has died is given all rows of its window again, from the
        runner's state, so that a script that keeps something from row to row has it again; what it wrote before comes
        once more. Without it, only rows that no process has acknowledged are sent again. None for True in windows that
        end, and False in the global window.
      keep_unacked_bytes, keep_unacked_seconds: in `"stream"` without `replay`, how many bytes of such rows stay in the
        runner's state, and for how long. Those beyond are lost with the process that has them, and counted as
        `rows_lost`.
      poll_interval: in `"stream"`, after how many seconds outputs are looked for where no rows come.
      start_timeout: seconds that the script's interpreter may take to start and to import TensorFlow.
      feed_timeout: seconds of silence after which the log says what line the script is at; in `"bundles"` and
        `"stream"`, after which a script that does not read the rows it has is an error.
      idle_timeout: seconds after which a process without work is ended; None for a minute.
      env: environment variables for the script process.
      shard_by: column whose equal values go to the same shard; None deals rows out in turn.
      side_inputs: name -> PCollection of rows, or (PCollection, schema), that every run is given whole: a file in
        `config.side_files`, and `config.side_dataset(name)`. Not in `"bundles"`, nor in `"stream"` on unbounded input.
      output_as: form of the output elements: `"row"`, with a Beam schema; `"dict"`; `"example"`, a serialized
        `tf.train.Example`; or `"record_batch"`, a `pyarrow.RecordBatch` of some rows, of `output_arrow_schema`.
      compat_params: `"strings"` to give each of `user_params` as a string, as scripts for other platforms expect
        (docs/compat.md); None keeps JSON's types.
      log_level: the level at which lines that the script prints are logged: a name such as `"WARNING"`, or a number.
        Beam shows INFO only where the pipeline's program or its runner asks for it. A line that says its own level
        keeps it: a record of Python's `logging`, or a line of TensorFlow's C++.
      log_dir: a path or URI where what scripts write to `config.log_dir` is kept, a directory for each run; None
        removes it with the run.

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
        intra_op_parallelism: int = 4,
        input_schema: str | Schema | None = None,
        python_env: str | None = None,
        requirements: Sequence[str] | None = None,
        python_version: str | None = None,
        feed: str | None = None,
        entry: str = "main",
        script_args: Sequence[str] = (),
        max_attempts: int | None = None,
        max_processes: int | None = None,
        replay: bool | None = None,
        keep_unacked_bytes: int = KEEP_UNACKED_BYTES,
        keep_unacked_seconds: float = KEEP_UNACKED_S,
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
        self._options = check_options(
            main_script_file=main_script_file,
            output_schema=output_schema,
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
            feed=feed,
            entry=entry,
            script_args=script_args,
            max_attempts=max_attempts,
            max_processes=max_processes,
            replay=replay,
            keep_unacked_bytes=keep_unacked_bytes,
            keep_unacked_seconds=keep_unacked_seconds,
            poll_interval=poll_interval,
            start_timeout=start_timeout,
            feed_timeout=feed_timeout,
            idle_timeout=idle_timeout,
            env=env,
            shard_by=shard_by,
            output_as=output_as,
            log_level=log_level,
            log_dir=check_log_dir(log_dir),
            cluster=check_cluster(
                num_workers=num_workers,
                num_ps=num_ps,
                num_evaluators=num_evaluators,
                parallelism=parallelism,
                placement=placement,
                tf_config=tf_config,
                ps_main=ps_main,
                cluster_grace=cluster_grace,
                is_training=False,
            ),
        )
        self._side_inputs = check_side_inputs(side_inputs, feed)
        self._bad: DeadLetters | None = None

    @property
    def output_arrow_schema(self) -> pa.Schema | None:
        """Arrow schema of the batches of `output_as="record_batch"`, as writers want it; None without output."""
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
        """The same transform, with dead letters: gives `(good, bad)` instead of failing on a bad row.

        Input elements that cannot be encoded, and serialized Examples that the script wrote and that do
        not fit the output schema, go to `bad` as `(element, (exception type, repr, traceback lines))`. A
        script that fails still fails the bundle. The arguments are those of Beam's
        `ParDo.with_exception_handling`; `partial` and `use_subprocess` change nothing, as each row is
        taken by itself and the script has its own process anyway.

        Raises:
          ArgumentError: `timeout` is given, which has no meaning for rows that are encoded in bulk.
        """
        if timeout is not None:
            raise ArgumentError(
                "with_exception_handling: timeout is not supported: rows are encoded in bulk, and a run's time is "
                "the script's affair. feed_timeout of the transform watches over a silent script."
            )
        handled = copy.copy(self)
        handled._bad = DeadLetters(
            main_tag, dead_letter_tag, exc_class, threshold, threshold_windowing, error_handler, on_failure_callback
        )
        return handled

    def display_data(self) -> dict[str, Any]:
        """What a job's page shows: the arguments, without secrets."""
        return display_items(self._options)

    def expand(self, pcoll):  # Beam warns of an annotation that allows both PCollection and PBegin
        """The graph: chunks by shard and a run for each; or, in the `bundles` feed, no shuffle at all.

        Raises:
          ArgumentError, SchemaError: the input cannot be used.
        """
        result, bad_rows = run_script(pcoll, self._options, self._side_inputs, label=self.label, bad=self._bad)
        return self._finish(pcoll if isinstance(pcoll, PCollection) else None, result, bad_rows)

    def _finish(self, rows: PCollection | None, result: Any, bad_rows: PCollection | None) -> Any:
        """Types the outputs, and joins the dead letters of both stages."""
        element_type = output_type(self._options.output_schema, self._options.output_as)
        if self._bad is None:
            result.element_type = element_type
            return result
        good = result[self._bad.main_tag]
        good.element_type = element_type
        bad = result[self._bad.dead_letter_tag]
        bad = bad if bad_rows is None else (bad_rows, bad) | "Bad" >> beam.Flatten()
        return self._bad.outputs(rows, good, bad)
