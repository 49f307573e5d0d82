"""Addresses of MaxCompute tables, and connections by pyodps with the credentials of this process's environment.

In comes a URI such as `odps://project/tables/name/pt=20240131`. Out come its parts, and a connected `odps.ODPS`. The
pipeline's side and scripts (`compat/table_readers.py`) use the same functions.
"""

import collections
import logging
import os

SCHEME = "odps://"
# Replacement of a secret in messages.
_MASK = "***"
# Shorter values are often parts of words.
_MIN_SECRET_CHARS = 4
# Pairs of variables for an access key, each with the variable for a temporary token; the first complete pair counts.
_KEY_VARIABLES = (
    ("ODPS_ACCESS_ID", "ODPS_ACCESS_KEY", None),
    ("ALIBABA_CLOUD_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_SECRET", "ALIBABA_CLOUD_SECURITY_TOKEN"),
)
# Further variables with secrets, which pyodps reads itself.
_SECRET_VARIABLES = ("ODPS_STS_ACCESS_KEY_ID", "ODPS_STS_ACCESS_KEY_SECRET", "ODPS_STS_TOKEN", "ODPS_BEARER_TOKEN")
_PYODPS_VARIABLES = ("ODPS_STS_TOKEN", "ODPS_STS_ACCOUNT_FILE", "ODPS_BEARER_TOKEN", "ODPS_BEARER_TOKEN_FILE")
# A file of `access_id=…`, `access_key=…` and `end_point=…`, one per line, as other readers of tables take it.
_CONFIG_FILE = "ODPS_CONFIG_FILE_PATH"
# Nothing here shows a job's page. Without an address, pyodps would ask the service for one at each connection.
_LOGVIEW = "http://logview.odps.aliyun.com"

_HOW = (
    "set ODPS_ENDPOINT, and ODPS_ACCESS_ID and ODPS_ACCESS_KEY (or ALIBABA_CLOUD_ACCESS_KEY_ID and "
    "ALIBABA_CLOUD_ACCESS_KEY_SECRET, with ALIBABA_CLOUD_SECURITY_TOKEN for a temporary key)"
)


class ConnectionSettingsMissing(Exception):
    """The environment names no endpoint or no credentials, or pyodps is not installed; the message has the remedy."""


class TableAddress(collections.namedtuple("TableAddress", "project schema table partition")):
    """Address of a table, or of a partition of it.

    Attributes:
      project: name of the project.
      schema: name of the schema, in projects that have schemas; else None.
      table: name of the table.
      partition: tuple of (column, value) pairs; empty for the whole table.
    """

    __slots__ = ()

    def __str__(self):
        schema = "" if self.schema is None else "schemas/{}/".format(self.schema)
        partition = "".join("/{}={}".format(*pair) for pair in self.partition)
        return "{}{}/{}tables/{}{}".format(SCHEME, self.project, schema, self.table, partition)


def parse_address(uri):
    """Return the address that a URI names.

    Args:
      uri: `odps://project/tables/name`, with `schemas/name/` after the project if it has schemas, and with the parts of
        a partition, such as `/pt=20240131/region=cn`.

    Raises:
      ValueError: the text is not such a URI.
    """
    text = str(uri)
    parts = text[len(SCHEME) :].rstrip("/").split("/") if text.startswith(SCHEME) else []
    project = parts[0] if parts else ""
    schema = None
    if parts[1:2] == ["schemas"]:
        schema, parts = (parts[2:3] or [""])[0], parts[:1] + parts[3:]
    if not project or schema == "" or parts[1:2] != ["tables"] or not "".join(parts[2:3]):
        raise ValueError(
            "{!r} is not the address of a table: write odps://project/tables/name, and the partition behind it, as in "
            "odps://project/tables/name/pt=20240131".format(text)
        )
    return TableAddress(project, schema, parts[2], parse_partition("/".join(parts[3:])))


def parse_partition(text):
    """Return the (column, value) pairs of a partition, such as `pt=20240131/region=cn` or `pt='20240131',region=cn`.

    Raises:
      ValueError: the text is not such a list.
    """
    pairs = []  # type: list
    for part in str(text).replace("/", ",").split(","):
        if not part.strip():
            continue
        name, equals, value = part.partition("=")
        name, value = name.strip(), value.strip().strip("'\"")
        if not equals or not name or not value or name in dict(pairs):
            raise ValueError(
                "{!r} is not a partition: write column=value for each partition column, as in pt=20240131 or "
                "pt=20240131/region=cn".format(str(text))
            )
        pairs.append((name, value))
    return tuple(pairs)


