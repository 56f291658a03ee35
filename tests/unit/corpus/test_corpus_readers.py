"""Every format gives back the documents that were written, and refuses what it cannot read."""

from __future__ import annotations

import gzip
import json
import tempfile
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from cuvee.corpus.readers import MAX_DOCUMENT_BYTES, Document, read_documents
from cuvee.corpus.sources import find_files
from cuvee.errors import CorpusError
from cuvee.spec import DomainSource


def read(path: Path, **options: str) -> list[Document]:
    source = DomainSource(name="d", paths=(str(path),), **options)  # type: ignore[arg-type]
    return [document for file in find_files(source) for document in read_documents(file)]


def jsonl_bytes(texts: Sequence[str]) -> bytes:
    return "".join(json.dumps({"text": t, "id": i}) + "\n" for i, t in enumerate(texts)).encode()


def write_plain(path: Path, texts: Sequence[str]) -> None:
    path.write_bytes(jsonl_bytes(texts))


def write_gzip(path: Path, texts: Sequence[str]) -> None:
    path.write_bytes(gzip.compress(jsonl_bytes(texts)))


def write_zstd_frames(path: Path, texts: Sequence[str]) -> None:
    compress = zstandard.ZstdCompressor().compress
    path.write_bytes(b"".join(compress(line + b"\n") for line in jsonl_bytes(texts).splitlines()))


def write_parquet(path: Path, texts: Sequence[str]) -> None:
    pq.write_table(pa.table({"id": list(range(len(texts))), "text": list(texts)}), path)


def write_parquet_dictionary(path: Path, texts: Sequence[str]) -> None:
    column = pa.array(texts, pa.string()).dictionary_encode()
    pq.write_table(pa.table({"text": column}), path, row_group_size=2)


def write_arrow_stream(path: Path, texts: Sequence[str]) -> None:
    table = pa.table({"text": pa.array(texts, pa.large_string())})
    with pa.OSFile(str(path), "wb") as out, pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table, max_chunksize=3)


def write_arrow_file(path: Path, texts: Sequence[str]) -> None:
    table = pa.table({"text": list(texts)})
    with pa.OSFile(str(path), "wb") as out, pa.ipc.new_file(out, table.schema) as writer:
        writer.write_table(table)


FORMATS = {
    "d.jsonl": write_plain,
    "d.json.gz": write_gzip,
    "d.jsonl.zst": write_zstd_frames,
    "d.parquet": write_parquet,
    "dictionary.parquet": write_parquet_dictionary,
    "stream.arrow": write_arrow_stream,
    "file.arrow": write_arrow_file,
}


