"""Package that hides matplotlib from script processes: Keras imports it if it is there, and does without."""

raise ImportError("not here")
