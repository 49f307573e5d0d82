"""Chunks of Examples: three forms of the same records, and Beam's coder."""

from __future__ import annotations

import pickle

import pytest
from apache_beam.coders import registry
from hypothesis import given
from hypothesis import strategies as st

from beam_tfscript import ExampleChunk
from beam_tfscript.data import tfrecord
from beam_tfscript.data.example_chunk import frame_examples, pack_examples, size_of
from beam_tfscript.io.chunk_coder import ExampleChunkCoder
from beam_tfscript.runtime.transport import wire

RECORDS = st.lists(st.binary(max_size=50), max_size=20)
MAKERS = {
    "records": ExampleChunk,
    "packed": lambda records: ExampleChunk.from_packed(len(records), wire.pack_records(records)),
    "framed": lambda records: ExampleChunk.from_framed(len(records), tfrecord.frame(records)),
}


@given(RECORDS)
@pytest.mark.parametrize("form", MAKERS)
def test_each_form_has_the_same_records(form, records):
    chunk = MAKERS[form](records)
    assert len(chunk) == chunk.num_rows == len(records)
    assert chunk.size_bytes == size_of(records) == sum(map(len, records))
    assert list(chunk) == chunk.records == records
    assert MAKERS[form](records).framed == frame_examples(records)
    assert MAKERS[form](records).packed == pack_examples(records)
    assert chunk == ExampleChunk(records) and hash(chunk) == hash(ExampleChunk(records))
    assert chunk.slice(1, 3).records == records[1:4]


@given(RECORDS)
@pytest.mark.parametrize("form", MAKERS)
def test_chunks_survive_a_shuffle(form, records):
    chunk = MAKERS[form](records)
    assert pickle.loads(pickle.dumps(chunk)) == chunk
    coder = registry.get_coder(ExampleChunk)
    assert isinstance(coder, ExampleChunkCoder) and coder.is_deterministic()
    assert coder.decode(coder.encode(chunk)) == chunk
    assert coder.encode(chunk) == coder.encode(ExampleChunk(records))
    assert coder.estimate_size(chunk) == len(coder.encode(chunk))


def test_chunk_is_not_equal_to_its_records():
    assert ExampleChunk([b"a"]) != [b"a"]
    assert repr(ExampleChunk([b"a", b"bc"])) == "<ExampleChunk of 2 Examples, 3 bytes>"
