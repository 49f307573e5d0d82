"""Files of the script: looked up by path or URI, fetched, unpacked, staged, cached."""
