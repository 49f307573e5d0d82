"""Ready-made pipelines, each with its script in `scripts/` and its data, if any, in `data/`.

    digits          `python -m pipelines.digits --output DIR`: learns and scores handwritten digits
    digits_model    `python -m pipelines.digits_model --output DIR`: trains a model, publishes it, and scores with it
    digits_report   tables and pictures of their results
    run_script      `python -m pipelines.run_script --help`: any script over files, and the Dataflow flex template
    stream_drift    `python -m pipelines.stream_drift --input FOLDER --output DIR`: learns digits as they arrive, and
                    reports when they change
    stream_folder   its source: files that keep arriving in a folder
    stream_feed     `python -m pipelines.stream_feed FOLDER`: writes such files, for a demonstration

A pipeline's modules run in the interpreter that builds the pipeline. A script runs in its own interpreter, and is
never imported from here.
"""
