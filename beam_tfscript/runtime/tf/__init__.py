"""TensorFlow in the script process: differences between versions, state between runs, SavedModels."""
