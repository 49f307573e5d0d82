"""Script that scores with `score_saved_model`, and publishes a newer version of the model before the second batch."""

import os

import saved_models
import score_saved_model


def main(config):
    models = dict(config.user_params)
    publish = models.pop("publish")
    read = score_saved_model.read_batches

    def read_and_publish(*arguments):
        for number, batch in enumerate(read(*arguments)):
            if number == 1:
                make_version(models["model_dir"], publish)
            yield batch

    score_saved_model.read_batches = read_and_publish
    config.user_params = models
    score_saved_model.main(config)


def make_version(model_dir, publish):
    path = os.path.join(model_dir, "2")
    if publish == "a good one":
        saved_models.save_half_plus_two(path + ".part", 10.0)
        os.rename(path + ".part", path)
    elif publish == "a damaged one":
        os.mkdir(path)
        with open(os.path.join(path, "saved_model.pb"), "wb") as file:
            file.write(b"\xff\xff")
    else:
        os.mkdir(path)
