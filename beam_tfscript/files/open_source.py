"""Choice of a URI's source by its scheme.

The protocols are implemented by libraries: requests for HTTP, boto3 for S3 and OSS, fsspec for HDFS, and Beam's file
systems for all other schemes.
"""

from __future__ import annotations

import importlib.util

from apache_beam.io.filesystems import FileSystems

from beam_tfscript.errors import ArgumentError
from beam_tfscript.files.beam_source import BeamSource
from beam_tfscript.files.source import Source, Timeouts
from beam_tfscript.files.uris import mask_name, scheme_of

# scheme -> the module that it needs, and the extra of this package that installs the module.
_NEEDED = {
    "s3": ("boto3", "s3"),
    "oss": ("boto3", "oss"),
    "hdfs": ("fsspec", "hdfs"),
    "webhdfs": ("fsspec", "hdfs"),
}


def check_scheme(argument: str, uri: str) -> None:
    """Check that there is a source for a URI's scheme.

    Args:
      argument: the transform's argument, for the error.
      uri: the argument's value.

    Raises:
      ArgumentError: no file system is known for the scheme, or the scheme's library is not installed.
    """
    scheme = scheme_of(uri)
    if scheme in ("http", "https", "res", "file", ""):
        return
    module, extra = _NEEDED.get(scheme, (None, None))
    if module is not None:
        if importlib.util.find_spec(module) is None:
            raise ArgumentError(
                f"{argument}: {mask_name(uri)!r} needs the package {module}, which is not installed here: "
                f"pip install 'beam-tfscript[{extra}]', here and on the workers."
            )
        return
    try:
        FileSystems.get_filesystem(uri)
    except ValueError as error:
        raise ArgumentError(
            f"{argument}: no file system is known for {mask_name(uri)!r}. Give a local path, or file://, res://, "
            "http(s)://, s3://, oss://, hdfs://, gs://, or another scheme that Apache Beam has a file system for; "
            "gs:// needs apache-beam[gcp]."
        ) from error


def open_source(uri: str, timeouts: Timeouts) -> Source:
    """Return the source of a remote URI.

    Raises:
      ArgumentError: there is no source for the scheme.
    """
    check_scheme("uri", uri)
    scheme = scheme_of(uri)
    if scheme in ("http", "https"):
        from beam_tfscript.files.http_source import WebSource

        return WebSource(uri, timeouts)
    if scheme in ("s3", "oss"):
        from beam_tfscript.files.object_source import ObjectSource

        return ObjectSource(uri, timeouts)
    if scheme in ("hdfs", "webhdfs"):
        from beam_tfscript.files.hdfs_source import HdfsSource

        return HdfsSource(uri, timeouts)
    return BeamSource(uri)
