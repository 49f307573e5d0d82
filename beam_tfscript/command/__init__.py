"""The command line `beam-tfscript`, behind `cli.py`: what is typed, to what a person reads.

arguments    flags -> the arguments of the transforms
formats      files of rows -> Arrow batches or Examples, and which format a file is in
sample       the first rows of a file, and a guess at its columns
dry_run      a script on some rows by hand: the transform's own DoFns, without a pipeline
check        `beam-tfscript check`: a sample, a dry run, and what came of it
whole_files  `beam-tfscript run`: files through Beam
unknown_flags  refuses flags that neither a command nor Beam knows
progress     the line that says how that goes
show         tables and figures
advice       what to do about an error
"""
