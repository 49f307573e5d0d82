"""Versions of SavedModels: local, remote, and as rows."""
