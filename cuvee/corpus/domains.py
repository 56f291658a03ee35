"""One domain's way from files to packed arrays: scan, then pack.

*Scan* reads every document once: it counts, splits off the held-out side, and keeps a sample of the
training side, from which the tokenizer is trained. *Pack* reads again and writes tokens. Each ends
with a small JSON file, written last, so that an interrupted preparation repeats only the domain and
step that it was in.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cuvee.corpus.encode import encode_keyed
from cuvee.corpus.inputs import write_json
from cuvee.corpus.keys import count_duplicates, document_key
from cuvee.corpus.readers import Cursor, Document, read_documents
from cuvee.corpus.shuffle import ShuffledWriter, sync
from cuvee.corpus.sources import InputFile
from cuvee.corpus.split import Sample, Split, check_split
from cuvee.corpus.tokenizer import TextTokenizer
from cuvee.errors import CorpusError
from cuvee.records import DomainCensus
from cuvee.spec import Holdout

__all__ = ["TRAIN_TEXT_BYTES", "DomainPaths", "Scan", "pack_domain", "scan_domain"]

TRAIN_TEXT_BYTES = 8_000_000
"""Training text kept per domain for the n-gram rung."""

_REPORT_BYTES = 1 << 20

_INFLATION = 3
"""Guess of text bytes per stored byte, for choosing a number of buckets."""

Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class DomainPaths:
    """Files of one domain: ``folder`` is kept, ``scratch`` goes when the corpus is complete."""

    folder: Path
    scratch: Path

    @property
    def train_tokens(self) -> Path:
        return self.folder / "train.tokens.bin"

    @property
    def train_text(self) -> Path:
        return self.folder / "train.text.bin"

    @property
    def heldout_tokens(self) -> Path:
        return self.folder / "heldout.tokens.bin"

    @property
    def heldout_offsets(self) -> Path:
        return self.folder / "heldout.tokens.offsets.bin"

    @property
    def heldout_text(self) -> Path:
        return self.folder / "heldout.text.bin"

    @property
    def heldout_text_offsets(self) -> Path:
        return self.folder / "heldout.text.offsets.bin"

    @property
    def text_keys(self) -> Path:
        return self.scratch / "keys.bin"

    @property
    def sample(self) -> Path:
        return self.scratch / "sample.bin"

    @property
    def scanned(self) -> Path:
        return self.scratch / "scan.json"

    @property
    def packed(self) -> Path:
        return self.scratch / "census.json"


@dataclass(frozen=True, slots=True)
class Scan:
    """What the first reading of a domain counted."""

    documents: int
    bytes: int
    heldout_documents: int
    heldout_bytes: int
    duplicates: int


def scan_domain(
    files: Sequence[InputFile],
    paths: DomainPaths,
    holdout: Holdout,
    sample_bytes: int,
    *,
    reserved: npt.NDArray[np.uint64] | None,
    progress: Progress,
) -> Scan:
    """Count a domain, write its held-out text and a sample of its training text.

    Args:
        files: Its input files, in reading order.
        paths: Where to write.
        holdout: Share and least size of the held-out side.
        sample_bytes: Size of the training sample, at least ``TRAIN_TEXT_BYTES``.
        reserved: Sorted text keys of the evaluation-only sets, which are never trained on; None for
            an evaluation-only set itself, all of which is held out.
        progress: Told the share done.

    Raises:
        CorpusError: Unreadable input, no document, no training text, or too little held-out text.
    """
    if paths.scanned.exists():
        return Scan(**json.loads(paths.scanned.read_text(encoding="utf-8")))
    domain = files[0].domain
    sample = Sample(sample_bytes)
    documents = size = heldout_documents = heldout_size = 0
    split = Split(holdout.share, reserved)
    stored = sum(file.size for file in files)
    heldout_share = 1.0 if reserved is None else holdout.share
    heldout = ShuffledWriter(
        paths.scratch / "heldout", np.uint8, round(stored * heldout_share * _INFLATION)
    )
    try:
        with paths.text_keys.open("wb") as keys:
            for document, text_key, place in _numbered(files, progress):
                keys.write(text_key.to_bytes(8, "little"))
                if split.held_out(text_key):
                    heldout.add(place, document.data)
                    heldout_documents += 1
                    heldout_size += len(document.data)
                else:
                    sample.add(place, document.data)
                    documents += 1
                    size += len(document.data)
        check_split(
            domain, holdout, reserved is not None, documents, heldout_documents, heldout_size
        )
        heldout.finish(paths.heldout_text, paths.heldout_text_offsets)
    finally:
        heldout.close()
    with paths.sample.open("wb") as out, paths.train_text.open("wb") as text:
        joined = sample.joined()
        out.write(joined)
        text.write(joined[:TRAIN_TEXT_BYTES])
        sync(text)
        sync(out)
    scan = Scan(documents, size, heldout_documents, heldout_size, count_duplicates(paths.text_keys))
    write_json(paths.scanned, asdict(scan))
    return scan


def pack_domain(
    files: Sequence[InputFile],
    paths: DomainPaths,
    holdout: Holdout,
    scan: Scan,
    tokenizer: TextTokenizer,
    *,
    reserved: npt.NDArray[np.uint64] | None,
    progress: Progress,
) -> DomainCensus:
    """Write a domain's training tokens and held-out tokens, and count them.

    Raises:
        CorpusError: Unreadable input, or input that changed since the scan.
    """
    if paths.packed.exists():
        return DomainCensus.model_validate_json(paths.packed.read_text(encoding="utf-8"))
    tokens = 0
    if reserved is not None:
        split = Split(holdout.share, reserved)
        keyed = (
            (place, document.text)
            for document, text_key, place in _numbered(files, progress)
            if not split.held_out(text_key)
        )
        packed = ShuffledWriter(
            paths.scratch / "train", tokenizer.dtype, scan.bytes * tokenizer.dtype.itemsize // 2
        )
        documents = 0
        try:
            for place, ids in encode_keyed(tokenizer, keyed):
                packed.add(place, ids)
                tokens += len(ids)
                documents += 1
            if documents != scan.documents:
                raise CorpusError(
                    f"domain {files[0].domain!r}: the input changed while it was read "
                    f"({scan.documents} training documents, then {documents}). Prepare again once "
                    "nothing writes to it",
                    domain=files[0].domain,
                )
            packed.finish(paths.train_tokens)
        finally:
            packed.close()
    else:
        paths.train_tokens.write_bytes(b"")
    heldout_tokens = _pack_heldout(paths, tokenizer)
    census = DomainCensus(
        name=files[0].domain,
        documents=scan.documents,
        bytes=scan.bytes,
        tokens=tokens,
        heldout_documents=scan.heldout_documents,
        heldout_bytes=scan.heldout_bytes,
        heldout_tokens=heldout_tokens,
        duplicates=scan.duplicates,
    )
    write_json(paths.packed, census.model_dump())
    progress(1.0)
    return census


def _numbered(
    files: Sequence[InputFile], progress: Progress
) -> Iterator[tuple[Document, int, int]]:
    """Every document with its text key and its place, checking that no file changes meanwhile."""
    total = max(1, sum(file.size for file in files))
    before = number = unreported = 0
    for file in files:
        cursor = Cursor()
        for document in read_documents(file, cursor):
            key = document_key(document.data, number)
            number += 1
            unreported += len(document.data)
            if unreported >= _REPORT_BYTES:
                unreported = 0
                progress((before + cursor.share * file.size) / total)
            yield document, key.text, key.place
        if file.current_stamp() != file.stamp:
            raise CorpusError(
                f"domain {file.domain!r}: {file.path} changed while it was read. Prepare again "
                "once nothing writes to it",
                domain=file.domain,
                file=file.path,
            )
        before += file.size
        progress(before / total)


def _pack_heldout(paths: DomainPaths, tokenizer: TextTokenizer) -> int:
    """Tokens of the held-out text, in the order of the text; returns how many."""
    data = np.memmap(paths.heldout_text, dtype=np.uint8, mode="r")
    bounds = np.fromfile(paths.heldout_text_offsets, dtype=np.int64)
    texts = (
        (number, data[start:end].tobytes().decode())
        for number, (start, end) in enumerate(pairwise(bounds))
    )
    position = 0
    with paths.heldout_tokens.open("wb") as out, paths.heldout_offsets.open("wb") as marks:
        marks.write(position.to_bytes(8, "little"))
        for _, ids in encode_keyed(tokenizer, texts):
            out.write(ids.tobytes())
            position += len(ids)
            marks.write(position.to_bytes(8, "little"))
        sync(out)
        sync(marks)
    return position
