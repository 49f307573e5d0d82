"""Values that a run's config has: its window, and the columns of its rows."""

from collections import namedtuple

Window = namedtuple("Window", ["start", "end"])
Window.__doc__ = "An event-time window: start (inclusive) and end (exclusive), in seconds since 1970 UTC."


class Schema(tuple):
    """The columns of the input or the output, in order; `names` and `str()` say which."""

    @property
    def names(self):
        """The column names, in order."""
        return [column.name for column in self]

    def __str__(self):
        return ", ".join("{} {}".format(column.name, column.type) for column in self)

    __repr__ = __str__


class FeatureSpec(dict):
    """Feature name -> FixedLenFeature or VarLenFeature, as `tf.io.parse_example` takes it.

    Calling it gives the same without some columns: `config.feature_spec(exclude=["label"])`.
    """

    def __init__(self, columns, exclude=()):
        from beam_tfscript.runtime.reading import reader

        super(FeatureSpec, self).__init__(reader.feature_spec(columns, exclude=exclude))
        self._columns = columns

    def __call__(self, exclude=()):
        return FeatureSpec(self._columns, exclude)
