"""Package that hides TensorFlow from script processes: they start in a tenth of a second without it."""

raise ImportError("not here")
