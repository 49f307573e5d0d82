"""Arguments as frozen values, checked while the pipeline is built."""
