"""Python environments of scripts.

python_env.py     the transform's arguments as one value
environment.py    finds, unpacks or builds the environment on a worker
building.py       runs uv; manifest.py: the files of an environment, to detect damage
interpreters.py   finds interpreters and starts them to check them
"""