@pytest.mark.parametrize("name", FORMATS)
@given(texts=st.lists(st.text(min_size=1, max_size=40), min_size=1, max_size=8))
@settings(max_examples=25, deadline=None)
def test_every_format_gives_back_the_documents_written(name: str, texts: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        FORMATS[name](path, texts)
        found = read(path)
    assert [d.text for d in found] == texts
    assert [d.data for d in found] == [t.encode() for t in texts]


@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
def test_a_text_file_is_one_document(tmp_path: Path, ending: str) -> None:
    content = "First line\n\nand ünïcode\n".encode()
    packed = {
        "": content,
        ".gz": gzip.compress(content),
        ".zst": zstandard.ZstdCompressor().compress(content),
    }[ending]
    (tmp_path / f"a.txt{ending}").write_bytes(packed)
    assert [d.data for d in read(tmp_path)] == [content]


def test_empty_documents_and_blank_lines_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_bytes(b'{"text": "a"}\n\n   \n{"text": ""}\n{"text": "b"}')
    assert [d.text for d in read(tmp_path)] == ["a", "b"]


def test_byte_order_marks_are_not_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone")
    (tmp_path / "b.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "two"}\n')
    assert [d.text for d in read(tmp_path)] == ["one", "two"]


def test_another_field_can_hold_the_text(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text('{"body": "a", "text": 3}\n')
    assert [d.text for d in read(tmp_path, text_field="body")] == ["a"]


def parquet_of(column: pa.Array, name: str = "text") -> Callable[[Path], None]:
    return lambda path: pq.write_table(pa.table({name: column}), path)


def content(data: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(data)

    return write


def bad_utf8_column(path: Path) -> None:
    bad = pa.array([b"fine", b"bad \xff"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": bad}), path)


GOOD = b'{"text": "fine"}\n'
MANY = jsonl_bytes([f"line {i} {i**9 % 7919} " * 20 for i in range(4000)])

FAILURES = {
    "text, bad UTF-8": ("d.txt", content(b"one\ntwo\nna\xefve"), 3, ["0xef", "UTF-8", "iconv"]),
    "text, UTF-16": ("d.txt", content("hello".encode("utf-16")), 1, ["UTF-16", "iconv"]),
    "text, too long": ("d.txt", content(b"x" * (MAX_DOCUMENT_BYTES + 1)), None, ["longer", "Spl"]),
    "jsonl, bad UTF-8": ("d.jsonl", content(GOOD + b'{"text": "\xff"}\n'), 2, ["0xff", "iconv"]),
    "jsonl, bad JSON": ("d.jsonl", content(GOOD + GOOD + b'{"text": "cut'), 3, ["invalid JSON"]),
    "jsonl, lone surrogate": ("d.jsonl", content(b'{"text": "\\ud800"}\n'), 1, ["invalid JSON"]),
    "jsonl, no object": ("d.jsonl", content(b"[1, 2]\n"), 1, ["object is needed", "list"]),
    "jsonl, no field": (
        "d.jsonl",
        content(b'{"body": "x"}\n'),
        1,
        ["'text'", "body", "text_field"],
    ),
    "jsonl, null": ("d.jsonl", content(GOOD + b'{"text": null}\n'), 2, ["NoneType", "text_field"]),
    "jsonl, number": ("d.jsonl", content(b'{"text": 3}\n'), 1, ["int, not text"]),
    "jsonl, long line": (
        "d.jsonl",
        content(GOOD + b'{"text": "' + b"x" * MAX_DOCUMENT_BYTES + b'"}\n'),
        2,
        ["longer than", "line of its own"],
    ),
    "gzip, cut off": ("d.jsonl.gz", content(gzip.compress(MANY)[:-100]), "some", ["cut off"]),
    "gzip, is not": ("d.jsonl.gz", content(MANY), 0, ["gzip", "damaged", "again"]),
    "gzip, bit flipped": (
        "d.jsonl.gz",
        content(gzip.compress(MANY)[:-6] + b"\0\0" + gzip.compress(MANY)[-4:]),
        "some",
        ["damaged"],
    ),
    "zstd, cut off": (
        "d.jsonl.zst",
        content(zstandard.ZstdCompressor().compress(MANY)[:-100]),
        "some",
        ["zstd", "damaged or cut off"],
    ),
    "zstd, is not": ("d.jsonl.zst", content(MANY), 0, ["zstd", "damaged"]),
    "parquet, is not": ("d.parquet", content(b"PAR1 no"), None, ["not a readable Parquet file"]),
    "parquet, no column": ("d.parquet", parquet_of(pa.array(["x"]), "body"), None, ["'body'"]),
    "parquet, numbers": ("d.parquet", parquet_of(pa.array([1])), None, ["int64, not text"]),
    "parquet, null": ("d.parquet", parquet_of(pa.array(["a", None])), 2, ["null", "Drop"]),
    "parquet, bad UTF-8": ("d.parquet", bad_utf8_column, 2, ["row 2", "0xff"]),
    "arrow, is not": ("d.arrow", content(b"\x10\0\0\0nonsense"), None, ["Arrow file"]),
}


@pytest.mark.parametrize("case", FAILURES)
def test_unreadable_input_is_refused_with_file_line_and_remedy(tmp_path: Path, case: str) -> None:
    name, write, line, words = FAILURES[case]
    write(tmp_path / name)
    with pytest.raises(CorpusError) as caught:
        read(tmp_path / name)
    message, details = str(caught.value), caught.value.details
    assert "domain 'd'" in message
    assert str(tmp_path / name) in message
    assert details["domain"] == "d"
    assert details["file"] == str(tmp_path / name)
    if isinstance(line, int):
        assert details["line"] == line
        assert f" {line}: " in message
    elif line == "some":
        assert details["line"] >= 1
    for word in words:
        assert word in message


def test_reading_takes_bounded_memory(tmp_path: Path) -> None:
    """Forty megabytes of lines pass through without forty megabytes in use."""
    line = jsonl_bytes(["word " * 4000])
    with gzip.open(tmp_path / "d.jsonl.gz", "wb", compresslevel=1) as out:
        for _ in range(2000):
            out.write(line)
    (file,) = find_files(DomainSource(name="d", paths=(str(tmp_path / "d.jsonl.gz"),)))
    tracemalloc.start()
    try:
        total = sum(len(document.data) for document in read_documents(file))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == 2000 * 20_000
    assert peak < 8_000_000
