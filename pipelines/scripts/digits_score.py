"""Script that learns handwritten digits from the rows marked for training, and reads the other rows.

Rows in: id, label, training (boolean), image (8 x 8 pixels, from 0, paper, to 16, ink).
Rows out, one for each row that is not for training: id, label, predicted, confidence.
"""

import random

import numpy as np
import tensorflow as tf

FULL_INK = 16.0


def main(config):
    """Train on the rows for training, and write a prediction for each other row."""
    set_seeds(config.user_params["seed"])
    rows = read_rows(config)
    images = rows["image"][..., np.newaxis] / FULL_INK
    training = rows["training"]

    model = build_model()
    model.fit(images[training], rows["label"][training], batch_size=32, epochs=config.user_params["epochs"], verbose=2)

    unseen = ~training
    probabilities = model.predict(images[unseen], verbose=0)
    config.write_batch(
        id=rows["id"][unseen],
        label=rows["label"][unseen],
        predicted=probabilities.argmax(axis=1),
        confidence=probabilities.max(axis=1),
    )


def set_seeds(seed):
    """Set all seeds, as `tf.keras.utils.set_random_seed` does, which TensorFlow has since 2.7."""
    random.seed(seed)
    np.random.seed(seed)
    tf.compat.v1.set_random_seed(seed)


def read_rows(config):
    """Return all rows as one array per column, sorted by id, since a PCollection has no order."""
    batches = list(config.batches(1024))
    rows = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    order = np.argsort(rows["id"])
    return {name: column[order] for name, column in rows.items()}


def build_model():
    """Return a small convolutional network: 8 x 8 image in, a probability for each digit out."""
    layers = tf.keras.layers
    model = tf.keras.Sequential(
        [
            tf.keras.Input(shape=(8, 8, 1)),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model
