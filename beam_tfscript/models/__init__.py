"""SavedModels: versions in a directory, and models as rows.

model_store.py     publishes versions; remote_store.py: on Beam's file systems; version_names.py: names in both
model_rows.py      a model as rows of text, and back
trained_model.py   the row about a published model
"""
