"""Preparation: from a corpus specification to a folder of memory-mapped arrays.

The folder is named after the digest of everything that goes into it, and appears under that name
only when it is complete. Preparing the same content again finds it there. Work in progress lies in
``.partial-<digest>``, guarded by a lock that the operating system releases when its holder dies;
whoever comes next carries on with the domains that are finished.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from cuvee.corpus.domains import (
    TRAIN_TEXT_BYTES,
    DomainPaths,
    Scan,
    pack_domain,
    scan_domain,
)
from cuvee.corpus.inputs import FORMAT_VERSION, InputHashes, corpus_digest, write_json
from cuvee.corpus.prepared import CONTENTS, TOKENIZER, domain_folder, open_corpus
from cuvee.corpus.sources import InputFile, find_files
from cuvee.corpus.tokenizer import (
    TextTokenizer,
    TokenizerFile,
    fingerprint,
    read_tokenizer_file,
)
from cuvee.records import CorpusManifest, DomainCensus
from cuvee.spec import CorpusSpec, DomainSource, FileTokenizer, TrainTokenizer

__all__ = ["prepare"]

ProgressCallback = Callable[[str, float], None]

_HASHED, _SCANNED, _TRAINED = 0.05, 0.25, 0.30
_LOCK_POLL_SECONDS = 0.2


def prepare(
    spec: CorpusSpec,
    root: Path,
    *,
    on_progress: ProgressCallback | None = None,
    data_roots: Sequence[str] | None = None,
) -> CorpusManifest:
    """Prepare a corpus under ``root/<digest>/``, or find it there.

    Memory is bounded by the sample that trains the tokenizer, one sorting bucket, two batches of a
    million characters in the tokenizer and the longest document. What grows with the input is 16
    bytes per document of a bucket, and 8 per document of the evaluation-only sets.

    Args:
        spec: Domains, tokenizer and held-out split.
        root: Folder of all prepared corpora.
        on_progress: Called often with a message and the share done, between 0 and 1. What it
            raises ends the preparation, which can be resumed.
        data_roots: Folders and URL prefixes that may be read; None allows everything.

    Returns:
        The manifest, with the digest that ``open_corpus`` needs.

    Raises:
        CorpusError: The text or the tokenizer cannot be used; says what, where and what to do.
    """
    report = on_progress or (lambda message, share: None)
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    tokenizer_file = (
        read_tokenizer_file(spec.tokenizer, data_roots)
        if isinstance(spec.tokenizer, FileTokenizer)
        else None
    )
    files = _identify(spec, root, report, data_roots)
    digest = corpus_digest(spec, files, fingerprint(spec.tokenizer, tokenizer_file))
    if not (root / digest / CONTENTS).exists():
        with _locked(root, digest, report):
            if not (root / digest / CONTENTS).exists():
                ordered = {name: [file for _, file in pairs] for name, pairs in files.items()}
                _Preparation(spec, root, digest, ordered, tokenizer_file, report).run()
    report("ready", 1.0)
    return open_corpus(root, digest).manifest


def _identify(
    spec: CorpusSpec,
    root: Path,
    report: ProgressCallback,
    data_roots: Sequence[str] | None,
) -> dict[str, list[tuple[str, InputFile]]]:
    """Find and hash all input files; by domain, in the order of their content's hash.

    That order makes the packed bytes depend on content alone, like the digest.
    """
    sources = (*spec.domains, *spec.evaluation_only)
    found = {source.name: find_files(source, data_roots) for source in sources}
    total = max(1, sum(file.size for files in found.values() for file in files))
    hashes = InputHashes(root)
    read = 0

    def count(size: int) -> None:
        nonlocal read
        read += size
        report("hashing the input", _HASHED * read / total)

    identified = {
        name: sorted(
            ((hashes.of(file, count), file) for file in files),
            key=lambda pair: (pair[0], pair[1].kind, pair[1].compression, pair[1].path),
        )
        for name, files in found.items()
    }
    hashes.save()
    return identified


@contextmanager
def _locked(root: Path, digest: str, report: ProgressCallback) -> Iterator[None]:
    """Hold the preparation lock of one digest; the system frees it when this process dies."""
    locks = root / ".locks"
    locks.mkdir(exist_ok=True)
    with (locks / digest).open("w") as handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                report("waiting: another process prepares the same corpus", _HASHED)
                time.sleep(_LOCK_POLL_SECONDS)
        yield


class _Preparation:
    """One preparation, under its lock."""

    def __init__(
        self,
        spec: CorpusSpec,
        root: Path,
        digest: str,
        files: dict[str, list[InputFile]],
        tokenizer_file: TokenizerFile | None,
        report: ProgressCallback,
    ) -> None:
        self._spec = spec
        self._digest = digest
        self._files = files
        self._tokenizer_file = tokenizer_file
        self._report = report
        self._final = root / digest
        self._work = root / f".partial-{digest}"
        self._scratch = self._work / "scratch"
        self._total = max(1, sum(f.size for each in files.values() for f in each))

    def run(self) -> None:
        self._scratch.mkdir(parents=True, exist_ok=True)
        # Sets that are never trained on come first: the training side must know their documents.
        scans = self._scan(self._spec.evaluation_only, None, 0)
        reserved = self._reserved()
        done = sum(self._size(s) for s in self._spec.evaluation_only)
        scans |= self._scan(self._spec.domains, reserved, done)
        tokenizer = self._tokenizer()
        done, census = 0, []
        for source in (*self._spec.domains, *self._spec.evaluation_only):
            trained = source in self._spec.domains
            census.append(
                pack_domain(
                    self._files[source.name],
                    self._paths(source),
                    self._spec.holdout,
                    scans[source.name],
                    tokenizer,
                    reserved=reserved if trained else None,
                    progress=self._progress(f"packing {source.name}", _TRAINED, 1.0, done, source),
                )
            )
            done += self._size(source)
        self._publish(census, tokenizer)

    def _scan(
        self,
        sources: Sequence[DomainSource],
        reserved: npt.NDArray[np.uint64] | None,
        done: int,
    ) -> dict[str, Scan]:
        scans: dict[str, Scan] = {}
        for source in sources:
            paths = self._paths(source)
            paths.folder.mkdir(parents=True, exist_ok=True)
            paths.scratch.mkdir(parents=True, exist_ok=True)
            scans[source.name] = scan_domain(
                self._files[source.name],
                paths,
                self._spec.holdout,
                max(TRAIN_TEXT_BYTES, self._sample_bytes()),
                reserved=reserved,
                progress=self._progress(f"reading {source.name}", _HASHED, _SCANNED, done, source),
            )
            done += self._size(source)
        return scans

    def _reserved(self) -> npt.NDArray[np.uint64]:
        """Sorted text keys of the documents that are never trained on."""
        keys = [
            np.fromfile(self._paths(source).text_keys, dtype=np.uint64)
            for source in self._spec.evaluation_only
        ]
        return np.unique(np.concatenate(keys)) if keys else np.empty(0, dtype=np.uint64)

    def _sample_bytes(self) -> int:
        tokenizer = self._spec.tokenizer
        if not isinstance(tokenizer, TrainTokenizer):
            return 0
        return -(-tokenizer.sample_bytes // len(self._spec.domains))

    def _tokenizer(self) -> TextTokenizer:
        path = self._work / TOKENIZER
        self._report("preparing the tokenizer", _SCANNED)
        if self._tokenizer_file is not None:
            tokenizer = self._tokenizer_file.open()
        elif isinstance(self._spec.tokenizer, TrainTokenizer):
            tokenizer = TextTokenizer.train(self._samples(), self._spec.tokenizer.vocab_size)
        else:
            tokenizer = TextTokenizer.bytes()
        tokenizer.save(path)
        return tokenizer

    def _samples(self) -> Iterator[str]:
        """The same number of bytes from every domain (all, from one that has fewer)."""
        for source in self._spec.domains:
            with self._paths(source).sample.open("rb") as sample:
                yield sample.read(self._sample_bytes()).decode(errors="ignore")

    def _publish(self, census: Sequence[DomainCensus], tokenizer: TextTokenizer) -> None:
        count = len(self._spec.domains)
        manifest = CorpusManifest(
            digest=self._digest,
            domains=tuple(census[:count]),
            evaluation_only=tuple(census[count:]),
            vocab_size=tokenizer.vocab_size,
            tokenizer_sha256=hashlib.sha256((self._work / TOKENIZER).read_bytes()).hexdigest(),
            format_version=FORMAT_VERSION,
        )
        write_json(
            self._work / CONTENTS,
            {
                "manifest": manifest.model_dump(),
                "eos_id": tokenizer.eos_id,
                "dtype": tokenizer.dtype.name,
            },
        )
        shutil.rmtree(self._scratch)
        if self._final.exists():  # without its contents file: somebody removed a part by hand
            shutil.rmtree(self._final)
        self._work.rename(self._final)
        parent = os.open(self._final.parent, os.O_RDONLY)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)

    def _paths(self, source: DomainSource) -> DomainPaths:
        return DomainPaths(
            domain_folder(self._work, source.name), self._scratch / quote(source.name, safe="")
        )

    def _size(self, source: DomainSource) -> int:
        return sum(file.size for file in self._files[source.name])

    def _progress(
        self, message: str, start: float, end: float, done: int, source: DomainSource
    ) -> Callable[[float], None]:
        size = self._size(source)

        def tell(share: float) -> None:
            overall = (done + share * size) / self._total
            self._report(message, min(end, start + (end - start) * overall))

        return tell
