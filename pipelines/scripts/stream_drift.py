"""Reads digits as they come, learns them when their window is over, and reports how both went.

Rows in: label, image (8 x 8 pixels, from 0, paper, to 16, ink). Rows out, one a window:
start, seconds: the window;   rows: how many digits it had
accuracy, loss: of what was read, each digit before it was learned
psi, feature: how far the digits are from those of the windows before, and in what most; null for the first window
drifted: whether that is too far
learned: how many digits have been learned in all

A run is one window: what outlives it is in a file in the directory `model_dir`. Windows overlap, as the first row of
one may come before the last of the one before, but they end one after the other: in the order of time, or in any order
where the pipeline is so far behind that several are over at once. So a run reads with the newest model that is there, and learns when its rows are complete: nothing that another window has learned is lost.
"""

import io
import os

import numpy as np
import tensorflow as tf

FULL_INK = 16.0
BATCH = 32
EPOCHS = 4
LEARNING_RATE = 0.5

# Population stability index: the sum of (p - q) ln(p / q) over some bins. By custom, up to 0.1 is the same
# population, and from 0.25 on another one.
PSI_LIMIT = 0.25
# Of n and m digits of the same population, PSI / (1 / n + 1 / m) is a chi-squared of one degree less than bins: that
# any of the 16 features is over this is seen in one window of a hundred.
PSI_OF_CHANCE = 20.0
BIN_EDGES = np.array([0.1, 0.25, 0.4, 0.6])
FEATURES = [f"ink in row {i + 1}" for i in range(8)] + [f"ink in column {i + 1}" for i in range(8)]
WINDOWS_KEPT = 5


def main(config):
    """Reads until the window is over, then learns and reports."""
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
    """The smallest model that reads digits; put your own here."""
    return tf.keras.Sequential([tf.keras.Input(shape=(8, 8)), tf.keras.layers.Flatten(), tf.keras.layers.Dense(10)])


def read(model, images):
    """The logits of some images; centred, they are learned several times faster."""
    return model(images - 0.5)


def loss_of(labels, logits):
    """Cross-entropy of each digit."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


def learn(model, images, labels):
    """Some passes of plain gradient descent, which keeps nothing that would have to be saved beside the weights."""
    for _ in range(EPOCHS):
        for start in range(0, len(labels), BATCH):
            with tf.GradientTape() as tape:
                logits = read(model, images[start : start + BATCH])
                loss = tf.reduce_mean(loss_of(labels[start : start + BATCH], logits))
            for variable, gradient in zip(model.trainable_variables, tape.gradient(loss, model.trainable_variables)):
                variable.assign_sub(LEARNING_RATE * gradient)


class Memory:
    """What outlives a window: the weights, and how the features of the last windows were distributed.

    Args:
      path: its file, on any file system that TensorFlow writes.
    """

    def __init__(self, path):
        self.learned = 0
        self._path = path
        self._version = None
        self._weights = None
        self._counts = {}  # start of a window -> how many digits are in each bin of each feature

    def refresh(self):
        """Reads the file if it is another one than before; returns whether it was."""
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
        """Gives the model the weights; a first model keeps its own."""
        if self._weights is not None:
            model.set_weights(self._weights)

    def compare(self, start, images):
        """How far the images are from those of the windows before: (PSI, name of the feature, whether it is drift)."""
        before = [counts for other, counts in self._counts.items() if other < start]
        if not before:
            return None, None, False
        others = np.sum(before, axis=0)
        psi = psi_of(count(images), others)
        worst = int(np.argmax(psi))
        chance = PSI_OF_CHANCE * (1 / len(images) + 1 / others[0].sum())
        return float(psi[worst]), FEATURES[worst], bool(psi[worst] > max(PSI_LIMIT, chance))

    def remember(self, start, images, forget_others):
        """Adds a window, or rows of it that came late, to what others are compared with."""
        if forget_others:
            self._counts = {other: counts for other, counts in self._counts.items() if other >= start}
        self._counts[start] = self._counts.get(start, 0) + count(images)
        for old in sorted(self._counts)[:-WINDOWS_KEPT]:
            del self._counts[old]
        self.learned += len(images)

    def save(self, model):
        """Writes the file, whole or not at all."""
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
    """How many images are in each bin of each feature, the share of ink in a row or column: (features, bins)."""
    ink = np.concatenate([images.mean(axis=2), images.mean(axis=1)], axis=1)
    bins = np.digitize(ink, BIN_EDGES)
    return np.stack([np.bincount(column, minlength=len(BIN_EDGES) + 1) for column in bins.T])


def psi_of(counts, others):
    """The population stability index of each feature; half an image in each bin keeps it finite."""
    p, q = ((each + 0.5) / (each + 0.5).sum(axis=1, keepdims=True) for each in (np.asarray(counts), np.asarray(others)))
    return ((p - q) * np.log(p / q)).sum(axis=1)
