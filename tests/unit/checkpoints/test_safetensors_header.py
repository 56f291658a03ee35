"""Headers of safetensors files: what is accepted, the reference reads alike."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import safetensors
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors import SafetensorError

from cuvee.checkpoints import Header, parse_header, read_header
from cuvee.checkpoints.header import MAX_HEADER_BYTES, SIZES, encode_header
from cuvee.errors import CheckpointError

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
shapes = st.lists(st.integers(0, 4), max_size=3).map(tuple)
tensors = st.lists(
    st.tuples(names.filter(lambda n: n != "__metadata__"), st.sampled_from(sorted(SIZES)), shapes),
    max_size=5,
    unique_by=lambda tensor: tensor[0],
)

ODD = [
    *(-1, -0.0, 0, 1, 2, 1.0, 2**62, 2**63, 2**64, True, False, None, float("nan"), float("inf")),
    *("", "1", "F32", "F64", "F8_E4M3", "f32", [], [0], [1], [2, 2], [0, 4], [4, 0], [4, 8]),
    *([True], [1.0], [-1], [[1]], [0, 4, 8], {}, {"a": 1}, {"a": "b"}),
]


@st.composite
def nearly_right(draw: st.DrawFn) -> tuple[dict[str, Any], int]:
    """Fields of a header and the bytes of its data, with up to two things changed."""
    fields: dict[str, Any] = {}
    position = 0
    for name in draw(st.lists(st.sampled_from("abc"), max_size=3, unique=True)):
        dtype = draw(st.sampled_from(["F32", "BF16", "U8"]))
        shape = draw(st.sampled_from([[], [0], [1], [2, 3]]))
        end = position + SIZES[dtype] * _product(shape)
        fields[name] = {"dtype": dtype, "shape": shape, "data_offsets": [position, end]}
        position = end
    for _ in range(draw(st.integers(0, 2))):
        holder = draw(st.sampled_from([fields, *(v for v in fields.values() if type(v) is dict)]))
        key = draw(st.sampled_from([*holder, "__metadata__", "d"]))
        holder[key] = draw(st.sampled_from(ODD))
    return fields, position + draw(st.sampled_from([0, 0, 0, 1, 4]))


def as_file(text: bytes, data_bytes: int) -> bytes:
    return len(text).to_bytes(8, "little") + text + bytes(data_bytes)


def facts(header: Header) -> dict[str, Any]:
    return {t.name: (t.dtype, list(t.shape), t.bytes) for t in header.tensors}


def reference_facts(data: bytes) -> dict[str, Any]:
    found = safetensors.deserialize(data)
    return {n: (info["dtype"], info["shape"], len(info["data"])) for n, info in found}


def accepted_as_the_reference_does(text: bytes, data_bytes: int) -> bool:
    """Whether a header is accepted; fails where the reference refuses or reads it otherwise."""
    try:
        header = parse_header(text, data_bytes)
    except CheckpointError:
        return False
    assert facts(header) == reference_facts(as_file(text, data_bytes))
    return True


@given(tensors, st.dictionaries(names, names, max_size=3))
def test_what_is_encoded_is_accepted_by_both_in_the_order_given(entries, metadata):
    data = encode_header(entries, metadata)
    size = sum(SIZES[dtype] * _product(shape) for _, dtype, shape in entries)
    assert len(data) % 8 == 0
    header = parse_header(data[8:], size)
    assert reference_facts(data + bytes(size)) == facts(header)
    assert dict(header.metadata) == metadata
    positions = {t.name: t.start for t in header.tensors}
    expected, position = {}, len(data)
    for name, dtype, shape in entries:
        expected[name] = position
        position += SIZES[dtype] * _product(shape)
    assert positions == expected


def _product(shape: tuple[int, ...]) -> int:
    result = 1
    for side in shape:
        result *= side
    return result


@given(nearly_right())
def test_headers_that_are_almost_right(header):
    fields, data_bytes = header
    accepted_as_the_reference_does(json.dumps(fields).encode(), data_bytes)


GOOD = encode_header(
    [("w", "F32", (2, 1)), ("v", "BF16", (2,)), ("é", "I8", ())], {"format": "pt"}
)[8:]


@given(
    st.lists(
        st.tuples(
            st.integers(0, len(GOOD)),
            st.integers(0, 3),
            st.one_of(
                st.binary(max_size=3),
                st.sampled_from([b"0", b"-", b'"', b"{", b"[", b",", b"\\ud800", b"1e1", b"NaN"]),
            ),
        ),
        min_size=1,
        max_size=3,
    )
)
@example([(0, 0, b"")])
def test_headers_with_bytes_cut_out_and_put_in(edits):
    text = GOOD
    for position, removed, inserted in edits:
        text = text[:position] + inserted + text[position + removed :]
    accepted = accepted_as_the_reference_does(text, 13)
    assert accepted or text != GOOD


@given(st.binary(max_size=60))
@example(b"")
@example(b"{}")
def test_arbitrary_files_are_read_or_refused(data):
    memory = os.memfd_create("fuzz")
    try:
        os.write(memory, data)
        header = read_header(memory, "fuzz")
    except CheckpointError:
        return
    finally:
        os.close(memory)
    assert facts(header) == reference_facts(data)


def entry(dtype: str = "F32", shape: Any = (1,), offsets: Any = (0, 4)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    ("text", "data_bytes", "says"),
    [
        (b'{"a":1,"a":2}', 0, "'a' appears twice"),
        (b'{"a":{"dtype":"F32","dtype":"F32"}}', 0, "'dtype' appears twice"),
        (b"[]", 0, "not JSON"),
        (b' {"a": 1}', 0, "not JSON"),
        (b'{"a": ' + b"[" * 100_000, 0, "not valid JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", 0, "not valid JSON"),
        (b'{"a": NaN}', 0, "NaN"),
        (b'{"\xff": 1}', 0, "not valid JSON"),
        (b'{"\\ud800": {}}', 0, "not Unicode"),
        (json.dumps({"__metadata__": {"a": 1}}).encode(), 0, "map of strings"),
        (json.dumps({"a": entry("F64", (1,), (0, 8))}).encode(), 8, "'F64'"),
        (json.dumps({"a": entry("F8_E4M3", (1,), (0, 1))}).encode(), 1, "Quantised"),
        (json.dumps({"a": entry(shape=[-1])}).encode(), 4, "-1"),
        (json.dumps({"a": entry(shape=[True])}).encode(), 4, "no valid shape"),
        (json.dumps({"a": entry(shape=[2])}).encode(), 4, "needs 8 bytes"),
        (json.dumps({"a": entry(shape=[2**40, 2**40, 0])}).encode(), 4, "impossibly large"),
        (json.dumps({"a": entry(offsets=[4, 0])}).encode(), 4, "no valid range"),
        (json.dumps({"a": entry(offsets=[4, 8])}).encode(), 8, "gap"),
        (json.dumps({"a": entry(), "b": entry(offsets=[0, 4])}).encode(), 4, "overlaps"),
        (json.dumps({"a": entry()}).encode(), 8, "tail"),
        (json.dumps({"a": entry()}).encode(), 3, "cut short"),
        (json.dumps({"a": {**entry(), "more": 1}}).encode(), 4, "exactly dtype"),
    ],
)
def test_a_malformed_header_is_refused_with_its_reason(text, data_bytes, says):
    with pytest.raises(CheckpointError) as raised:
        parse_header(text, data_bytes, "a file")
    assert says in str(raised.value)
    assert "a file" in str(raised.value)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not a safetensors file"),
        (b"\x10\0\0\0\0\0\0\0{}", "cut short"),
        (b"\xff" * 16, "cut short"),
        (b"PK\x03\x04 a pickle in a zip archive", "cut short"),
    ],
)
def test_a_length_that_is_not_there_is_refused_before_memory_is_taken(tmp_path, data, says):
    assert says in refused(tmp_path, data, size=len(data))


def test_a_header_above_the_limit_is_refused_before_it_is_read(tmp_path):
    length = MAX_HEADER_BYTES + 1
    assert "limit" in refused(tmp_path, length.to_bytes(8, "little"), size=8 + length)


def refused(folder: Path, data: bytes, size: int) -> str:
    path = folder / "model.safetensors"
    path.write_bytes(data)
    os.truncate(path, size)
    file = os.open(path, os.O_RDONLY)
    try:
        with pytest.raises(CheckpointError) as raised:
            read_header(file, str(path))
    finally:
        os.close(file)
    return str(raised.value)


def test_the_reference_refuses_bad_headers_too():
    with pytest.raises(SafetensorError):
        safetensors.deserialize(as_file(json.dumps({"a": entry(offsets=[4, 8])}).encode(), 8))