def connect(project=None):
    """Return an `odps.ODPS`, with endpoint and credentials of the environment.

    Args:
      project: name of the default project; None for that of ODPS_PROJECT_NAME.

    Raises:
      ConnectionSettingsMissing: pyodps is not installed, or the environment names no endpoint or no credentials.
    """
    try:
        import odps
        from odps import accounts
    except ImportError:
        raise ConnectionSettingsMissing(
            "MaxCompute tables need the package pyodps, which is not installed here: pip install "
            "'beam-tfscript[maxcompute]', here and on the workers, or pyodps in the script's environment."
        ) from None
    # Its lines at DEBUG have the signatures of requests.
    logging.getLogger("odps.accounts").setLevel(logging.INFO)
    settings = _config_file()
    endpoint = os.environ.get("ODPS_ENDPOINT") or settings.get("end_point") or settings.get("endpoint")
    if not endpoint:
        raise ConnectionSettingsMissing("the endpoint of MaxCompute is not known: {}.".format(_HOW))
    return odps.ODPS(
        account=_account(accounts, settings),
        project=project or os.environ.get("ODPS_PROJECT_NAME"),
        endpoint=endpoint,
        tunnel_endpoint=os.environ.get("ODPS_TUNNEL_ENDPOINT") or None,
        logview_host=os.environ.get("ODPS_LOGVIEW_HOST") or _LOGVIEW,
        # Other users of pyodps in this process keep their own account.
        overwrite_global=False,
    )


def has_credentials():
    """Return True if the environment names an endpoint and credentials; they may be wrong."""
    try:
        settings = _config_file()
    except ConnectionSettingsMissing:
        return True
    has_keys = any(os.environ.get(key) and os.environ.get(secret) for key, secret, _ in _KEY_VARIABLES)
    has_others = any(map(os.environ.get, _PYODPS_VARIABLES)) or bool(settings.get("access_key"))
    has_endpoint = bool(os.environ.get("ODPS_ENDPOINT") or settings.get("end_point") or settings.get("endpoint"))
    return has_endpoint and (has_keys or has_others)


def mask_credentials(text):
    """Return a text without the credentials of the environment."""
    names = [name for names in _KEY_VARIABLES for name in names if name] + list(_SECRET_VARIABLES)
    try:
        settings = _config_file()
    except ConnectionSettingsMissing:
        settings = {}
    values = [os.environ.get(name) for name in names] + [settings.get("access_id"), settings.get("access_key")]
    for value in sorted(filter(None, values), key=len, reverse=True):
        if len(value) >= _MIN_SECRET_CHARS:
            text = text.replace(value, _MASK)
    return text


def slice_of(count, slice_id, slice_count):
    """Return (first row, end) of a worker's slice: slices differ by at most one row.

    Raises:
      ValueError: there is no such slice.
    """
    if not 0 <= slice_id < slice_count:
        raise ValueError(
            "slice_id must be 0 to slice_count - 1, got slice_id={}, slice_count={}".format(slice_id, slice_count)
        )
    return count * slice_id // slice_count, count * (slice_id + 1) // slice_count


def _account(accounts, settings):
    """Return pyodps's account: an access key, a temporary key or a token."""
    for id_name, secret_name, token_name in _KEY_VARIABLES:
        access_id, secret = os.environ.get(id_name), os.environ.get(secret_name)
        if access_id and secret:
            token = os.environ.get(token_name) if token_name else None
            return _key_account(accounts, access_id, secret, token)
    if any(map(os.environ.get, _PYODPS_VARIABLES)):
        return accounts.from_environments()
    if settings.get("access_id") and settings.get("access_key"):
        return _key_account(accounts, settings["access_id"], settings["access_key"], settings.get("sts_token"))
    raise ConnectionSettingsMissing("there are no credentials for MaxCompute in the environment: {}.".format(_HOW))


def _key_account(accounts, access_id, secret, token):
    if token:
        return accounts.StsAccount(access_id, secret, token)
    # pyodps has renamed this class.
    return (getattr(accounts, "CloudAccount", None) or accounts.AliyunAccount)(access_id, secret)


def _config_file():
    """Return the settings of the configuration file, if the environment names one."""
    path = os.environ.get(_CONFIG_FILE)
    if not path:
        return {}
    try:
        with open(path) as file:
            lines = [line.partition("=") for line in file if "=" in line]
    except OSError as error:
        raise ConnectionSettingsMissing(
            "the file that {} names cannot be read: {}".format(_CONFIG_FILE, error)
        ) from None
    return {name.strip(): value.strip() for name, _, value in lines}
