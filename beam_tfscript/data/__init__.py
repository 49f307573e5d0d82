"""Rows, schemas and Examples: everything about the form of a record, and nothing about Beam.

What comes in: rows as Python values, Arrow batches or Example bytes, and a schema. What goes out: the same
records in another of these forms, or an error that says which row and column does not fit.

    schema.py         Column, Schema: names and types          schema_text.py      the grammar
    kinds.py          the element types and their Examples     schema_arrow.py     to and from Arrow
                                                               schema_features.py  to and from TensorFlow's own
    rows.py           rows <-> Arrow                           to_arrow.py, from_arrow.py: one column of them
    examples.py       Arrow <-> Example bytes                  features.py: one column of them
    tfrecord.py       Example bytes <-> TFRecord framing       faults.py: finds the row that does not fit
"""
