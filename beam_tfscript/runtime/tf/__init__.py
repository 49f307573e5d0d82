"""TensorFlow in the script process.

Files:

    tf_versions   operations whose names differ between TensorFlow 1.15 and the newest
    tf_state      TensorFlow's state, reset between runs
    saved_model   SavedModels: finds, describes and loads them
"""
