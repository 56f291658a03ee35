"""A prepared corpus: memory-mapped tokens and text, opened by digest."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from cuvee.corpus.domains import DomainPaths
from cuvee.errors import CorpusError, NotFoundError
from cuvee.records import CorpusManifest, DomainCensus

__all__ = ["HeldOut", "HeldOutText", "PreparedCorpus", "domain_folder", "open_corpus"]

CONTENTS = "corpus.json"
TOKENIZER = "tokenizer.json"


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Held-out tokens of one evaluation set.

    Attributes:
        tokens: Shape ``(tokens,)``, documents one after another. Each ends with the end-of-document
            token; none begins with one.
        offsets: int64, shape ``(documents + 1,)``: document d is
            ``tokens[offsets[d]:offsets[d + 1]]``.
        doc_bytes: int64, shape ``(documents,)``: UTF-8 bytes of each document's text.

    Documents stand in the order of a hash, so the first so many are a random sample.
    """

    tokens: npt.NDArray[Any]
    offsets: npt.NDArray[np.int64]
    doc_bytes: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class HeldOutText:
    """The same documents as UTF-8: ``data`` uint8 ``(bytes,)``, ``offsets`` int64 ``(d + 1,)``."""

    data: npt.NDArray[np.uint8]
    offsets: npt.NDArray[np.int64]


class PreparedCorpus:
    """Read-only access to a prepared corpus. Arrays are memory-mapped; nothing is loaded whole.

    Attributes:
        manifest: Census of every domain, vocabulary, digest.
        eos_id: The end-of-document token.
        tokenizer_path: A ``tokenizer.json``.
    """

    def __init__(self, folder: Path, contents: dict[str, Any]) -> None:
        self.manifest = CorpusManifest.model_validate(contents["manifest"])
        self.eos_id = int(contents["eos_id"])
        self.tokenizer_path = folder / TOKENIZER
        self._folder = folder
        self._dtype = np.dtype(contents["dtype"])

    def train_tokens(self, name: str) -> npt.NDArray[Any]:
        """Training tokens of a domain, uint16 or uint32 ``(tokens,)``.

        Each document ends with the end-of-document token. Documents stand in the order of a hash:
        any prefix is a random subset, and a shorter prefix is part of a longer one.

        Raises:
            NotFoundError: No such domain.
            CorpusError: The file is damaged.
        """
        census = self._census(name, self.manifest.domains)
        return self._map(self._paths(name).train_tokens, self._dtype, census.tokens)

    def train_text(self, name: str) -> npt.NDArray[np.uint8]:
        """Up to 8 MB of a domain's training text, uint8 ``(bytes,)``.

        The documents that come first in ``train_tokens``, joined by newlines; the last may be cut.
        """
        self._census(name, self.manifest.domains)
        path = self._paths(name).train_text
        return self._map(path, np.dtype(np.uint8), path.stat().st_size)

    def heldout(self, eval_set: str) -> HeldOut:
        """Held-out tokens of an evaluation set."""
        census = self._census(eval_set, (*self.manifest.domains, *self.manifest.evaluation_only))
        paths = self._paths(eval_set)
        int64 = np.dtype(np.int64)
        bounds = self._map(paths.heldout_text_offsets, int64, census.heldout_documents + 1)
        return HeldOut(
            tokens=self._map(paths.heldout_tokens, self._dtype, census.heldout_tokens),
            offsets=self._map(paths.heldout_offsets, int64, census.heldout_documents + 1),
            doc_bytes=np.diff(bounds),
        )

    def heldout_text(self, eval_set: str) -> HeldOutText:
        """Held-out text of an evaluation set: the documents of ``heldout``, in its order."""
        census = self._census(eval_set, (*self.manifest.domains, *self.manifest.evaluation_only))
        paths = self._paths(eval_set)
        int64 = np.dtype(np.int64)
        return HeldOutText(
            data=self._map(paths.heldout_text, np.dtype(np.uint8), census.heldout_bytes),
            offsets=self._map(paths.heldout_text_offsets, int64, census.heldout_documents + 1),
        )

    def _paths(self, name: str) -> DomainPaths:
        return DomainPaths(domain_folder(self._folder, name), self._folder)

    def _census(self, name: str, among: tuple[DomainCensus, ...]) -> DomainCensus:
        for census in among:
            if census.name == name:
                return census
        raise NotFoundError(
            f"corpus {self.manifest.digest[:12]} has no {name!r}; it has "
            f"{[census.name for census in among]}"
        )

    def _map(self, path: Path, dtype: np.dtype[Any], count: int) -> npt.NDArray[Any]:
        size = path.stat().st_size if path.exists() else -1
        if size != count * dtype.itemsize:
            raise CorpusError(
                f"{path} is damaged: {count * dtype.itemsize:,} bytes expected, "
                f"{max(size, 0):,} found. Delete the folder {self._folder} and prepare again",
                file=str(path),
            )
        return np.memmap(path, dtype=dtype, mode="r") if count else np.empty(0, dtype=dtype)


def open_corpus(root: Path, digest: str) -> PreparedCorpus:
    """Open ``root/<digest>``.

    Raises:
        NotFoundError: It has not been prepared there.
        CorpusError: Its contents file is damaged.
    """
    folder = Path(root) / digest
    try:
        contents = json.loads((folder / CONTENTS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotFoundError(
            f"no prepared corpus {digest} under {root}: prepare it first", digest=digest
        ) from None
    except ValueError as error:
        raise CorpusError(
            f"{folder / CONTENTS} is damaged ({error}). Delete the folder {folder} and prepare "
            "again",
            file=str(folder / CONTENTS),
        ) from error
    return PreparedCorpus(folder, contents)


def domain_folder(corpus: Path, name: str) -> Path:
    """Where a domain's files lie; names may hold slashes, folders may not."""
    return corpus / "domains" / quote(name, safe="")
