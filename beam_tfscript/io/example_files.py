"""ReadExamples and WriteExamples: TFRecord files as chunks of serialized Examples."""

from __future__ import annotations

import apache_beam as beam
from apache_beam.io.filesystem import CompressionTypes

from beam_tfscript.data.example_chunk import ExampleChunk
from beam_tfscript.io.batch_sinks import ExampleSink
from beam_tfscript.io.example_source import ExampleSource
from beam_tfscript.io.found_files import first_file, in_directory


class ReadExamples(beam.PTransform):
    """Read TFRecord files as chunks: each element is an `ExampleChunk` of many serialized Examples.

    `RunTFScript` and `TrainTFScript` pass the Examples of a chunk to the script as they are. There is no Python call
    of Beam per row. Files are read in parallel, and so are byte ranges of one file, unless it is compressed. Both
    checksums of each record are checked.

        pipeline | ReadExamples("rows-*.tfrecord") | RunTFScript("score.py", "score float", input_schema="x float")

    Args:
      file_pattern: a path, URI or pattern, on any of Beam's file systems.
      compression_type: one of Beam's `CompressionTypes`, such as `CompressionTypes.GZIP`, or `CompressionTypes.DEFLATE`
        for files that TensorFlow compressed by `"ZLIB"`; `AUTO` tells it by the file's suffix.
      min_bundle_size: smallest size in bytes of a range of a file that is read by itself.
      splittable: False to read each file as a whole. Needed only for files whose single records hold TFRecord files of
        more than 4 MiB.
      validate: False if the files need not exist while the pipeline is built.

    Raises:
      ArgumentError: no file matches; while the pipeline is built.
      RowError: a file cannot be read, or is damaged; it names the file and the position.
    """

    def __init__(
        self,
        file_pattern: str,
        *,
        compression_type: str = CompressionTypes.AUTO,
        min_bundle_size: int = 0,
        splittable: bool = True,
        validate: bool = True,
    ):
        super().__init__()
        if validate:
            first_file(file_pattern)
        self._source = ExampleSource(in_directory(file_pattern), compression_type, min_bundle_size, splittable)

    def expand(self, pipeline):
        """Read all ranges of all files."""
        chunks = pipeline | "Read" >> beam.io.Read(self._source)
        chunks.element_type = ExampleChunk
        return chunks


class WriteExamples(beam.PTransform):
    """Write chunks of Examples to TFRecord files.

    An element is an `ExampleChunk`, as `RunTFScript(output_as="examples")` gives them, or one serialized Example.
    Files have temporary names until all of them are complete, so a repeated bundle leaves no second file.

    Args:
      file_path_prefix: prefix of the files' names, such as `"out/scores"`; it may be on any of Beam's file systems.
      file_name_suffix: suffix of the files' names. With `".tfrecord.gz"` they are compressed.
      num_shards: number of files; 0 for one per bundle.
      shard_name_template: template of the part between prefix and suffix, as of `beam.io.WriteToTFRecord`.
      compression_type: one of Beam's `CompressionTypes`; `AUTO` for that of the suffix.
      triggering_frequency: on unbounded input, seconds after which files are written, in place of the input's windows.

    Raises:
      OutputError: an element is not a chunk or a serialized Example.
    """

    def __init__(
        self,
        file_path_prefix: str,
        *,
        file_name_suffix: str = ".tfrecord",
        num_shards: int = 0,
        shard_name_template: str | None = None,
        compression_type: str = CompressionTypes.AUTO,
        triggering_frequency: int | None = None,
    ):
        super().__init__()
        self._sink = ExampleSink(
            file_path_prefix,
            file_name_suffix,
            num_shards=num_shards,
            shard_name_template=shard_name_template,
            compression_type=compression_type,
            triggering_frequency=triggering_frequency,
        )

    def expand(self, chunks):
        """Write the chunks; return the names of the files."""
        return chunks | "Write" >> beam.io.Write(self._sink.for_input(chunks.is_bounded))
