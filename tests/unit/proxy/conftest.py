"""Real text for the rungs: a prepared corpus, and one in memory for exact little cases."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from cuvee.corpus import HeldOutText, PreparedCorpus, open_corpus, prepare
from cuvee.records import CorpusManifest, DomainCensus
from cuvee.spec import (
    ByteTokenizer,
    CorpusSpec,
    DomainSource,
    Holdout,
    TokenizerSpec,
    TrainTokenizer,
)

DOMAINS = ("code", "prose", "tables")


@dataclass
class MemoryCorpus:
    """What the n-gram rung reads of a corpus: text, and a manifest that names it."""

    train: Mapping[str, Sequence[bytes]]
    held: Mapping[str, Sequence[bytes]]
    manifest: CorpusManifest = field(init=False)

    def __post_init__(self) -> None:
        self.manifest = CorpusManifest(
            digest=f"memory-{id(self)}",
            domains=tuple(
                DomainCensus(
                    name=name,
                    documents=len(documents),
                    bytes=sum(map(len, documents)),
                    tokens=sum(map(len, documents)) + len(documents),
                    heldout_documents=len(self.held[name]),
                    heldout_bytes=sum(map(len, self.held[name])),
                    heldout_tokens=sum(map(len, self.held[name])) + len(self.held[name]),
                )
                for name, documents in self.train.items()
            ),
            vocab_size=257,
            tokenizer_sha256="0" * 64,
        )

    def train_text(self, name: str) -> np.ndarray:
        return np.frombuffer(b"\n".join(self.train[name]), dtype=np.uint8)

    def heldout_text(self, name: str) -> HeldOutText:
        documents = self.held[name]
        return HeldOutText(
            np.frombuffer(b"".join(documents), dtype=np.uint8),
            np.cumsum([0, *map(len, documents)], dtype=np.int64),
        )


def _documents(lines: Iterator[str], size: int, most: int) -> list[str]:
    """Join lines to documents of at least ``size`` characters, ``most`` in all."""
    documents: list[str] = []
    current = ""
    for line in lines:
        current += line
        if len(current) >= size:
            documents.append(current)
            current = ""
        if len(documents) == most:
            break
    return documents


def _source(module: str) -> list[str]:
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).read_text(encoding="utf-8").splitlines(keepends=True)


@pytest.fixture(scope="session")
def real_documents() -> dict[str, list[str]]:
    """Python code, English documentation and character tables, from the standard library."""
    code = (line for m in ("argparse", "datetime", "typing", "tarfile") for line in _source(m))
    prose = (
        line.strip(" '\"").replace("\\n'", "\n").replace("\\n", "\n")
        for line in _source("pydoc_data.topics")
    )
    tables = (line for m in ("cp1250", "cp437", "koi8_r") for line in _source(f"encodings.{m}"))
    return {
        "code": _documents(code, 900, 200),
        "prose": _documents(prose, 900, 200),
        "tables": _documents(tables, 900, 100),
    }


@pytest.fixture(scope="session")
def memory_corpus(real_documents: dict[str, list[str]]) -> MemoryCorpus:
    encoded = {name: [d.encode() for d in ds] for name, ds in real_documents.items()}
    return MemoryCorpus(
        train={n: [d for i, d in enumerate(ds) if i % 8] for n, ds in encoded.items()},
        held={n: ds[::8] for n, ds in encoded.items()},
    )


def _prepare(
    folder: Path, documents: dict[str, list[str]], tokenizer: TokenizerSpec
) -> PreparedCorpus:
    sources = []
    for name, texts in documents.items():
        path = folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps({"text": t}) + "\n" for t in texts), encoding="utf-8")
        sources.append(DomainSource(name=name, paths=(str(path),)))
    spec = CorpusSpec(
        domains=tuple(sources), tokenizer=tokenizer, holdout=Holdout(share=0.15, min_bytes=2000)
    )
    return open_corpus(folder / "corpora", prepare(spec, folder / "corpora").digest)


@pytest.fixture(scope="session")
def byte_corpus(
    tmp_path_factory: pytest.TempPathFactory, real_documents: dict[str, list[str]]
) -> PreparedCorpus:
    """The real text, tokenised as bytes."""
    return _prepare(tmp_path_factory.mktemp("bytes"), real_documents, ByteTokenizer())


@pytest.fixture(scope="session")
def bpe_corpus(
    tmp_path_factory: pytest.TempPathFactory, real_documents: dict[str, list[str]]
) -> PreparedCorpus:
    """The real text, tokenised by a small byte-level BPE."""
    tokenizer = TrainTokenizer(vocab_size=400, sample_bytes=100_000)
    return _prepare(tmp_path_factory.mktemp("bpe"), real_documents, tokenizer)
