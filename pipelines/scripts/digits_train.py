"""Script that learns handwritten digits, and exports its model.

Rows in: label, image (8 x 8 pixels, from 0, paper, to 16, ink). Out: a SavedModel, `image` in, `predicted` and
`confidence` out. After each epoch it reports loss and accuracy, on the rows for training and on those held back.
"""

import random

import numpy as np
import tensorflow as tf

FULL_INK = 16.0
HELD_BACK_EVERY = 10


def main(config):
    """Train on nine rows of ten, evaluate on the tenth, and export the model."""
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
    """Set all seeds, as `tf.keras.utils.set_random_seed` does, which TensorFlow has since 2.7."""
    random.seed(seed)
    np.random.seed(seed)
    tf.compat.v1.set_random_seed(seed)


def read_rows(config):
    """Return all images and labels, in an order that depends on the images only, as a PCollection has no order."""
    batches = list(config.batches(1024))
    images = np.concatenate([batch["image"] for batch in batches])
    labels = np.concatenate([batch["label"] for batch in batches])
    order = np.lexsort(images.reshape(len(images), -1).T)
    order = order[np.random.permutation(len(order))]
    return images[order, ..., np.newaxis] / FULL_INK, labels[order]


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


def export(model, directory):
    """Export a SavedModel that takes images as the rows have them, so that a scoring script needs no scaling."""
    module = tf.Module()
    # Keras 3 wraps TensorFlow's variables in its own, where tf.saved_model.save does not find them.
    module.weights = [weight if isinstance(weight, tf.Variable) else weight.value for weight in model.weights]

    @tf.function(input_signature=[tf.TensorSpec([None, 8, 8], tf.float32, name="image")])
    def read(image):
        probabilities = model(image[..., tf.newaxis] / FULL_INK, training=False)
        return {"predicted": tf.argmax(probabilities, axis=1), "confidence": tf.reduce_max(probabilities, axis=1)}

    module.read = read
    tf.saved_model.save(module, directory, signatures={"serving_default": read})
