"""`python -m beam_tfscript` is the command `beam-tfscript`."""

import sys

from beam_tfscript.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
