"""Writes large rows that tell which run has written them."""

import os
import uuid


def main(config):
    run = uuid.uuid4().hex
    for number in range(config.user_params["rows"]):
        config.write(number=number, run=run, ballast=os.urandom(config.user_params["bytes"]))
