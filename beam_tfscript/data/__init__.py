"""Rows, schemas and Examples: everything about the form of a record, and nothing about Beam.

Input: rows as Python values, Arrow batches or Example bytes, and a schema. Output: the same records in another of
these forms, or an error that names the row and the column that do not fit.

    schema.py     Schema; column.py: one column; kinds.py: the element types; schema_text.py: the grammar of texts;
                  schema_literals.py: default values; schema_features.py: TensorFlow's own descriptions of Examples
    rows.py       rows <-> Arrow; for one column: to_arrow.py, scalars_to_arrow.py, times_to_arrow.py, from_arrow.py
    align.py      Arrow data of related types -> Arrow of the schema's types (arrow_types.py, arrow_fields.py)
    examples.py   Arrow <-> Examples; for one column: features.py, packed.py
    encoding.py   input elements of any form -> Examples
    chunks.py     Examples -> chunks by shard; checksum.py: a checksum of Examples
    tfrecord.py   Examples <-> TFRecord; tfrecord_blocks.py, tfrecord_search.py: the frames of a file, from any byte on
    example_chunk.py       many Examples as one element of a pipeline
    plain_arrow.py         Arrow of the schema's types -> Arrow with 32-bit offsets
    conversion_errors.py   ConversionError, and the search for the items that cause it; near_names.py: ends of messages
"""
