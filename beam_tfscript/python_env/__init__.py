"""Python environments of scripts: found, unpacked or installed."""
