"""Copies its rows, and leaves a file for each run that has done all of them."""

import os
import uuid


def main(config):
    for batch in config.batches(4096):
        config.write_batch(id=batch["id"], x=batch["x"])
    open(os.path.join(config.user_params["marks"], "{}-{}".format(config.shard, uuid.uuid4().hex)), "w").close()
