"""RunTFScript: the arguments a pipeline's author writes, and the graph they expand to."""

# Annotations are not postponed here: Beam reads those of `expand` as type hints.
import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import PBegin, PCollection
from apache_beam.transforms.core import Windowing
from apache_beam.transforms.window import GlobalWindows, TimestampCombiner

from beam_tfscript.bad_records import BadRecords
from beam_tfscript.data.schema import Schema
from beam_tfscript.display import display_items
from beam_tfscript.dofns import ChunkBatches, ChunkRows, ChunkWindowedRows, RunShard
from beam_tfscript.errors import ArgumentError
from beam_tfscript.inputs import is_arrow, plan_input
from beam_tfscript.options import ScriptOptions, check_options
from beam_tfscript.outputs import output_type

_Shard = beam.typehints.Tuple[int, beam.typehints.Tuple[int, bytes]]


class RunTFScript(beam.PTransform):
    """Runs a TensorFlow script over the rows of a PCollection, in a process of its own.

    The rows are dealt out to `num_workers` shards. The script's `main(config)` is called once for each
    shard and window, with the shard's rows complete on disk; what it writes is the output.

        rows | RunTFScript(main_script_file="score.py", output_schema="id string, score float")

    Applied to a pipeline instead of a PCollection, it calls `main` once a shard without rows.

    Input elements: `beam.Row`, NamedTuple, dataclass, dict, numpy record, `tf.train.Example` or its serialized bytes,
    `pyarrow.RecordBatch` or Table; a `tf.train.SequenceExample` or its bytes is passed on unread. Output
    elements: rows with a Beam schema, with the names and types of `output_schema`, at the end of their window.

    Args:
      main_script_file: the Python file that defines `main(config)`; a local path or a URI that Beam can read.
      output_schema: the output's columns, such as `"id string, score float"`; None for no output.
      user_files: files that the script needs beside it; archives (.zip, .tar.gz, .tgz, .tar) are unpacked
        there, and directories are there as a whole. Local files up to 1 MiB, 4 MiB together, travel with the job.
      user_params: any JSON value, or its text, that the script finds as `config.user_params`.
      selected_cols: names of the columns that the script is given, in that order; None for all.
      num_workers: number of shards; None for one.
      intra_op_parallelism: threads of TensorFlow's and OpenMP's pools in the script process, set before
        `main`; 0 leaves them alone.
      input_schema: the input's columns. Not needed where the PCollection has a Beam schema; needed for
        dicts, and for serialized Examples where the script uses `config.batches()` and the like.
      feed: how a run gets its rows; `"dataset"` or None, which is the same for bounded input.
      entry: name of the function to call.
      script_args: `sys.argv[1:]` of the script.
      max_attempts: how many times a run is tried before the bundle fails. With more than one, a run's
        outputs are kept on disk until it has ended well, so that they go downstream once.
      start_timeout: seconds that the script's interpreter may take to start and to import TensorFlow.
      feed_timeout: seconds of silence after which the log says what line the script is at.
      env: environment variables for the script process.
      shard_by: column whose equal values go to the same shard; None deals rows out in turn.
      output_as: form of the output elements: `"row"`, with a Beam schema; `"dict"`; `"example"`, a serialized
        `tf.train.Example`; or `"record_batch"`, a `pyarrow.RecordBatch` of some rows.

    Raises:
      ArgumentError: an argument cannot be used; while the pipeline is built.
      SchemaError: a schema cannot be parsed, or a column is not in it; while the pipeline is built.
      ScriptLoadError: the main script has a syntax error or no such function; while the pipeline is built.
    """

    def __init__(
        self,
        main_script_file: str,
        output_schema: str | Schema | None = None,
        user_files: Sequence[str] = (),
        user_params: Any = None,
        selected_cols: Sequence[str] | None = None,
        num_workers: int | None = None,
        intra_op_parallelism: int = 4,
        input_schema: str | Schema | None = None,
        feed: str | None = None,
        entry: str = "main",
        script_args: Sequence[str] = (),
        max_attempts: int = 1,
        start_timeout: float = 120,
        feed_timeout: float = 600,
        env: Mapping[str, str] | None = None,
        shard_by: str | None = None,
        output_as: str = "row",
    ):
        super().__init__()
        self._options = check_options(
            main_script_file=main_script_file,
            output_schema=output_schema,
            user_files=user_files,
            user_params=user_params,
            selected_cols=selected_cols,
            num_workers=num_workers,
            intra_op_parallelism=intra_op_parallelism,
            input_schema=input_schema,
            feed=feed,
            entry=entry,
            script_args=script_args,
            max_attempts=max_attempts,
            start_timeout=start_timeout,
            feed_timeout=feed_timeout,
            env=env,
            shard_by=shard_by,
            output_as=output_as,
        )
        self._feed = feed
        self._bad: BadRecords | None = None

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
        handled._bad = BadRecords(
            main_tag, dead_letter_tag, exc_class, threshold, threshold_windowing, error_handler, on_failure_callback
        )
        return handled

    def display_data(self) -> dict[str, Any]:
        """What a job's page shows: the arguments, without secrets."""
        return display_items(self._options)

    def expand(self, pcoll):  # Beam warns of an annotation that allows both PCollection and PBegin
        """The graph: chunks by shard, a GroupByKey, one run a shard.

        Raises:
          ArgumentError, SchemaError: the input cannot be used.
        """
        if isinstance(pcoll, (PBegin, beam.Pipeline)):
            options, chunks, bad_rows = self._options, self._make_empty_chunks(pcoll), None
        else:
            options, chunks, bad_rows = self._chunk_rows(pcoll)
        stamp = chunks.windowing.timestamp_combiner != TimestampCombiner.OUTPUT_AT_EOW
        run = beam.ParDo(RunShard(options, self._bad, stamp=stamp))
        grouped = chunks | "GroupByShard" >> beam.GroupByKey()
        element_type = output_type(options.output_schema, options.output_as)
        if self._bad is None:
            return grouped | "Run" >> run.with_output_types(element_type)
        bad_tag = self._bad.dead_letter_tag
        result = grouped | "Run" >> run.with_outputs(bad_tag, main=self._bad.main_tag)
        result[self._bad.main_tag].element_type = element_type
        bad = result[bad_tag] if bad_rows is None else (bad_rows, result[bad_tag]) | "Bad" >> beam.Flatten()
        return self._bad.outputs(None if bad_rows is None else pcoll, result[self._bad.main_tag], bad)

    def _make_empty_chunks(self, pipeline: Any) -> PCollection:
        shards = [(shard, (0, b"")) for shard in range(self._options.num_workers)]
        return pipeline | "Shards" >> beam.Create(shards, reshuffle=False).with_output_types(_Shard)

    def _chunk_rows(self, pcoll: PCollection) -> tuple[ScriptOptions, PCollection, PCollection | None]:
        if not pcoll.is_bounded and self._feed is None:
            raise ArgumentError(
                f'the input of {self.label} is unbounded, and the feed for that, "stream", is not available yet: '
                'give feed="dataset" for one run a (shard, window pane), and a windowing that has ends.'
            )
        options, encoder = plan_input(pcoll.element_type, self._options)
        dofn: type[ChunkRows] = ChunkWindowedRows
        if is_arrow(pcoll.element_type):
            dofn = ChunkBatches
        elif isinstance(pcoll.windowing.windowfn, GlobalWindows):
            dofn = ChunkRows
        chunk = beam.ParDo(dofn(options, encoder, self._bad))
        if self._bad is None:
            return options, pcoll | "Chunk" >> chunk.with_output_types(_Shard), None
        result = pcoll | "Chunk" >> chunk.with_outputs(self._bad.dead_letter_tag, main=self._bad.main_tag)
        result[self._bad.main_tag].element_type = _Shard
        return options, result[self._bad.main_tag], result[self._bad.dead_letter_tag]
