"""Preparation: what is counted, split and packed; by content, in any order, through any crash."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from corpus_specs import spec_of

from cuvee.corpus import PreparedCorpus, open_corpus, prepare
from cuvee.corpus.readers import MAX_DOCUMENT_BYTES
from cuvee.errors import NotFoundError
from cuvee.records import CorpusManifest
from cuvee.spec import (
    CorpusSpec,
    FileTokenizer,
    Holdout,
    TrainTokenizer,
)

Jsonl = Callable[..., Path]
MakeDocuments = Callable[..., list[str]]


def train_documents(corpus: PreparedCorpus, name: str) -> list[str]:
    """Documents of a byte-tokenized domain, in packed order."""
    return split_tokens(corpus.train_tokens(name), corpus.eos_id)


def split_tokens(tokens: np.ndarray, eos: int) -> list[str]:
    ends = np.flatnonzero(tokens == eos)
    starts = [0, *(ends[:-1] + 1).tolist()]
    return [bytes(tokens[a:b].tolist()).decode() for a, b in zip(starts, ends, strict=True)]


def heldout_documents(corpus: PreparedCorpus, name: str) -> list[str]:
    text = corpus.heldout_text(name)
    return [bytes(text.data[a:b]).decode() for a, b in pairwise(text.offsets)]


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# ------------------------------------------------------------------------------------------------
# What is prepared


def test_every_document_is_packed_once_on_one_side_and_counted(
    two: dict[str, Path], tmp_path: Path, make_documents: MakeDocuments
) -> None:
    corpus = open_corpus(tmp_path, prepare(spec_of(two), tmp_path).digest)
    for seed, census in enumerate(corpus.manifest.domains, start=1):
        texts = make_documents(seed, 120 // seed)
        train, held = train_documents(corpus, census.name), heldout_documents(corpus, census.name)
        assert sorted(train + held) == sorted(texts)
        assert census.documents == len(train)
        assert census.bytes == sum(len(t.encode()) for t in train)
        assert census.tokens == census.bytes + census.documents
        assert census.heldout_documents == len(held)
        assert census.heldout_bytes == sum(len(t.encode()) for t in held)
        assert census.heldout_tokens == census.heldout_bytes + census.heldout_documents
        assert census.duplicates == 0


def test_heldout_tokens_and_text_are_the_same_documents(small_corpus: PreparedCorpus) -> None:
    for name in small_corpus.manifest.eval_sets:
        held = small_corpus.heldout(name)
        assert split_tokens(held.tokens, small_corpus.eos_id) == heldout_documents(
            small_corpus, name
        )
        assert (np.diff(held.offsets) == held.doc_bytes + 1).all()
        assert (held.tokens[held.offsets[1:] - 1] == small_corpus.eos_id).all()


def test_training_text_is_what_comes_first_in_the_packed_tokens(
    small_corpus: PreparedCorpus,
) -> None:
    for name in small_corpus.manifest.names:
        text = bytes(small_corpus.train_text(name)).decode()
        assert text == "\n".join(train_documents(small_corpus, name))


def test_packed_order_is_not_the_order_of_the_file(small_corpus: PreparedCorpus) -> None:
    numbers = [
        int(text.split(".", 1)[1].split()[0]) for text in train_documents(small_corpus, "web")
    ]
    assert abs(np.corrcoef(np.arange(len(numbers)), numbers)[0, 1]) < 0.3


def test_duplicates_are_counted_and_never_stand_on_both_sides(
    tmp_path: Path, jsonl: Jsonl, make_documents: MakeDocuments
) -> None:
    once, again = make_documents(1, 100), make_documents(2, 60)
    paths = {
        "a": jsonl(tmp_path / "a.jsonl", once * 2 + again),
        "b": jsonl(tmp_path / "b.jsonl", again + once[:50]),
    }
    corpus = open_corpus(tmp_path, prepare(spec_of(paths), tmp_path).digest)
    train = {t for name in "ab" for t in train_documents(corpus, name)}
    held = {t for name in "ab" for t in heldout_documents(corpus, name)}
    assert not train & held
    assert train | held == {*once, *again}
    assert [d.duplicates for d in corpus.manifest.domains] == [100, 0]


def test_an_evaluation_only_set_is_held_out_whole_and_trained_on_nowhere(
    two: dict[str, Path], tmp_path: Path, jsonl: Jsonl, make_documents: MakeDocuments
) -> None:
    exam = make_documents(1, 30) + make_documents(9, 20)
    paths = {"exam": jsonl(tmp_path / "exam.jsonl", exam)}
    corpus = open_corpus(tmp_path, prepare(spec_of(two, paths), tmp_path).digest)
    assert corpus.manifest.names == ("a", "b")
    assert corpus.manifest.eval_sets == ("a", "b", "exam")
    assert sorted(heldout_documents(corpus, "exam")) == sorted(exam)
    (census,) = corpus.manifest.evaluation_only
    assert (census.documents, census.tokens, census.heldout_documents) == (0, 0, 50)
    assert not set(exam) & set(train_documents(corpus, "a"))
    assert set(make_documents(1, 30)) <= set(heldout_documents(corpus, "a"))
    with pytest.raises(NotFoundError, match="no 'exam'"):
        corpus.train_tokens("exam")


def test_a_trained_tokenizer_serves_the_whole_corpus(two: dict[str, Path], tmp_path: Path) -> None:
    tokenizer = TrainTokenizer(vocab_size=320, sample_bytes=10_000)
    manifest = prepare(spec_of(two, tokenizer=tokenizer), tmp_path)
    corpus = open_corpus(tmp_path, manifest.digest)
    assert manifest.vocab_size == 320
    for census in manifest.domains:
        assert census.tokens < census.bytes
        assert corpus.train_tokens(census.name).max() < 320
    # The same file given as a tokenizer gives the same tokens.
    given = FileTokenizer(path=str(corpus.tokenizer_path))
    again = open_corpus(tmp_path, prepare(spec_of(two, tokenizer=given), tmp_path).digest)
    assert again.manifest.digest != manifest.digest
    assert again.manifest.tokenizer_sha256 == manifest.tokenizer_sha256
    assert (again.train_tokens("a") == corpus.train_tokens("a")).all()


def test_large_vocabularies_take_four_bytes_a_token(two: dict[str, Path], tmp_path: Path) -> None:
    corpus = open_corpus(tmp_path, prepare(spec_of(two), tmp_path).digest)
    parsed = json.loads(corpus.tokenizer_path.read_text())
    filler = {f"filler{i}": 257 + i for i in range(70_000)}
    parsed["model"]["vocab"] |= {"<|endoftext|>": corpus.eos_id} | filler
    (tmp_path / "big.json").write_text(json.dumps(parsed))
    spec = spec_of(two, tokenizer=FileTokenizer(path=str(tmp_path / "big.json")))
    big = open_corpus(tmp_path, prepare(spec, tmp_path).digest)
    assert big.manifest.vocab_size == 70_257
    assert big.train_tokens("a").dtype == np.uint32
    assert big.train_tokens("a").tolist() == corpus.train_tokens("a").tolist()


def test_a_long_document_passes_whole(
    tmp_path: Path, jsonl: Jsonl, make_documents: MakeDocuments
) -> None:
    book = "a line of a long book\n" * (MAX_DOCUMENT_BYTES // 64)
    paths = {
        "a": jsonl(tmp_path / "a.jsonl", [book, *make_documents(1, 60)]),
        "b": jsonl(tmp_path / "b.jsonl", make_documents(2, 60)),
    }
    corpus = open_corpus(tmp_path, prepare(spec_of(paths), tmp_path).digest)
    assert book in train_documents(corpus, "a") + heldout_documents(corpus, "a")


# ------------------------------------------------------------------------------------------------
# By content


def test_preparing_again_reads_nothing(two: dict[str, Path], tmp_path: Path) -> None:
    first = prepare(spec_of(two), tmp_path)
    age(two)  # a file written this very second is not trusted to stay as it is
    prepare(spec_of(two), tmp_path)
    before = contents(tmp_path / first.digest)
    for path in two.values():
        stat = path.stat()
        path.write_bytes(b"x" * stat.st_size)  # refused if read, but size and time say unchanged
        set_time(path, stat.st_mtime_ns)
    assert prepare(spec_of(two), tmp_path) == first
    assert contents(tmp_path / first.digest) == before


def age(paths: dict[str, Path]) -> None:
    for path in paths.values():
        set_time(path, path.stat().st_mtime_ns - 10**10)


def set_time(path: Path, nanoseconds: int) -> None:
    os.utime(path, ns=(nanoseconds, nanoseconds))


def test_the_digest_and_the_bytes_depend_on_content_and_not_on_paths(
    tmp_path: Path, jsonl: Jsonl, make_documents: MakeDocuments
) -> None:
    texts = make_documents(1, 90)
    other = jsonl(tmp_path / "other.jsonl", make_documents(2, 60))
    jsonl(tmp_path / "x" / "1.jsonl", texts[:40])
    jsonl(tmp_path / "x" / "2.jsonl", texts[40:])
    jsonl(tmp_path / "y" / "deep" / "zzz.jsonl", texts[:40])
    jsonl(tmp_path / "y" / "aaa.jsonl", texts[40:])
    x = prepare(spec_of({"a": tmp_path / "x", "b": other}), tmp_path / "root x")
    y = prepare(spec_of({"a": tmp_path / "y", "b": other}), tmp_path / "root y")
    assert x == y
    assert contents(tmp_path / "root x" / x.digest) == contents(tmp_path / "root y" / y.digest)


def test_whatever_changes_the_result_changes_the_digest(
    two: dict[str, Path], tmp_path: Path, jsonl: Jsonl, make_documents: MakeDocuments
) -> None:
    def digest(spec: CorpusSpec) -> str:
        return prepare(spec, tmp_path).digest

    renamed = {"a": two["a"], "c": two["b"]}
    digests = [
        digest(spec_of(two)),
        digest(spec_of(renamed)),
        digest(spec_of(dict(reversed(two.items())))),
        digest(spec_of(two, holdout=Holdout(share=0.3, min_bytes=100))),
        digest(spec_of(two, tokenizer=TrainTokenizer(vocab_size=300, sample_bytes=10_000))),
        digest(
            spec_of({"a": two["a"]} | {"b": jsonl(tmp_path / "n.jsonl", make_documents(3, 60))})
        ),
    ]
    jsonl(two["a"], make_documents(1, 121))
    digests.append(digest(spec_of(two)))
    assert len(set(digests)) == len(digests)


# ------------------------------------------------------------------------------------------------
# Interruption and company

KILLED = """
import os, signal, sys
from pathlib import Path
from cuvee.corpus import prepare
from cuvee.spec import CorpusSpec

