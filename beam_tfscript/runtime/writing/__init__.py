"""Outputs of a run: numpy arrays and Python values in, serialized `tf.train.Example`s and metrics in frames out.

Files:

    writer          gathers Examples, and sends them
    encode          rows or columns as Examples
    column_values   checks a column, and flattens it
    flat_values     checks many values at once
    single_values   checks one value; decides which values fit, and words the errors
    features        bytes of a feature in an Example
    metrics         counters and distributions
"""
