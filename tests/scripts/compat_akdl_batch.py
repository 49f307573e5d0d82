"""Script that trains as compat_akdl_train.py does, and writes the model as rows: the style of the batch components."""

import os

import compat_akdl_train
from akdl.runner import io_helper
from akdl.runner.config import BatchTaskConfig, TrainTaskConfig


def main(task_config: BatchTaskConfig):
    assert isinstance(task_config, BatchTaskConfig)
    cluster, task_type, task_index = task_config.tf_context.export_estimator_cluster()
    assert (cluster, task_type, task_index) == (task_config.cluster, "chief", 0)

    saved_model_dir = os.path.join(task_config.work_dir, "saved_model_dir")
    train_config = TrainTaskConfig(saved_model_dir=saved_model_dir, **task_config.__dict__)
    compat_akdl_train.main(train_config)

    if task_config.tf_context.get_role_name() == "worker" and task_config.tf_context.get_index() == 0:
        io_helper.output_model_to_flink(saved_model_dir, task_config.output_writer)
