"""Source of objects in S3, in stores with S3's protocol, and in OSS, read by boto3.

Input: an `s3://` or `oss://` URI. Its parameters may name the endpoint and hold keys; keys are safer in environment
variables. Output: the object's bytes, from any offset. s3fs is not used: it reads ranges without `IfMatch`, and its
aiobotocore allows few versions of botocore, which other packages' boto3 may not fit.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import boto3
import botocore
import botocore.exceptions
import urllib3
from botocore.config import Config

from beam_tfscript.files.source import (
    READ_BYTES,
    MissingFileError,
    Opened,
    PermanentFetchError,
    Timeouts,
    TransientFetchError,
)
from beam_tfscript.files.uris import parameters_of

_GONE = {"NoSuchKey", "NoSuchBucket", "NotFound", "404"}
# A region's endpoint for OSS's own protocol; the one for S3's protocol has `s3.` before it.
_OSS_ENDPOINT = re.compile(r"oss-[^./]+\.aliyuncs\.com")


class ObjectAddress(NamedTuple):
    """Address of an object, and the keys to read it; boto3 looks for keys, endpoint and region that are None."""

    bucket: str
    key: str
    endpoint: str | None
    region: str | None
    key_id: str | None
    key_secret: str | None
    token: str | None


class ObjectSource:
    """Object of a store with S3's protocol."""

    def __init__(self, uri: str, timeouts: Timeouts):
        self._address = find_address(uri)
        self._is_oss = urlsplit(uri).scheme.lower() == "oss"
        addressing = parameters_of(uri).get("addressing")
        self._client, self._signed = open_client(self._address, timeouts, is_oss=self._is_oss, addressing=addressing)

    def stat(self) -> str | None:
        """Return the object's ETag."""
        with _translated(self._hint(), signed=self._signed):
            return self._client.head_object(Bucket=self._address.bucket, Key=self._address.key)["ETag"]

    def open(self, offset: int, version: str | None) -> Opened:
        """Open the object at `offset` if it is still the same, else at 0."""
        extent = {"Range": f"bytes={offset}-", "IfMatch": version} if offset and version else {}
        with _translated(self._hint(), signed=self._signed):
            try:
                found = self._client.get_object(Bucket=self._address.bucket, Key=self._address.key, **extent)
            except botocore.exceptions.ClientError as error:
                if not extent or _status(error) not in (412, 416):
                    raise
                extent = {}  # the object has changed
                found = self._client.get_object(Bucket=self._address.bucket, Key=self._address.key)
        start = offset if extent else 0
        return Opened(start, start + found["ContentLength"], found["ETag"], self._read(found["Body"]))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _read(self, body: Any) -> Iterator[bytes]:
        with contextlib.closing(body), _translated(self._hint(), signed=self._signed):
            while chunk := body.read(READ_BYTES):
                yield chunk

    def _hint(self) -> str:
        if self._is_oss:
            return "set OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET in the workers' environment"
        return "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the workers' environment, or give them a role"


def open_client(
    address: ObjectAddress, timeouts: Timeouts, *, is_oss: bool, addressing: str | None = None, attempts: int = 1
) -> tuple[Any, bool]:
    """Return (boto3's client, True if it signs its requests).

    Args:
      address: endpoint, region and keys.
      timeouts: timeouts of connections and reads.
      is_oss: True for OSS.
      addressing: boto3's addressing style; None for that which fits the endpoint.
      attempts: attempts at each request.

    Raises:
      PermanentFetchError: the settings of boto3 cannot be used.
    """
    session = boto3.session.Session(
        aws_access_key_id=address.key_id,
        aws_secret_access_key=address.key_secret,
        aws_session_token=address.token,
    )
    with _translated("", signed=True):
        is_signed = session.get_credentials() is not None and bool(address.key_id or not is_oss)
        signature = _signature(is_oss) if is_signed else botocore.UNSIGNED
        client = session.client(
            "s3",
            endpoint_url=address.endpoint,
            region_name=address.region or session.region_name or "us-east-1",
            config=Config(
                connect_timeout=timeouts.connect_s,
                read_timeout=timeouts.stall_s,
                retries={"total_max_attempts": attempts, "mode": "standard"},
                signature_version=signature,
                s3={"addressing_style": addressing or _addressing(address.endpoint)},
            ),
        )
    return client, is_signed


