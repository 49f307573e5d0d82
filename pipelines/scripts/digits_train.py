"""Learns to read handwritten digits and exports what it has learned.

Rows in: label, image (8 x 8 pixels, from 0, paper, to 16, ink). Out: a SavedModel that takes `image` and gives
`predicted` and `confidence`; and, reported after each epoch, loss and accuracy on the rows and on those held back.
"""

import random

import numpy as np
import tensorflow as tf

FULL_INK = 16.0
HELD_BACK_EVERY = 10


def main(config):
    """Trains on nine rows of ten, watches the tenth, and exports the model."""
    set_seeds(config.user_params["seed"])
    images, labels = read_rows(config)
    watched = np.arange(len(labels)) % HELD_BACK_EVERY == 0

    model = build_model()
    for epoch in range(1, config.user_params["epochs"] + 1):
        model.fit(images[~watched], labels[~watched], batch_size=32, epochs=1, verbose=0)
        loss, accuracy = model.evaluate(images[~watched], labels[~watched], verbose=0)
        watched_loss, watched_accuracy = model.evaluate(images[watched], labels[watched], verbose=0)
        config.report(
            epoch=epoch, loss=loss, accuracy=accuracy, watched_loss=watched_loss, watched_accuracy=watched_accuracy
        )
    export(model, config.saved_model_dir)


def set_seeds(seed):
    """What `tf.keras.utils.set_random_seed` does, which TensorFlow has from 2.7 on."""
    random.seed(seed)
    np.random.seed(seed)
    tf.compat.v1.set_random_seed(seed)


def read_rows(config):
    """All images and labels, in an order of their own, since a PCollection has none."""
    batches = list(config.batches(1024))
    images = np.concatenate([batch["image"] for batch in batches])
    labels = np.concatenate([batch["label"] for batch in batches])
    order = np.lexsort(images.reshape(len(images), -1).T)
    order = order[np.random.permutation(len(order))]
    return images[order, ..., np.newaxis] / FULL_INK, labels[order]


def build_model():
    """A small convolutional network: 8 x 8 image in, a probability for each digit out."""
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


def export(model, directory):
    """A SavedModel that takes images as the rows have them, so that who scores needs to know nothing more."""
    module = tf.Module()
    # Newer Keras keeps TensorFlow's variables inside its own, where saving does not look.
    module.weights = [weight if isinstance(weight, tf.Variable) else weight.value for weight in model.weights]

    @tf.function(input_signature=[tf.TensorSpec([None, 8, 8], tf.float32, name="image")])
    def read(image):
        probabilities = model(image[..., tf.newaxis] / FULL_INK, training=False)
        return {"predicted": tf.argmax(probabilities, axis=1), "confidence": tf.reduce_max(probabilities, axis=1)}

    module.read = read
    tf.saved_model.save(module, directory, signatures={"serving_default": read})
