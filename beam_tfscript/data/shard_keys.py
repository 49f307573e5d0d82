"""Keys of shards that engines spread evenly over their subtasks.

An engine sends each key to the subtask that a hash of the key chooses. Shards with the keys 0, 1, 2 … often meet on one
subtask, and another subtask has none. So the keys are searched for: their hashes are as far from each other as can be.
The number of subtasks is not needed for it, which is not known while a pipeline is built.

Hashes of the engines, of a key that is encoded as a varint:

- Flink, streaming: key group = murmur(`ByteBuffer.hashCode()`) mod 128, and subtask = key group * parallelism / 128.
  https://github.com/apache/flink/blob/release-1.19.3/flink-runtime/src/main/java/org/apache/flink/runtime/state/KeyGroupRangeAssignment.java
  128 is the default of the maximum parallelism for up to 85 subtasks.
- Flink, batch: subtask = murmur(`Arrays.hashCode()`) mod parallelism.
  https://github.com/apache/flink/blob/release-1.19.3/flink-runtime/src/main/java/org/apache/flink/runtime/operators/shipping/OutputEmitter.java
- Spark: subtask = `Arrays.hashCode()` mod parallelism.
  https://github.com/apache/spark/blob/v3.5.0/core/src/main/scala/org/apache/spark/Partitioner.scala
"""

from __future__ import annotations

import functools

import numpy as np

__all__ = ["make_shard_keys"]

# Key groups of Flink's streaming jobs.
_KEY_GROUPS = 128
# Shards are even on each parallelism that divides these numbers; larger ones would need a longer search.
_FLINK_MODULUS = 1680
_SPARK_MODULUS = 48
# With more shards than this, chance alone spreads them well.
_MAX_SHARDS = 512
# Keys are tried in blocks. They are five bytes long, as hashes of shorter keys are too few, and each differs from the
# next one in all bytes.
_BLOCK = 1 << 17
_NUM_BLOCKS = 64
_FIRST_KEY = 1 << 28
_STEP = 0x01234567
_LAST_KEY = 1 << 35


@functools.lru_cache(maxsize=64)
def make_shard_keys(num_shards: int, *, is_streaming: bool) -> tuple[int, ...]:
    """Return the key of each shard: different keys of five bytes, the same for the same arguments.

    Args:
      num_shards: number of shards.
      is_streaming: True for a streaming job, whose engine may use another hash.
    """
    if num_shards > _MAX_SHARDS:
        return tuple(range(num_shards))
    shards = np.arange(num_shards)
    if is_streaming:
        wanted: np.ndarray = (2 * shards + 1) * _KEY_GROUPS // (2 * num_shards)
    else:
        wanted = shards % _FLINK_MODULUS * _SPARK_MODULUS + shards % _SPARK_MODULUS
    return tuple(_search(wanted.tolist(), is_streaming))


def _search(wanted: list[int], is_streaming: bool) -> list[int]:
    """Return a key for each wanted value, the smallest that no earlier shard has."""
    found: dict[int, list[int]] = {value: [] for value in wanted}
    needed = {value: wanted.count(value) for value in found}
    for block in range(_NUM_BLOCKS):
        steps = np.arange(block * _BLOCK, (block + 1) * _BLOCK)
        keys: np.ndarray = _FIRST_KEY + steps * _STEP % (_LAST_KEY - _FIRST_KEY)
        values = _value_of_streaming(keys) if is_streaming else _value_of_batch(keys)
        for value in [value for value in found if len(found[value]) < needed[value]]:
            found[value] += keys[values == value][: needed[value] - len(found[value])].tolist()
        if all(len(found[value]) == needed[value] for value in found):
            break
    else:
        raise ValueError(f"no keys were found for {len(wanted)} shards")
    return [found[value].pop(0) for value in wanted]


def _value_of_streaming(keys: np.ndarray) -> np.ndarray:
    # ByteBuffer.hashCode() goes from the last byte to the first.
    return _murmur(_hash_bytes(keys, is_reversed=True)) % _KEY_GROUPS


def _value_of_batch(keys: np.ndarray) -> np.ndarray:
    hashes = _hash_bytes(keys, is_reversed=False)
    return _murmur(hashes) % _FLINK_MODULUS * _SPARK_MODULUS + hashes.astype(np.int32).astype(np.int64) % _SPARK_MODULUS


def _hash_bytes(keys: np.ndarray, *, is_reversed: bool) -> np.ndarray:
    """Return Java's hash of the five bytes of each key's varint, as uint32: 31 * hash + byte, from 1."""
    hashes: np.ndarray = np.ones(len(keys), np.uint32)
    places = range(5)
    for place in places[::-1] if is_reversed else places:
        more = 0x80 if place < 4 else 0  # set if another byte follows
        byte = (keys >> 7 * place & 0x7F | more).astype(np.uint8).astype(np.int8)
        hashes = hashes * np.uint32(31) + byte.astype(np.uint32)
    return hashes


def _murmur(hashes: np.ndarray) -> np.ndarray:
    """Return Flink's murmur hash of each uint32, from 0 to 2**31 - 1.

    https://github.com/apache/flink/blob/release-1.19.3/flink-core/src/main/java/org/apache/flink/util/MathUtils.java
    """
    code = _rotate(hashes * np.uint32(0xCC9E2D51), 15) * np.uint32(0x1B873593)
    code = _rotate(code, 13) * np.uint32(5) + np.uint32(0xE6546B64) ^ np.uint32(4)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        code = (code ^ code >> np.uint32(shift)) * np.uint32(factor)
    code = (code ^ code >> np.uint32(16)).astype(np.int32).astype(np.int64)
    return np.where(code == -(1 << 31), 0, np.abs(code))


def _rotate(code: np.ndarray, bits: int) -> np.ndarray:
    return code << np.uint32(bits) | code >> np.uint32(32 - bits)
