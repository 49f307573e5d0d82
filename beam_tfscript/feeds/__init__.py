"""Feeds: what drives a run. Send rows; receive outputs, acknowledgements and the end; retry."""
