"""Frames between the pipeline's process and the script process, and what both ends share."""
