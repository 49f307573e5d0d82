"""Keys of shards, against the placement of Flink and Spark computed one key at a time."""

from __future__ import annotations

import collections

import pytest
from apache_beam.coders import VarIntCoder

from beam_tfscript.data.shard_keys import make_shard_keys

MASK = 0xFFFFFFFF


def java_hash(data, step=1):
    value = 1
    for byte in data[::step]:
        value = (31 * value + (byte - 256 if byte > 127 else byte)) & MASK
    return value


def signed(value):
    return value - (1 << 32) if value >> 31 else value


def rotate(value, bits):
    return (value << bits | value >> (32 - bits)) & MASK


def murmur(value):
    """Flink's MathUtils.murmurHash."""
    value = rotate(value * 0xCC9E2D51 & MASK, 15) * 0x1B873593 & MASK
    value = (rotate(value, 13) * 5 + 0xE6546B64 & MASK) ^ 4
    value = (value ^ value >> 16) * 0x85EBCA6B & MASK
    value = (value ^ value >> 13) * 0xC2B2AE35 & MASK
    value = signed(value ^ value >> 16)
    return abs(value) if value != -(1 << 31) else 0


def subtask(engine, key, parallelism):
    data = VarIntCoder().encode(key)
    if engine == "Flink, streaming":
        return murmur(java_hash(data, -1)) % 128 * parallelism // 128
    if engine == "Flink, batch":
        return murmur(java_hash(data)) % parallelism
    return signed(java_hash(data)) % parallelism


@pytest.mark.parametrize("engine", ["Flink, streaming", "Flink, batch", "Spark"])
@pytest.mark.parametrize("parallelism", [1, 2, 3, 4, 6, 8, 12, 16])
@pytest.mark.parametrize("num_shards", [1, 2, 4, 7, 8, 16, 33, 100])
def test_no_subtask_has_more_than_one_shard_more_than_another(engine, parallelism, num_shards):
    keys = make_shard_keys(num_shards, is_streaming=engine == "Flink, streaming")
    assert len(set(keys)) == num_shards
    counts = collections.Counter(subtask(engine, key, parallelism) for key in keys)
    of_all = [counts[number] for number in range(parallelism)]
    assert max(of_all) - min(of_all) <= 1, of_all


def test_keys_are_the_same_in_every_process():
    """A savepoint holds them."""
    assert make_shard_keys(4, is_streaming=True) == (15119477510, 879275232, 421145400, 860186489)


def test_many_shards_have_any_keys():
    assert make_shard_keys(1000, is_streaming=False) == tuple(range(1000))
