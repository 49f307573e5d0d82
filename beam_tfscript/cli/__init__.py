"""Command line `beam-tfscript`: arguments in, text for a person out."""
