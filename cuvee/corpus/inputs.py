"""What a corpus is made of, by content: hashes of the input files and the digest over them.

A file is hashed once; the result is kept under its path, size and modification time, so that
preparing an unchanged corpus again reads none of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cuvee.corpus.readers import unreadable
from cuvee.corpus.sources import InputFile
from cuvee.spec import CorpusSpec

__all__ = ["FORMAT_VERSION", "InputHashes", "corpus_digest", "write_json"]

FORMAT_VERSION = 1
"""Raised whenever the same inputs would be packed differently."""

_CHUNK = 1 << 20
_SETTLED_SECONDS = 2.0


class InputHashes:
    """SHA-256 of input files, remembered in ``root/.inputs.json``."""

    def __init__(self, root: Path) -> None:
        self._path = root / ".inputs.json"
        self._known: dict[str, list[str]] = {}
        # Nothing remembered, or damaged: hashing again is all it costs.
        with contextlib.suppress(FileNotFoundError, ValueError):
            self._known = json.loads(self._path.read_text(encoding="utf-8"))

    def of(self, file: InputFile, on_bytes: Callable[[int], None]) -> str:
        """The hash of a file, reporting the bytes read as they are."""
        known = self._known.get(file.path)
        if known is not None and known[0] == file.stamp:
            on_bytes(file.size)
            return known[1]
        digest = hashlib.sha256()
        try:
            with file.filesystem.open(file.path, "rb") as raw:
                while chunk := raw.read(_CHUNK):
                    digest.update(chunk)
                    on_bytes(len(chunk))
        except OSError as error:
            raise unreadable(file, error) from error
        if self._settled(file):
            self._known[file.path] = [file.stamp, digest.hexdigest()]
        return digest.hexdigest()

    def save(self) -> None:
        """Remember the hashes. Two processes may both write; what one loses is hashed again."""
        write_json(self._path, self._known)

    @staticmethod
    def _settled(file: InputFile) -> bool:
        """A file written a moment ago may be written again within the same clock tick."""
        size, _, modified = file.stamp.partition(":")
        if not (size.isdigit() and modified.isdigit()):
            return True  # a store's own key names one version
        return time.time_ns() - int(modified) > _SETTLED_SECONDS * 1e9


def corpus_digest(
    spec: CorpusSpec,
    files: Mapping[str, Sequence[tuple[str, InputFile]]],
    tokenizer: Mapping[str, Any],
) -> str:
    """SHA-256 over the inputs' content, the spec and the format version; paths do not count.

    Args:
        spec: The corpus specification.
        files: By domain, ``(sha256, file)`` in the order in which they are read.
        tokenizer: What of the tokenizer counts.
    """

    def described(name: str) -> dict[str, Any]:
        return {
            "name": name,
            "files": [[sha, f.kind, f.compression, f.text_field] for sha, f in files[name]],
        }

    content = {
        "format": FORMAT_VERSION,
        "domains": [described(d.name) for d in spec.domains],
        "evaluation_only": [described(d.name) for d in spec.evaluation_only],
        "tokenizer": tokenizer,
        "holdout": spec.holdout.model_dump(),
    }
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file so that a reader sees the old one or the new one, never a part."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    with partial.open("w", encoding="utf-8") as out:
        json.dump(content, out)
        out.flush()
        os.fsync(out.fileno())
    partial.replace(path)
