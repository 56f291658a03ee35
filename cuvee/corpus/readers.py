"""Documents out of files: text, JSON lines, Parquet and Arrow, one at a time.

Memory is bounded by one document, one record batch or one decompression window, whichever is
largest. Whatever cannot be read is refused with the domain, the file, the line and a remedy: a
corpus that quietly lacks a part of itself would give quietly wrong answers.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson
import zstandard

from cuvee.corpus.sources import InputFile
from cuvee.corpus.streams import open_stream
from cuvee.errors import CorpusError

__all__ = ["MAX_DOCUMENT_BYTES", "Cursor", "Document", "read_documents"]

MAX_DOCUMENT_BYTES = 32 << 20
"""Longest line or text file. It bounds memory, and a longer "document" is nearly always a file
whose line ends were lost."""

_BATCH_BYTES = 4 << 20
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_UTF8_MARK = b"\xef\xbb\xbf"


class Document(NamedTuple):
    """One document: its text, and the same text as UTF-8."""

    text: str
    data: bytes


@dataclass(slots=True)
class Cursor:
    """Where a reader is: the line or row (from 1; 0 before the first) and the share of the file."""

    line: int = 0
    share: float = 0.0


def read_documents(file: InputFile, cursor: Cursor | None = None) -> Iterator[Document]:
    """Yield the non-empty documents of one file in order, moving ``cursor`` along.

    Raises:
        CorpusError: Invalid UTF-8 or JSON, a missing or wrongly typed field, an over-long line,
            damaged compression, an unreadable Parquet or Arrow file; details give ``domain``,
            ``file`` and, where there is one, ``line``.
    """
    cursor = cursor if cursor is not None else Cursor()
    cursor.line, cursor.share = 0, 0.0
    reader = {"text": _text, "jsonl": _jsonl, "parquet": _parquet, "arrow": _arrow}[file.kind]
    try:
        for data in reader(file, cursor):
            if data:
                yield Document(_decode(data, file, cursor), data)
    except (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError) as error:
        raise CorpusError(
            f"domain {file.domain!r}: {file.path}, after line {cursor.line}: the "
            f"{file.compression} data is damaged or cut off ({error}). Copy or compress the file "
            "again",
            domain=file.domain,
            file=file.path,
            line=cursor.line,
        ) from error
    except FileNotFoundError as error:
        raise _refuse(file, cursor, "the file has gone", "Put it back and try again") from error
    except OSError as error:
        raise unreadable(file, error) from error
    cursor.share = 1.0


def unreadable(file: InputFile, error: OSError) -> CorpusError:
    """The operating system or the store refuses to give the file."""
    return CorpusError(
        f"domain {file.domain!r}: {file.path} cannot be read ({error.strerror or error}). Let the "
        "user that runs the workers read it",
        domain=file.domain,
        file=file.path,
    )


def _refuse(file: InputFile, cursor: Cursor, what: str, remedy: str) -> CorpusError:
    row = "row" if file.kind in ("parquet", "arrow") else "line"
    where = f", {row} {cursor.line}" if cursor.line else ""
    details = {"line": cursor.line} if cursor.line else {}
    return CorpusError(
        f"domain {file.domain!r}: {file.path}{where}: {what}. {remedy}",
        domain=file.domain,
        file=file.path,
        **details,
    )


def _decode(data: bytes, file: InputFile, cursor: Cursor) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        if file.kind == "text":
            cursor.line = data.count(b"\n", 0, error.start) + 1
        what = f"byte 0x{data[error.start]:02x} is not valid UTF-8"
        if data.startswith(_UTF16_MARKS):
            what = "the file is UTF-16, not UTF-8"
        raise _refuse(
            file, cursor, what, "Convert it, for example with iconv -f latin1 -t utf-8"
        ) from error


def _text(file: InputFile, cursor: Cursor) -> Iterator[bytes]:
    with open_stream(file) as stream:
        data = stream.buffered.read(MAX_DOCUMENT_BYTES + 1)
    if len(data) > MAX_DOCUMENT_BYTES:
        raise _refuse(
            file,
            cursor,
            f"a text file is one document, and this one is longer than {MAX_DOCUMENT_BYTES:,} "
            "bytes",
            "Split it into documents, as JSON lines or as several files",
        )
    yield data.removeprefix(_UTF8_MARK)


def _jsonl(file: InputFile, cursor: Cursor) -> Iterator[bytes]:
    with open_stream(file) as stream:
        while line := stream.buffered.readline(MAX_DOCUMENT_BYTES + 1):
            cursor.line += 1
            cursor.share = stream.share
            if len(line) > MAX_DOCUMENT_BYTES:
                raise _refuse(
                    file,
                    cursor,
                    f"the line is longer than {MAX_DOCUMENT_BYTES:,} bytes",
                    "Split the document, or check that each object stands on a line of its own",
                )
            if cursor.line == 1:
                line = line.removeprefix(_UTF8_MARK)
            if not line.isspace():
                yield _field(line, file, cursor)


def _field(line: bytes, file: InputFile, cursor: Cursor) -> bytes:
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        _decode(line, file, cursor)  # orjson calls bad UTF-8 bad JSON; the user needs the former
        raise _refuse(
            file, cursor, f"invalid JSON ({error})", "Each line must be one complete JSON object"
        ) from error
    if not isinstance(record, dict):
        raise _refuse(
            file,
            cursor,
            f"a JSON object is needed, found {type(record).__name__}",
            'Write one object per line, for example {"text": "..."}',
        )
    if file.text_field not in record:
        raise _refuse(
            file,
            cursor,
            f"no field {file.text_field!r}; the object has {sorted(record)[:10]}",
            "Set the domain's text_field to the one that holds the text",
        )
    text = record[file.text_field]
    if not isinstance(text, str):
        raise _refuse(
            file,
            cursor,
            f"field {file.text_field!r} is {type(text).__name__}, not text",
            "Set text_field to a field of text, or leave such objects out",
        )
    return text.encode()


def _parquet(file: InputFile, cursor: Cursor) -> Iterator[bytes]:
    # Imported here: pyarrow takes longer to load than all else that a reader of text needs.
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with file.filesystem.open(file.path, "rb") as raw:
            table = pq.ParquetFile(raw, pre_buffer=False, buffer_size=1 << 20)
            _check_column(table.schema_arrow, file, cursor)
            rows = max(1, table.metadata.num_rows)
            batches = table.iter_batches(
                batch_size=_batch_rows(table.metadata, file.text_field),
                columns=[file.text_field],
                use_threads=False,
            )
            for batch in batches:
                yield from _column(batch.column(0), file, cursor)
                cursor.share = cursor.line / rows
    except (pa.ArrowException, OSError) as error:
        raise _refuse(
            file, cursor, f"not a readable Parquet file ({error})", "Write or copy it again"
        ) from error


def _batch_rows(metadata: Any, column: str) -> int:
    """Rows that make about ``_BATCH_BYTES``: documents differ by orders of magnitude."""
    total: int = 0
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        for index in range(row_group.num_columns):
            chunk = row_group.column(index)
            if chunk.path_in_schema == column:
                total += int(chunk.total_uncompressed_size)
    mean: int = max(1, total // max(1, int(metadata.num_rows)))
    return max(1, min(65_536, _BATCH_BYTES // mean))


def _arrow(file: InputFile, cursor: Cursor) -> Iterator[bytes]:
    import pyarrow as pa

    try:
        with file.filesystem.open(file.path, "rb") as raw:
            magic = raw.read(6)
            raw.seek(0)
            if magic == b"ARROW1":  # the random-access format; saved datasets use the stream format
                reader = pa.ipc.open_file(raw)
                batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
            else:
                reader = pa.ipc.open_stream(raw)
                batches = iter(reader)
            index = _check_column(reader.schema, file, cursor)
            for batch in batches:
                yield from _column(batch.column(index), file, cursor)
                cursor.share = min(1.0, raw.tell() / max(1, file.size))
    except (pa.ArrowException, OSError) as error:
        raise _refuse(
            file, cursor, f"not a readable Arrow file ({error})", "Write or copy it again"
        ) from error


def _check_column(schema: Any, file: InputFile, cursor: Cursor) -> int:
    import pyarrow as pa

    index: int = int(schema.get_field_index(file.text_field))
    if index < 0:
        raise _refuse(
            file,
            cursor,
            f"no column {file.text_field!r}; the file has {schema.names[:10]}",
            "Set the domain's text_field to the one that holds the text",
        )
    kind = schema.field(index).type
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    if not any(is_text(value) for is_text in texts):
        raise _refuse(
            file,
            cursor,
            f"column {file.text_field!r} is {kind}, not text",
            "Set text_field to a column of strings",
        )
    return index


def _column(column: Any, file: InputFile, cursor: Cursor) -> Iterator[bytes]:
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    # As binary: Arrow does not check that strings are UTF-8, so the check stays ours.
    for value in column.cast(pa.large_binary()):
        cursor.line += 1
        data = value.as_py()
        if data is None:
            raise _refuse(
                file,
                cursor,
                f"column {file.text_field!r} is null",
                "Drop the rows without text",
            )
        yield data