def progress(message, share):
    if message == sys.argv[3]:
        os.kill(os.getpid(), signal.SIGKILL)

prepare(CorpusSpec.model_validate_json(sys.argv[1]), Path(sys.argv[2]), on_progress=progress)
"""


@pytest.mark.parametrize(
    "moment", ["hashing the input", "reading b", "preparing the tokenizer", "packing b"]
)
def test_a_killed_preparation_is_carried_on_to_the_same_bytes(
    two: dict[str, Path], tmp_path: Path, moment: str
) -> None:
    spec = spec_of(two, tokenizer=TrainTokenizer(vocab_size=300, sample_bytes=20_000))
    whole = prepare(spec, tmp_path / "whole")
    root = tmp_path / "killed"
    done = subprocess.run(
        [sys.executable, "-c", KILLED, spec.model_dump_json(), str(root), moment], check=False
    )
    assert done.returncode == -signal.SIGKILL
    with pytest.raises(NotFoundError, match="prepare it first"):
        open_corpus(root, whole.digest)
    messages: list[str] = []
    again = prepare(spec, root, on_progress=lambda message, share: messages.append(message))
    assert again == whole
    assert contents(root / whole.digest) == contents(tmp_path / "whole" / whole.digest)
    assert not list(root.glob(".partial-*"))
    if moment == "packing b":  # what was finished before is not done again
        assert not {"reading a", "reading b", "packing a"} & set(messages)


def test_an_interrupted_preparation_lets_go_of_its_lock(
    two: dict[str, Path], tmp_path: Path
) -> None:
    def stop(message: str, share: float) -> None:
        if message == "packing a":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(spec_of(two), tmp_path, on_progress=stop)
    assert prepare(spec_of(two), tmp_path).names == ("a", "b")


def test_two_preparers_at_once_agree(two: dict[str, Path], tmp_path: Path) -> None:
    found: list[CorpusManifest] = []
    waited: list[str] = []
    inside, seen = threading.Event(), threading.Event()

    def first_progress(message: str, share: float) -> None:
        if message == "packing a":
            inside.set()
            assert seen.wait(30)

    def second_progress(message: str, share: float) -> None:
        waited.append(message)
        if message.startswith("waiting"):
            seen.set()

    first = threading.Thread(
        target=lambda: found.append(prepare(spec_of(two), tmp_path, on_progress=first_progress))
    )
    first.start()
    assert inside.wait(30)
    found.append(prepare(spec_of(two), tmp_path, on_progress=second_progress))
    first.join()
    assert found[0] == found[1]
    assert "waiting: another process prepares the same corpus" in waited
    assert not any(message.startswith("packing") for message in waited)


def test_progress_grows_to_one(two: dict[str, Path], tmp_path: Path) -> None:
    shares: list[float] = []
    prepare(spec_of(two), tmp_path, on_progress=lambda message, share: shares.append(share))
    assert shares == sorted(shares)
    assert shares[0] > 0
    assert shares[-1] == 1.0
    assert len(shares) > 6
