"""Environment variables by which the pipeline's process tells something to the script's runtime."""

# Ids of the accelerators that are leased for the process, as in CUDA_VISIBLE_DEVICES; not set without a lease.
LEASED_DEVICES = "BEAM_TFSCRIPT_LEASED_DEVICES"
