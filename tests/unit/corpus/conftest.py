"""Small corpora, written and prepared once per session."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from cuvee.corpus import PreparedCorpus, open_corpus, prepare
from cuvee.spec import ByteTokenizer, CorpusSpec, DomainSource, Holdout

WriteDomain = Callable[..., Path]


def documents(seed: int, count: int, words: int = 40) -> list[str]:
    """Distinct documents of made-up words."""
    rng = random.Random(seed)
    vocabulary = ["".join(rng.choices("abcdefgh", k=rng.randint(2, 7))) for _ in range(300)]
    return [f"{seed}.{i} " + " ".join(rng.choices(vocabulary, k=words)) for i in range(count)]


def write_jsonl(path: Path, texts: Sequence[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": t}) + "\n" for t in texts), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def make_documents() -> Callable[..., list[str]]:
    return documents


@pytest.fixture(scope="session")
def jsonl() -> Callable[[Path, Sequence[str]], Path]:
    return write_jsonl


@pytest.fixture(scope="session")
def small_spec(tmp_path_factory: pytest.TempPathFactory) -> CorpusSpec:
    """Three domains of different sizes, byte tokens."""
    folder = tmp_path_factory.mktemp("input")
    sizes = {"web": 400, "code/py": 120, "math": 40}
    return CorpusSpec(
        domains=tuple(
            DomainSource(
                name=name,
                paths=(str(write_jsonl(folder / f"{seed}.jsonl", documents(seed, count))),),
            )
            for seed, (name, count) in enumerate(sizes.items())
        ),
        tokenizer=ByteTokenizer(),
        holdout=Holdout(share=0.1, min_bytes=200),
    )


@pytest.fixture(scope="session")
def small_corpus(
    small_spec: CorpusSpec, tmp_path_factory: pytest.TempPathFactory
) -> PreparedCorpus:
    root = tmp_path_factory.mktemp("prepared")
    return open_corpus(root, prepare(small_spec, root).digest)


@pytest.fixture
def two(
    tmp_path: Path, jsonl: WriteDomain, make_documents: Callable[..., list[str]]
) -> dict[str, Path]:
    return {
        "a": jsonl(tmp_path / "in" / "a.jsonl", make_documents(1, 120)),
        "b": jsonl(tmp_path / "in" / "b.jsonl", make_documents(2, 60)),
    }
