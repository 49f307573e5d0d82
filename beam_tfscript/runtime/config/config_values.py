"""Values of a run's config: its window, its schemas, and its feature spec."""

from collections import namedtuple

Window = namedtuple("Window", ["start", "end"])
Window.__doc__ = "Event-time window: `start` (inclusive) and `end` (exclusive), floats in seconds since 1970-01-01 UTC."


class Schema(tuple):
    """Columns of the input or the output, in order: a tuple of `Column`; `str()` gives the schema's text."""

    @property
    def names(self):
        """List of the column names, in order."""
        return [column.name for column in self]

    def __str__(self):
        return ", ".join("{} {}".format(column.name, column.type) for column in self)

    __repr__ = __str__


class FeatureSpec(dict):
    """Dict, feature name -> `FixedLenFeature` or `VarLenFeature`, for `tf.io.parse_example`.

    A call returns the spec without some columns: `config.feature_spec(exclude=["label"])`.
    https://www.tensorflow.org/api_docs/python/tf/io/parse_example
    """

    def __init__(self, columns, exclude=()):
        from beam_tfscript.runtime.reading import reader

        super(FeatureSpec, self).__init__(reader.feature_spec(columns, exclude=exclude))
        self._columns = columns

    def __call__(self, exclude=()):
        return FeatureSpec(self._columns, exclude)
