"""Script that reads its rows once by `config.batches()`, for feed="bundles", and reports its memory."""

from read import AFTER_IMPORT_MIB, read_memory_mib

# Batches per output row: one row per batch would be as many rows as MiB.
BATCHES_PER_ROW = 256


def main(config):
    """Count the rows, batch by batch; the output row with the most rows is the last."""
    rows = 0
    for number, batch in enumerate(config.batches(config.user_params["batch_size"]), 1):
        rows += len(batch["x"])
        if number % BATCHES_PER_ROW == 0:
            config.write(rows=rows, after_import_mib=AFTER_IMPORT_MIB, peak_mib=read_memory_mib("VmHWM"))
