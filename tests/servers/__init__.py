"""Real servers that files are fetched from in tests, each on a free port of this machine."""
