"""What preparation refuses, with the domain, the file and the remedy; damage that is noticed."""

from __future__ import annotations

from pathlib import Path

import pytest
from corpus_specs import spec_of

from cuvee.corpus import open_corpus, prepare
from cuvee.errors import CorpusError
from cuvee.spec import Holdout


def test_an_empty_domain_is_refused(two: dict[str, Path], tmp_path: Path) -> None:
    two["b"].write_text('{"text": ""}\n')
    with pytest.raises(CorpusError, match=r"domain 'b' is empty: .* Check its paths") as caught:
        prepare(spec_of(two), tmp_path)
    assert caught.value.details["domain"] == "b"


def test_too_little_heldout_text_is_refused_with_the_numbers(
    two: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(
        CorpusError,
        match=r"domain 'a' has too little held-out text: [\d,]+ bytes in \d+ of 120 documents, and "
        r"holdout\.min_bytes asks for 90,000\. Raise holdout\.share \(now 0\.2\)",
    ):
        prepare(spec_of(two, holdout=Holdout(share=0.2, min_bytes=90_000)), tmp_path)


def test_a_domain_with_nothing_left_to_train_on_is_refused(
    two: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(CorpusError, match="'a' has no training text: all 120 of its documents"):
        prepare(spec_of({"a": two["a"], "b": two["b"]}, {"same": two["a"]}), tmp_path)


def test_a_bad_line_names_domain_file_and_line(two: dict[str, Path], tmp_path: Path) -> None:
    with two["b"].open("a") as out:
        out.write('{"txt": "x"}\n')
    with pytest.raises(CorpusError, match=r"domain 'b': .*b.jsonl, line 61: no field 'text'"):
        prepare(spec_of(two), tmp_path)


def test_input_that_changes_while_it_is_read_is_refused(
    two: dict[str, Path], tmp_path: Path
) -> None:
    def change(message: str, share: float) -> None:
        if message == "preparing the tokenizer":
            with two["a"].open("a") as out:
                out.write('{"text": "late"}\n')

    with pytest.raises(CorpusError, match=r"a.jsonl changed while it was read. Prepare again"):
        prepare(spec_of(two), tmp_path, on_progress=change)


def test_files_outside_the_allowed_roots_are_not_read(two: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="outside the folders that this server may read"):
        prepare(spec_of(two), tmp_path, data_roots=[str(tmp_path / "elsewhere")])
    prepare(spec_of(two), tmp_path, data_roots=[str(tmp_path / "in")])


def test_damage_to_a_prepared_corpus_is_noticed(two: dict[str, Path], tmp_path: Path) -> None:
    digest = prepare(spec_of(two), tmp_path).digest
    tokens = tmp_path / digest / "domains" / "a" / "train.tokens.bin"
    tokens.write_bytes(tokens.read_bytes()[:-2])
    with pytest.raises(CorpusError, match=r"damaged: [\d,]+ bytes expected.* prepare again"):
        open_corpus(tmp_path, digest).train_tokens("a")
    (tmp_path / digest / "corpus.json").write_text("{")
    with pytest.raises(CorpusError, match=r"corpus\.json is damaged"):
        open_corpus(tmp_path, digest)
