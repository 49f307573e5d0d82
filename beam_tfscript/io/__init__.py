"""Sources and sinks of files whose elements are batches: chunks of Examples, or Arrow record batches.

example_files.py    ReadExamples, WriteExamples: TFRecord files; example_source.py, its parts of files
arrow_files.py      ReadCsv, ReadJsonLines, WriteCsv, WriteJsonLines, WriteParquet
arrow_readers.py    an open file -> record batches
batch_sinks.py      Beam's sinks for batches: an element is many rows of a file
chunk_coder.py      Beam's coder of chunks
found_files.py      files of Beam's file systems: found by a pattern, opened, with errors that name them
"""
