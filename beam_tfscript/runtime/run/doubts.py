"""Mistakes that a run may end well with: rows went in, and none came out.

In come a run's config and how `main` ended. Out goes a doubt in words, for the log, or None.
"""

# What some scripts return as an exit status, of a process that is not theirs.
_STATUS = (type(None), bool, int)


def find_doubt(config, returned, has_exited):
    """Find what a script has probably done by mistake.

    A run that has read its rows and written none may be right: a filter is. So that is told, and is no doubt.

    Args:
      config: the run's config; its writer is closed.
      returned: what `main` returned.
      has_exited: whether `main` ended by sys.exit().

    Returns:
      {"text": …, "is_doubt": …}, or None where there is nothing to say.
    """
    if config.feed is not None and config.feed.asked_again:
        return _doubt(
            "a loop over the rows began after the feed had ended, and got none. In this feed rows come once: read them "
            'in one loop. feed="dataset" has rows that can be read many times'
        )
    rows = config.rows_in
    if config.output_writer.count or not rows or config.output_schema is None:
        return None
    found = "{} rows in, 0 written".format(rows)
    is_alone = sum(map(len, config.cluster.values())) == 1
    if config.task_type == "chief" and not isinstance(returned, _STATUS):
        return _doubt(
            "{}; main returned {}, which goes nowhere: write rows with config.write() or config.write_batch()".format(
                found, _name_type(returned)
            )
        )
    if not is_alone:
        return None  # the rows of a cluster may be read and written by any of its tasks
    if not config.has_read:
        how = "main called sys.exit()" if has_exited else "main returned"
        return _doubt("{}; {} and had read no rows".format(found, how))
    return {"text": found, "is_doubt": False}


def _doubt(text):
    return {"text": text, "is_doubt": True}


def _name_type(value):
    name = type(value).__name__
    return "{} {}".format("an" if name[0] in "aeiouAEIOU" else "a", name)
