"""Likely mistakes of runs that end well: rows went in, and none came out.

In come a run's config and the way that `main` ended. Out goes a text for the log, or None.
"""

# Values that scripts return as an exit status.
_STATUS = (type(None), bool, int)


def find_likely_mistake(config, returned, has_exited):
    """Find the likely mistake of a run that ended well.

    A filter may rightly write no rows. So a run that has read its rows and written none gets a remark, and is not
    called a mistake.

    Args:
      config: the run's config; its writer is closed.
      returned: value that `main` returned.
      has_exited: True if `main` ended by sys.exit().

    Returns:
      {"text": …, "is_doubt": …}, or None without a finding; `is_doubt` is False for a remark.
    """
    if config.feed is not None and config.feed.asked_again:
        return _mistake(
            "a loop over the rows began after the feed had ended, and got none. In this feed rows come once: read them "
            'in one loop. feed="dataset" has rows that can be read many times'
        )
    rows = config.rows_in
    if config.output_writer.count or not rows or config.output_schema is None:
        return None
    finding = "{} rows in, 0 written".format(rows)
    is_alone = sum(map(len, config.cluster.values())) == 1
    if config.task_type == "chief" and not isinstance(returned, _STATUS):
        return _mistake(
            "{}; main returned {}, which is ignored: write rows with config.write() or config.write_batch()".format(
                finding, _type_with_article(returned)
            )
        )
    if not is_alone:
        return None  # any task of a cluster may read and write its rows
    if not config.has_read:
        end = "main called sys.exit()" if has_exited else "main returned"
        return _mistake("{}; {} and had read no rows".format(finding, end))
    return {"text": finding, "is_doubt": False}


def _mistake(text):
    return {"text": text, "is_doubt": True}


def _type_with_article(value):
    name = type(value).__name__
    return "{} {}".format("an" if name[0] in "aeiouAEIOU" else "a", name)
