"""Rows, schemas and Examples: everything about the form of a record, and nothing about Beam.

What comes in: rows as Python values, Arrow batches or Example bytes, and a schema. What goes out: the same records in
another of these forms, or an error that says which row and column does not fit.

    schema.py     Column, Schema           schema_text.py      the grammar; schema_literals.py: its default values
    kinds.py      the element types        schema_arrow.py     to and from Arrow's types
                                           schema_features.py  to and from TensorFlow's own descriptions
    rows.py       rows <-> Arrow           to_arrow.py, scalars_to_arrow.py, times_to_arrow.py, from_arrow.py: a column
    align.py      Arrow data as it comes -> Arrow of the schema's types
    examples.py   Arrow <-> Examples       features.py: a column
    encoding.py   input elements of any form -> Examples
    tfrecord.py   Examples <-> TFRecord    faults.py: finds what does not fit
"""
