"""Tokenizers lose nothing, never see special tokens in text, and are refused otherwise."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from cuvee.corpus.tokenizer import END_OF_DOCUMENT, TextTokenizer, read_tokenizer_file
from cuvee.errors import CorpusError
from cuvee.spec import FileTokenizer


@pytest.fixture(scope="module")
def trained(make_documents: Callable[..., list[str]]) -> TextTokenizer:
    return TextTokenizer.train(make_documents(0, 200), 400)


@pytest.fixture(scope="module")
def saved(trained: TextTokenizer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    trained.save(path)
    parsed: dict[str, Any] = json.loads(path.read_text())
    return parsed


def open_file(folder: Path, parsed: Any) -> TextTokenizer:
    (folder / "tokenizer.json").write_text(json.dumps(parsed))
    return read_tokenizer_file(FileTokenizer(path=str(folder / "tokenizer.json"))).open()


@given(text=st.text(max_size=200))
@settings(max_examples=200, deadline=None)
def test_text_survives_the_way_to_tokens_and_back(trained: TextTokenizer, text: str) -> None:
    for tokenizer in (trained, TextTokenizer.bytes()):
        (ids,) = tokenizer.encode([text])
        assert ids[-1] == tokenizer.eos_id
        assert ids.max() < tokenizer.vocab_size
        assert tokenizer.decode(ids) == text


@given(text=st.text(max_size=100))
@settings(max_examples=50, deadline=None)
def test_byte_tokens_are_the_bytes_also_when_read_back_from_the_saved_file(text: str) -> None:
    tokenizer = TextTokenizer.bytes()
    backend = Tokenizer.from_str(tokenizer._backend.to_str())
    backend.encode_special_tokens = True
    assert tokenizer.encode([text])[0].tolist() == [*text.encode(), 256]
    assert backend.encode(text, add_special_tokens=False).ids == list(text.encode())
    assert (tokenizer.vocab_size, tokenizer.eos_id, tokenizer.dtype) == (257, 256, np.uint16)


def test_the_end_of_document_token_cannot_be_written_into_a_document(
    trained: TextTokenizer,
) -> None:
    (ids,) = trained.encode([f"before {END_OF_DOCUMENT} after"])
    assert (ids == trained.eos_id).sum() == 1


def test_training_twice_gives_the_same_tokenizer(
    make_documents: Callable[..., list[str]], trained: TextTokenizer, saved: dict[str, Any]
) -> None:
    again = TextTokenizer.train(make_documents(0, 200), 400)
    assert json.loads(again._backend.to_str()) == saved
    assert trained.vocab_size == 400


def test_a_text_too_long_for_one_go_is_encoded_in_pieces_without_loss(
    trained: TextTokenizer,
) -> None:
    text = "word and ünïcode\n" * 70_000 + "x" * 600_000 + " end"
    short, long = trained.encode(["short", text])
    assert trained.decode(short) == "short"
    assert trained.decode(long) == text
    assert (long == trained.eos_id).sum() == 1


def test_a_tokenizer_file_is_opened_without_its_truncation_and_padding(
    tmp_path: Path, saved: dict[str, Any], trained: TextTokenizer
) -> None:
    backend = Tokenizer.from_str(json.dumps(saved))
    backend.enable_truncation(5)
    backend.enable_padding(length=64)
    text = "a text of rather more than five tokens"
    opened = open_file(tmp_path, json.loads(backend.to_str()))
    assert opened.encode([text])[0].tolist() == trained.encode([text])[0].tolist()


@pytest.mark.parametrize("stated", ["<stop>", {"content": "<stop>", "lstrip": False}])
def test_a_folder_states_its_end_of_document_token(
    tmp_path: Path, saved: dict[str, Any], stated: Any
) -> None:
    backend = Tokenizer.from_str(json.dumps(saved))
    backend.add_special_tokens(["<stop>"])
    (tmp_path / "tokenizer.json").write_text(backend.to_str())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": stated}))
    file = read_tokenizer_file(FileTokenizer(path=str(tmp_path)))
    assert file.eos == "<stop>"
    assert file.open().eos_id == backend.token_to_id("<stop>")


def word_level(saved: dict[str, Any]) -> str:
    backend = Tokenizer(models.WordLevel({"[UNK]": 0, "hello": 1}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.add_special_tokens(["</s>"])
    return str(backend.to_str())


def lower_casing(saved: dict[str, Any]) -> str:
    backend = Tokenizer.from_str(json.dumps(saved))
    backend.normalizer = normalizers.Lowercase()
    return str(backend.to_str())


def composing(saved: dict[str, Any]) -> str:
    backend = Tokenizer.from_str(json.dumps(saved))
    backend.normalizer = normalizers.NFC()
    return str(backend.to_str())


def without_rare_bytes(saved: dict[str, Any]) -> str:
    """A BPE over characters drops, without a word, those that it does not know."""
    backend = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate("abc ")}, merges=[]))
    backend.decoder = decoders.Fuse()
    backend.add_special_tokens(["</s>"])
    return str(backend.to_str())


def random_merges(saved: dict[str, Any]) -> str:
    return json.dumps(saved | {"model": saved["model"] | {"dropout": 0.1}})


def endless(saved: dict[str, Any]) -> str:
    return json.dumps(saved | {"added_tokens": []})


def broken_model(saved: dict[str, Any]) -> str:
    return json.dumps(saved | {"model": {"type": "Nonsense"}})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (word_level, r"unknown token '\[UNK\]'"),
        (lower_casing, "lossy: 'T.* comes back as 't"),
        (composing, "lossy"),
        (without_rare_bytes, "lossy"),
        (random_merges, "BPE dropout"),
        (endless, "no end-of-document token"),
        (broken_model, "not a tokenizer of the tokenizers library"),
        (lambda _: "{", "not a tokenizer.json"),
        (lambda _: "[]", "not a tokenizer.json"),
    ],
)
def test_unusable_tokenizers_are_refused(
    tmp_path: Path, saved: dict[str, Any], make: Callable[[Any], str], message: str
) -> None:
    (tmp_path / "tokenizer.json").write_text(make(saved))
    with pytest.raises(CorpusError, match=message):
        read_tokenizer_file(FileTokenizer(path=str(tmp_path))).open()


def test_a_missing_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"tokenizer\.json does not exist"):
        read_tokenizer_file(FileTokenizer(path=str(tmp_path)))
