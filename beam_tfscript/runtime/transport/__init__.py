"""Transport between the pipeline's process and the script process; both ends use this room.

Bytes of a socket in, frames out, and back. The scratch directory and the form of log lines are here too, since both
processes must agree on them.
"""
