"""Reads its rows once through `config.batches()`, for the feed `bundles`, and says how much memory that took."""

from read import AFTER_IMPORT_MIB, read_memory_mib

# A row a batch would be as many rows as there are mebibytes.
BATCHES_A_ROW = 256


def main(config):
    """Counts the rows, batch by batch; whoever looks for the most rows finds the last count."""
    rows = 0
    for number, batch in enumerate(config.batches(config.user_params["batch_size"]), 1):
        rows += len(batch["x"])
        if number % BATCHES_A_ROW == 0:
            config.write(rows=rows, after_import_mib=AFTER_IMPORT_MIB, peak_mib=read_memory_mib("VmHWM"))
