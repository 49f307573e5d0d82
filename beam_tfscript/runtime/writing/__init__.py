"""Rows from the script: numpy arrays and Python values in, serialized Examples out."""
