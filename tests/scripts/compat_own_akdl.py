"""Script that writes the owner of its `akdl`, and its `user_params`."""

import sys

import akdl


def main(config):
    room = [name for name in sys.modules if name.startswith("beam_tfscript.runtime.compat.")]
    config.write(whose=getattr(akdl, "WHOSE", "the runtime's"), loaded=len(room), params=repr(config.user_params))
