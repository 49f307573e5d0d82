"""Rows for the script: serialized Examples in, tensors and numpy arrays out."""
