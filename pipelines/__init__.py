"""Ready-made pipelines, each with its script in `scripts/` and its data, if any, in `data/`.

    digits          `python -m pipelines.digits --output DIR`: learns and scores handwritten digits
    digits_report   what is said and drawn of its predictions

A pipeline's modules are for the interpreter that builds it; a script runs in an interpreter of its
own and is never imported from here.
"""
