"""`config`, the argument of the script's entry function.

Files:

    task_config      attributes and methods of each run
    dataset_config   feed="dataset"
    feed_config      feed="bundles" and feed="stream"
    train_config     trainings
    config_values    windows, schemas and feature specs
    current          get_config()
    tf_context       the run's task in its TensorFlow cluster
    cluster_server   TensorFlow's server of a task
    flink_tables     readers and writers for scripts of Deep Learning on Flink
"""
