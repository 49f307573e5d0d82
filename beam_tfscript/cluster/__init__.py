"""Clusters: several script processes that are one TensorFlow program.

    counts.py      numbers of workers, parameter servers and evaluators
    tf_config.py   the tasks of a cluster, and the `TF_CONFIG` of each
    ports.py       the tasks' ports, on one machine

No file in this room imports Beam.
"""
