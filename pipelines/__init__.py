"""Ready-made pipelines, each with its script in `scripts/` and its data, if any, in `data/`.

    digits          `python -m pipelines.digits --output DIR`: learns and scores handwritten digits
    digits_report   what is said and drawn of its predictions
    stream_drift    `python -m pipelines.stream_drift --input FOLDER --output DIR`: learns digits as they arrive, and
                    tells when they change
    stream_folder   its source: files that keep arriving in a folder
    stream_feed     `python -m pipelines.stream_feed FOLDER`: drops such files, to see it work

A pipeline's modules are for the interpreter that builds it; a script runs in an interpreter of its
own and is never imported from here.
"""
