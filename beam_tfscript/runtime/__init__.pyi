"""Types of a script's config, for type checkers.

A stub, since Python 3.6 reads the files beside this one, and cannot parse newer annotations.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

def get_config() -> Config: ...

class _Window(NamedTuple):
    start: float
    end: float

class _Schema(tuple[Any, ...]):
    @property
    def names(self) -> list[str]: ...

class _FeatureSpec(dict[str, Any]):
    def __call__(self, exclude: list[str] | tuple[str, ...] = ...) -> _FeatureSpec: ...

class _Counter:
    def inc(self, n: int = ...) -> None: ...
    def dec(self, n: int = ...) -> None: ...

class _Distribution:
    def update(self, value: int) -> None: ...

class _OutputWriter:
    def write(self, example: Any) -> None: ...
    def flush(self) -> None: ...

class Config:
    """Config of any run; the other classes add the attributes of a feed or of a training."""

    shard: int
    num_shards: int
    window: _Window | None
    num_workers: int
    cluster: dict[str, list[str]]
    task_type: str
    task_index: int
    tf_context: Any
    work_dir: str
    user_params: Any
    attempt: int
    dataset_lengths: list[int] | None
    input_schema: _Schema | None
    output_schema: _Schema | None
    output_writer: _OutputWriter
    @property
    def log_dir(self) -> str: ...
    @property
    def feature_spec(self) -> _FeatureSpec: ...
    def batches(self, n: int, masks: bool = ...) -> Iterator[dict[str, NDArray[Any]]]: ...
    def example_batches(self, n: int) -> Iterator[list[bytes]]: ...
    def write(self, **row: Any) -> None: ...
    def write_batch(self, **columns: ArrayLike | Any) -> None: ...
    def counter(self, name: str) -> _Counter: ...
    def distribution(self, name: str) -> _Distribution: ...
    @property
    def side_files(self) -> dict[str, str]: ...
    def side_dataset(self, name: str, batch_size: int | None = ...) -> Any: ...
    def side_batches(self, name: str, n: int, masks: bool = ...) -> Iterator[dict[str, np.ndarray[Any, Any]]]: ...
    def serve(self) -> None: ...

class DatasetConfig(Config):
    dataset_length: int
    @property
    def dataset_file(self) -> str: ...
    @property
    def dataset_parts(self) -> list[str]: ...
    def dataset(
        self,
        batch_size: int,
        shuffle: int = ...,
        repeat: int | None = ...,
        masks: bool = ...,
        drop_remainder: bool = ...,
        exclude: list[str] | tuple[str, ...] = ...,
    ) -> Any: ...

class _FeedConfig(Config):
    def stop(self) -> None: ...

class BundlesConfig(_FeedConfig):
    @property
    def dataset_file(self) -> str: ...
    @property
    def dataset_length(self) -> int: ...
    def datasets(self) -> Iterator[Any]: ...

class StreamConfig(_FeedConfig):
    def dataset_fn(self) -> Any: ...
    def dataset(
        self,
        batch_size: int,
        shuffle: int = ...,
        masks: bool = ...,
        drop_remainder: bool = ...,
        exclude: list[str] | tuple[str, ...] = ...,
    ) -> Any: ...

class TrainConfig(DatasetConfig):
    saved_model_dir: str
    checkpoint_dir: str
    latest_ckpt_dir: str | None
    @property
    def dataset_files(self) -> list[str]: ...
    def report(self, **values: float) -> None: ...

class StreamTrainConfig(StreamConfig):
    saved_model_dir: str
    checkpoint_dir: str
    latest_ckpt_dir: str | None
    def report(self, **values: float) -> None: ...
    def export(self) -> None: ...
