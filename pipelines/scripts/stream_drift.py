"""Script that reads digits as they arrive, learns them when their window is over, and reports on both.

Rows in: label, image (8 x 8 pixels, from 0, paper, to 16, ink). Rows out, one per window:
start, seconds: start and length of the window;   rows: number of its digits
accuracy, loss: of the readings, each made before the digit was learned
psi, feature: distance of the digits from those of earlier windows, and the feature that differs most; null at first
drifted: true if the distance is too large
learned: number of digits learned so far, in all windows

A run is one window. The model outlives a run in a file in the directory `model_dir`. Windows overlap, as the first row
of one may come before the last row of the one before, but they end one after another. Where the pipeline lags behind,
that may be in any order. So a run reads with the newest model, and learns when its rows are complete. No window's
learning is lost.
"""

import io
import os

import numpy as np
import tensorflow as tf

FULL_INK = 16.0
BATCH = 32
EPOCHS = 4
LEARNING_RATE = 0.5

# Population stability index: the sum of (p - q) ln(p / q) over some bins. By convention, up to 0.1 is the same
# population, and 0.25 and more is another one.
PSI_LIMIT = 0.25
# For n and m digits of the same population, PSI / (1 / n + 1 / m) is chi-squared, with one degree of freedom less than
# bins. In one window of a hundred, one of the 16 features exceeds this limit by chance.
PSI_OF_CHANCE = 20.0
BIN_EDGES = np.array([0.1, 0.25, 0.4, 0.6])
FEATURES = [f"ink in row {i + 1}" for i in range(8)] + [f"ink in column {i + 1}" for i in range(8)]
WINDOWS_KEPT = 5


def main(config):
    """Read until the window is over, then learn and report."""
    path = os.path.join(config.user_params["model_dir"], f"shard-{config.shard}.npz")
    memory = Memory(path)
    model = build_model()
    images, labels, right, losses = [], [], 0, 0.0
    for batch in config.batches(BATCH):
        if memory.refresh():
            memory.load_into(model)
        image = batch["image"] / FULL_INK
        logits = read(model, image)
        right += int(np.sum(np.argmax(logits, axis=1) == batch["label"]))
        losses += float(tf.reduce_sum(loss_of(batch["label"], logits)))
        images.append(image)
        labels.append(batch["label"])

    images, labels = np.concatenate(images), np.concatenate(labels)
    memory.refresh()
    memory.load_into(model)
    psi, feature, drifted = memory.compare(config.window.start, images)
    memory.remember(config.window.start, images, forget_others=drifted)
    learn(model, images, labels)
    memory.save(model)
    config.write(
        start=config.window.start,
        seconds=config.window.end - config.window.start,
        rows=len(labels),
        accuracy=right / len(labels),
        loss=losses / len(labels),
        psi=psi,
        feature=feature,
        drifted=drifted,
        learned=memory.learned,
    )


def build_model():
    """Return the smallest model that reads digits; replace it by your own."""
    return tf.keras.Sequential([tf.keras.Input(shape=(8, 8)), tf.keras.layers.Flatten(), tf.keras.layers.Dense(10)])


def read(model, images):
    """Return the logits of some images; centred images are learned several times faster."""
    return model(images - 0.5)


def loss_of(labels, logits):
    """Return the cross-entropy of each digit."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


def learn(model, images, labels):
    """Learn by some passes of plain gradient descent, whose only state is the weights."""
    for _ in range(EPOCHS):
        for start in range(0, len(labels), BATCH):
            with tf.GradientTape() as tape:
                logits = read(model, images[start : start + BATCH])
                loss = tf.reduce_mean(loss_of(labels[start : start + BATCH], logits))
            for variable, gradient in zip(model.trainable_variables, tape.gradient(loss, model.trainable_variables)):
                variable.assign_sub(LEARNING_RATE * gradient)


class Memory:
    """State that outlives a window: the weights, and the distributions of the last windows' features.

    Args:
      path: path of the state's file, on any file system that TensorFlow writes.
    """

    def __init__(self, path):
        self.learned = 0
        self._path = path
        self._version = None
        self._weights = None
        self._counts = {}  # start of a window -> array [features, bins] of numbers of digits

    def refresh(self):
        """Read the file if it has changed; return True then."""
        if not tf.io.gfile.exists(self._path):
            return False
        version = tf.io.gfile.stat(self._path).mtime_nsec
        if version == self._version:
            return False
        with tf.io.gfile.GFile(self._path, "rb") as file:
            saved = np.load(io.BytesIO(file.read()))
        self._version = version
        self.learned = int(saved["learned"])
        self._weights = [saved[f"weights_{i}"] for i in range(int(saved["num_weights"]))]
        self._counts = dict(zip(saved["starts"].tolist(), saved["counts"]))
        return True

    def load_into(self, model):
        """Give the model the weights; the first model keeps its own."""
        if self._weights is not None:
            model.set_weights(self._weights)

    def compare(self, start, images):
        """Compare the images with earlier windows: return (largest PSI, name of its feature, True for drift)."""
        before = [counts for other, counts in self._counts.items() if other < start]
        if not before:
            return None, None, False
        earlier = np.sum(before, axis=0)
        psi = psi_of(count(images), earlier)
        worst = int(np.argmax(psi))
        chance = PSI_OF_CHANCE * (1 / len(images) + 1 / earlier[0].sum())
        return float(psi[worst]), FEATURES[worst], bool(psi[worst] > max(PSI_LIMIT, chance))

    def remember(self, start, images, forget_others):
        """Add a window, or its late rows, to the windows that later ones are compared with."""
        if forget_others:
            self._counts = {other: counts for other, counts in self._counts.items() if other >= start}
        self._counts[start] = self._counts.get(start, 0) + count(images)
        for old in sorted(self._counts)[:-WINDOWS_KEPT]:
            del self._counts[old]
        self.learned += len(images)

    def save(self, model):
        """Write the file atomically."""
        weights = model.get_weights()
        content = io.BytesIO()
        np.savez(
            content,
            learned=self.learned,
            num_weights=len(weights),
            starts=np.array(list(self._counts)),
            counts=np.array(list(self._counts.values())),
            **{f"weights_{i}": weight for i, weight in enumerate(weights)},
        )
        tf.io.gfile.makedirs(os.path.dirname(self._path))
        with tf.io.gfile.GFile(self._path + ".part", "wb") as file:
            file.write(content.getvalue())
        tf.io.gfile.rename(self._path + ".part", self._path, overwrite=True)


def count(images):
    """Count images by bin: an array [features, bins]; a feature is the share of ink in a row or column."""
    ink = np.concatenate([images.mean(axis=2), images.mean(axis=1)], axis=1)
    bins = np.digitize(ink, BIN_EDGES)
    return np.stack([np.bincount(column, minlength=len(BIN_EDGES) + 1) for column in bins.T])


def psi_of(counts, earlier):
    """Return the population stability index of each feature; half an image added to each bin keeps it finite."""
    p, q = (
        (each + 0.5) / (each + 0.5).sum(axis=1, keepdims=True) for each in (np.asarray(counts), np.asarray(earlier))
    )
    return ((p - q) * np.log(p / q)).sum(axis=1)
