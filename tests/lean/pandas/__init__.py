"""Package that hides pandas from script processes: Keras imports it if it is there, and does without."""

raise ImportError("not here")
