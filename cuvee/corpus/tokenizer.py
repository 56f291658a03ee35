"""Tokenizers: trained here, given as a file, or plain bytes.

Bits per byte compares losses across tokenizers only when every text survives the way to tokens and
back. A tokenizer with an unknown token, or one that changes text, is therefore refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from cuvee.corpus.sources import inside_roots
from cuvee.errors import CorpusError
from cuvee.spec import ByteTokenizer, FileTokenizer, TokenizerSpec

__all__ = [
    "END_OF_DOCUMENT",
    "TextTokenizer",
    "TokenizerFile",
    "fingerprint",
    "read_tokenizer_file",
]

END_OF_DOCUMENT = "<|endoftext|>"
"""The end-of-document token of tokenizers made here."""

_KNOWN_ENDS = (END_OF_DOCUMENT, "<|end_of_text|>", "</s>", "<eos>", "<｜end▁of▁sentence｜>")
_PIECE_CHARACTERS = 500_000


class TextTokenizer:
    """Documents to arrays of token ids and back, without special tokens.

    Attributes:
        eos_id: The end-of-document token. Text that spells it out is encoded as ordinary text.
        vocab_size: One more than the largest id.
    """

    def __init__(
        self, backend: Tokenizer, eos_id: int | None, *, plain_bytes: bool = False
    ) -> None:
        if eos_id is None:
            raise ValueError("the end-of-document token is not in the vocabulary")
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True
        self._backend = backend
        self._plain_bytes = plain_bytes
        self.eos_id = eos_id
        self.vocab_size = max(backend.get_vocab(with_added_tokens=True).values()) + 1
        self.dtype = np.dtype(np.uint16 if self.vocab_size <= 1 << 16 else np.uint32)
        self._joins = plain_bytes or self._decode_joined(["one two\n", "\n three", " four"])

    def encode(self, texts: Sequence[str]) -> list[npt.NDArray[Any]]:
        """Token ids of each text, shape ``(tokens,)``, with the end-of-document token appended.

        Texts are encoded in parallel. A text beyond half a million characters is cut at a line or
        word and encoded in pieces, where that loses nothing: the backend keeps some hundred bytes
        per token while it works.
        """
        if self._plain_bytes:
            return [self._from_bytes(text.encode()) for text in texts]
        if all(len(text) <= _PIECE_CHARACTERS for text in texts) or not self._joins:
            encoded = self._backend.encode_batch_fast(texts, add_special_tokens=False)
            return [self._array(encoding.ids) for encoding in encoded]
        return [self._array(self._long(text)) for text in texts]

    def decode(self, ids: npt.NDArray[Any]) -> str:
        """The text of token ids; end-of-document tokens are left out."""
        kept = [int(i) for i in ids if i != self.eos_id]
        return str(self._backend.decode(kept, skip_special_tokens=False))

    def save(self, path: Path) -> None:
        """Write the ``tokenizer.json`` that the ``tokenizers`` library reads."""
        path.write_text(self._backend.to_str(pretty=False), encoding="utf-8")

    def check_lossless(self) -> None:
        """Raise unless text of every kind survives encoding and decoding.

        Raises:
            CorpusError: Showing a text that changes.
        """
        for text in _probes():
            back = self.decode(self.encode([text])[0])
            if back != text:
                raise CorpusError(
                    f"the tokenizer is lossy: {_difference(text, back)}. Losses per byte would not "
                    "be comparable. Use a byte-level tokenizer without normalisation, or "
                    'tokenizer {"kind": "train"}',
                    field="tokenizer",
                )

    def _array(self, ids: list[int]) -> npt.NDArray[Any]:
        array = np.empty(len(ids) + 1, dtype=self.dtype)
        array[:-1] = ids
        array[-1] = self.eos_id
        return array

    def _from_bytes(self, data: bytes) -> npt.NDArray[Any]:
        array = np.empty(len(data) + 1, dtype=self.dtype)
        array[:-1] = np.frombuffer(data, dtype=np.uint8)
        array[-1] = self.eos_id
        return array

    def _long(self, text: str) -> list[int]:
        ids: list[int] = []
        for piece in _pieces(text):
            ids += self._backend.encode_batch_fast([piece], add_special_tokens=False)[0].ids
        return ids

    def _decode_joined(self, parts: list[str]) -> bool:
        encoded = self._backend.encode_batch_fast(parts, add_special_tokens=False)
        return bool(self._backend.decode([i for e in encoded for i in e.ids]) == "".join(parts))

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> TextTokenizer:
        """Train a byte-level BPE; the same texts in the same order give the same tokenizer."""
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[END_OF_DOCUMENT],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        backend.train_from_iterator(texts, trainer)
        return cls(backend, backend.token_to_id(END_OF_DOCUMENT))

    @classmethod
    def bytes(cls) -> TextTokenizer:
        """256 bytes, each its own id, and the end-of-document token 256."""
        vocabulary = {character: i for i, character in enumerate(_byte_alphabet())}
        backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        backend.add_special_tokens([END_OF_DOCUMENT])
        return cls(backend, 256, plain_bytes=True)

    @classmethod
    def load(cls, path: Path, eos_id: int) -> TextTokenizer:
        """Open a tokenizer that a prepared corpus carries."""
        return cls(Tokenizer.from_file(str(path)), eos_id)


class TokenizerFile:
    """A user's ``tokenizer.json`` with its end-of-document token.

    Attributes:
        sha256: Of the file's bytes.
        eos: The end-of-document token as text.
    """

    def __init__(self, path: Path, content: bytes, eos: str) -> None:
        self.path = path
        self.sha256 = hashlib.sha256(content).hexdigest()
        self.eos = eos
        self._content = content

    def open(self) -> TextTokenizer:
        """Build the tokenizer.

        Raises:
            CorpusError: It cannot be loaded, is random, has an unknown token, or is lossy.
        """
        try:
            backend = Tokenizer.from_str(self._content.decode())
        except Exception as error:  # the Rust side raises plain Exception
            raise CorpusError(
                f"{self.path} is not a tokenizer of the tokenizers library ({error})",
                file=str(self.path),
                field="tokenizer",
            ) from error
        tokenizer = TextTokenizer(backend, backend.token_to_id(self.eos))
        unknown = _reachable_unknown(json.loads(self._content), tokenizer)
        if unknown is not None:
            raise CorpusError(
                f"{self.path} has the unknown token {unknown!r}: text it stands for is lost, so "
                "losses per byte mean nothing. Use a byte-level tokenizer, or "
                'tokenizer {"kind": "train"}',
                file=str(self.path),
                field="tokenizer",
            )
        tokenizer.check_lossless()
        return tokenizer


def read_tokenizer_file(
    spec: FileTokenizer, data_roots: Sequence[str] | None = None
) -> TokenizerFile:
    """Read a ``tokenizer.json``, or the one in a Hugging Face folder.

    Raises:
        CorpusError: No such file, outside ``data_roots`` (None allows everything), not JSON,
            random (BPE dropout), or no end-of-document token.
    """
    path = Path(spec.path)
    path = path / "tokenizer.json" if path.is_dir() else path
    if data_roots is not None and not inside_roots(path, data_roots):
        raise CorpusError(
            f"{path} lies outside the folders that this server may read "
            f"({', '.join(data_roots) or 'none'})",
            file=str(path),
            field="tokenizer.path",
        )
    if not path.is_file():
        raise CorpusError(
            f"{path} does not exist. Give a tokenizer.json or a folder that holds one (a folder "
            "with only vocab.json or tokenizer.model must be converted by saving the fast "
            "tokenizer with transformers)",
            file=str(path),
            field="tokenizer.path",
        )
    content = path.read_bytes()
    try:
        parsed = json.loads(content)
        vocabulary = {token["content"] for token in parsed.get("added_tokens", [])}
        model = parsed["model"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorpusError(
            f"{path} is not a tokenizer.json ({error})", file=str(path), field="tokenizer.path"
        ) from error
    if model.get("dropout"):
        raise CorpusError(
            f"{path} uses BPE dropout, so the same text gives different tokens. Set "
            '"dropout" to null in the file',
            file=str(path),
            field="tokenizer",
        )
    stated = _stated_end(path.parent)
    for token in (stated, *_KNOWN_ENDS):
        if token is not None and token in vocabulary:
            return TokenizerFile(path, content, token)
    raise CorpusError(
        f"{path} has no end-of-document token. State eos_token in a tokenizer_config.json beside "
        f"it, or add one of {list(_KNOWN_ENDS)} as a special token",
        file=str(path),
        field="tokenizer",
    )


def _stated_end(folder: Path) -> str | None:
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (folder / name).is_file():
            token = json.loads((folder / name).read_text(encoding="utf-8")).get("eos_token")
            if isinstance(token, dict):
                token = token.get("content")
            if isinstance(token, str):
                return token
    return None


def _reachable_unknown(parsed: Any, tokenizer: TextTokenizer) -> str | None:
    """The unknown token, if some text turns into it."""
    unknown = parsed["model"].get("unk_token")
    if parsed["model"].get("type") == "Unigram" and parsed["model"].get("unk_id") is not None:
        unknown = parsed["model"]["vocab"][parsed["model"]["unk_id"]][0]
    if not unknown:
        return None
    unknown_id = tokenizer._backend.token_to_id(unknown)
    reached = any(unknown_id in tokenizer.encode([text])[0][:-1] for text in _probes())
    return str(unknown) if reached else None


def _probes() -> Iterator[str]:
    """Texts that between them hold every byte of UTF-8 and the usual victims of normalisation."""
    yield 'The quick brown fox, 1234.5; it\'s "quoted" and CamelCase.'
    yield "  leading, trailing and  double  spaces  "
    yield "\tdef f(x):\n\t\treturn x\n\n\n    # four spaces\r\n"
    yield "cafe\u0301 caf\u00e9 \u212b \ufb01 \u2460 \u00a0 \u2003 \u200b \ufeff"
    yield "".join(chr(c) for c in range(128))
    # Every lead byte once with its first and last continuation, then all continuation bytes.
    yield "".join(chr(c) for c in range(0x80, 0x800))
    yield "".join(chr(c) for c in range(0x800, 0x10000, 0x3F) if not 0xD800 <= c < 0xE000)
    yield "".join(chr(c) for c in range(0x10000, 0x110000, 0xFFF))
    yield f"spelt out: {END_OF_DOCUMENT} </s> <s> [UNK] <unk> [CLS]"


def _difference(text: str, back: str) -> str:
    at = next(
        (i for i, (a, b) in enumerate(zip(text, back, strict=False)) if a != b),
        min(len(text), len(back)),
    )
    return f"{text[at : at + 12]!r} comes back as {back[at : at + 12]!r}"


def _pieces(text: str) -> Iterator[str]:
    """Cut a long text after a line end, else before a space, else anywhere."""
    start = 0
    while len(text) - start > _PIECE_CHARACTERS:
        limit = start + _PIECE_CHARACTERS
        cut = text.rfind("\n", start, limit) + 1 or text.rfind(" ", start + 1, limit)
        end = cut if cut > start else limit
        yield text[start:end]
        start = end
    yield text[start:]


def _byte_alphabet() -> list[str]:
    """The character that byte-level pre-tokenisation uses for each byte, in order of bytes.

    Printable Latin-1 characters stand for themselves; the others are moved up from 256 in order.
    """
    kept = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    moved = iter(range(256, 512))
    return [chr(byte if byte in kept else next(moved)) for byte in range(256)]


def fingerprint(spec: TokenizerSpec, file: TokenizerFile | None) -> dict[str, Any]:
    """What of the tokenizer enters the corpus digest: content, never paths."""
    if isinstance(spec, FileTokenizer):
        assert file is not None
        return {"kind": "file", "sha256": file.sha256, "eos": file.eos}
    if isinstance(spec, ByteTokenizer):
        return {"kind": "bytes"}
    return spec.model_dump()
