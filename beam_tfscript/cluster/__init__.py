"""Clusters: several script processes that are one TensorFlow program.

    counts      how many workers, parameter servers and evaluators
    tf_config   which tasks that makes, and what each of them is told
    ports       where they listen, on one machine

No file in this room knows of Beam.
"""