def find_address(uri: str) -> ObjectAddress:
    """Return the address of a URI's object, from its parameters and the environment variables.

    Raises:
      PermanentFetchError: the bucket, the key, a secret or OSS's host is missing.
    """
    parts, given = urlsplit(uri), parameters_of(uri)
    if not parts.netloc or not parts.path.strip("/"):
        raise PermanentFetchError(f"it must be {parts.scheme}://bucket/key")
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    key_id, secret, token = None, None, None
    if parts.scheme.lower() == "oss":
        names = ("OSS_ENDPOINT", "OSS_HOST")
        key_id, secret, token = map(os.environ.get, ("OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET", "OSS_SESSION_TOKEN"))
    if "access_key_id" in given:
        key_id = given["access_key_id"]
        secret = given.get("access_key_secret") or given.get("secret_access_key")
        token = given.get("security_token") or given.get("session_token")
        if not secret:
            raise PermanentFetchError("it has an access_key_id without an access_key_secret")
    endpoint = given.get("host") or given.get("endpoint") or next(filter(None, map(os.environ.get, names)), None)
    if endpoint is None and parts.scheme.lower() == "oss":
        raise PermanentFetchError(
            "it names no host: add a parameter such as host=oss-cn-hangzhou.aliyuncs.com, or set OSS_ENDPOINT"
        )
    bucket, key = parts.netloc.rpartition("@")[2], parts.path.lstrip("/")
    return ObjectAddress(bucket, key, _endpoint_url(endpoint), given.get("region"), key_id, secret, token)


def _endpoint_url(endpoint: str | None) -> str | None:
    if endpoint is None:
        return None
    if _OSS_ENDPOINT.fullmatch(urlsplit(endpoint).netloc if "://" in endpoint else endpoint):
        endpoint = endpoint.replace("oss-", "s3.oss-", 1)
    return endpoint if "://" in endpoint else f"https://{endpoint}"


def _signature(is_oss: bool) -> str | None:
    # Version 4 of the signature includes the region, and OSS's regions have other names. None: boto3's own choice.
    return "s3" if is_oss else None


def _addressing(endpoint: str | None) -> str:
    """Return boto3's addressing style.

    OSS takes the bucket only in the host's name. A host that is an IP address or has no dot takes it only in the path.
    """
    if endpoint is None:
        return "auto"
    host = urlsplit(endpoint).hostname or ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return "virtual" if "." in host else "path"
    return "path"


def _status(error: botocore.exceptions.ClientError) -> int:
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


@contextlib.contextmanager
def _translated(hint: str, *, signed: bool) -> Iterator[None]:
    """Raise the libraries' errors as errors of `source.py`.

    Args:
      hint: advice for a request that is refused because it is not signed.
      signed: True if the request is signed.
    """
    try:
        yield
    except botocore.exceptions.ClientError as error:
        code, status = error.response.get("Error", {}).get("Code", ""), _status(error)
        if code in _GONE or status == 404:
            raise MissingFileError(f"the store answered {code}") from None
        if status >= 500 or status == 429 or code in ("SlowDown", "RequestTimeout"):
            raise TransientFetchError(f"the store answered {code}") from None
        without = "" if signed or not hint else f" to a request without keys: {hint}"
        raise PermanentFetchError(f"the store answered {code}{without}") from None
    except (
        botocore.exceptions.NoCredentialsError,
        botocore.exceptions.ParamValidationError,
        botocore.exceptions.ProfileNotFound,
        ValueError,
    ) as error:
        raise PermanentFetchError(f"{type(error).__name__}: {error}") from None
    except (botocore.exceptions.BotoCoreError, urllib3.exceptions.HTTPError, OSError) as error:
        raise TransientFetchError(f"{type(error).__name__}: {error}") from None
