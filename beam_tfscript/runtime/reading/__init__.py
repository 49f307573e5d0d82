"""Rows for the script: serialized Examples in, tensors or numpy arrays by column out.

Files:

    feed            rows of a run that come by the channel
    reader          Datasets, and batches of numpy arrays
    record_parser   numpy arrays of records that are in memory
    parsing         TensorFlow operations that make tensors of Examples
    unpacking       numpy arrays of the tensors that TensorFlow has parsed
"""
