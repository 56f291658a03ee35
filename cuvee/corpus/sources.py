"""From what a user wrote under ``paths`` to the list of files that will be read.

Everything goes through fsspec, so a path may be local or an object store's URL. Which reader a file
gets is decided here, once, by its name; the readers themselves are in ``cuvee.corpus.readers``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import fsspec
from fsspec.implementations.local import LocalFileSystem

from cuvee.errors import CorpusError
from cuvee.spec import DomainSource

__all__ = ["InputFile", "Kind", "find_files"]

Kind = Literal["text", "jsonl", "parquet", "arrow"]
Compression = Literal["", "gzip", "zstd"]

_COMPRESSIONS: dict[str, Compression] = {".gz": "gzip", ".zst": "zstd"}
_KINDS: dict[str, Kind] = {
    ".txt": "text",
    ".text": "text",
    ".md": "text",
    ".rst": "text",
    ".tex": "text",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".arrow": "arrow",
}
_STATE = "state.json"
_SPLITS = "dataset_dict.json"


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file of a domain, and how to read it.

    ``stamp`` changes when the file does: size and modification time of a local file, the store's
    own key (an ETag, say) of a remote one.
    """

    domain: str
    path: str
    kind: Kind
    compression: Compression
    text_field: str
    size: int
    stamp: str
    filesystem: Any

    def current_stamp(self) -> str:
        """The stamp now, to notice a file that changed while it was read."""
        return _stat(self.filesystem, self.path)[1]


def find_files(source: DomainSource, data_roots: Sequence[str] | None = None) -> list[InputFile]:
    """The files of one domain, each once, sorted by path.

    A folder is searched through; hidden files are left out. In a folder whose format is ``auto``,
    files whose name does not tell a format are left out too; one that is *named* must tell it.
    In a saved Hugging Face dataset only the files that its ``state.json`` lists are read.

    Args:
        source: What the user wrote.
        data_roots: Folders and URL prefixes that may be read; None allows everything.

    Raises:
        CorpusError: A path does not exist or lies outside ``data_roots``, a folder holds nothing
            readable, a file's format cannot be told, a saved dataset is incomplete.
    """
    found: dict[str, InputFile] = {}
    for pattern in source.paths:
        filesystem, path = _connect(source.name, pattern)
        for file_path, named in _expand(source, filesystem, path, pattern):
            if data_roots is not None:
                _check_allowed(source.name, filesystem, file_path, data_roots)
            file = _describe(source, filesystem, file_path, named)
            if file is not None:
                found.setdefault(file.path, file)
    if not found:
        raise CorpusError(
            f"domain {source.name!r}: no readable file under {list(source.paths)}. With format "
            f"'auto' files are recognised by the endings {sorted(_KINDS)} (also with .gz or .zst); "
            "set the format (text, jsonl, parquet, arrow) to read others",
            domain=source.name,
        )
    return [found[path] for path in sorted(found)]


def _connect(domain: str, pattern: str) -> tuple[Any, str]:
    try:
        filesystem, path = fsspec.core.url_to_fs(pattern)
    except (ValueError, ImportError) as error:
        raise CorpusError(
            f"domain {domain!r}: cannot open {pattern!r}: {error}", domain=domain, file=pattern
        ) from error
    return filesystem, str(path)


def _expand(
    source: DomainSource, filesystem: Any, path: str, pattern: str
) -> list[tuple[str, bool]]:
    """Files under one pattern, each with whether the user named it (rather than its folder)."""
    if filesystem.isfile(path):
        return [(path, True)]
    if filesystem.isdir(path):
        return [(file, False) for file in _search(source, filesystem, path)]
    if any(sign in path for sign in "*?["):
        matches: list[tuple[str, bool]] = []
        for match in sorted(filesystem.glob(path)):
            if filesystem.isdir(match):
                matches += [(file, False) for file in _search(source, filesystem, match)]
            else:
                matches.append((match, True))
        if matches:
            return matches
    raise CorpusError(
        f"domain {source.name!r}: {pattern!r} matches no file or folder. Check the spelling; a "
        "relative path starts from the folder of the process that reads it: prefer absolute ones",
        domain=source.name,
        file=pattern,
    )


def _search(source: DomainSource, filesystem: Any, folder: str) -> list[str]:
    folder = folder.rstrip("/")
    files = [
        file
        for file in filesystem.find(folder)
        if not any(part.startswith(".") for part in file[len(folder) :].split("/"))
    ]
    if source.format in ("text", "jsonl", "parquet"):
        return files
    _check_one_split(source.name, filesystem, folder)
    states = [f for f in files if os.path.basename(f) == _STATE]
    saved = {os.path.dirname(f): _read_state(filesystem, f) for f in states}
    datasets = {folder: state for folder, state in saved.items() if state is not None}
    plain = [f for f in files if os.path.dirname(f) not in datasets]
    listed = [
        file
        for folder, state in sorted(datasets.items())
        for file in _saved_dataset(source.name, filesystem, folder, state)
    ]
    return plain + listed


def _check_one_split(domain: str, filesystem: Any, folder: str) -> None:
    """A saved ``DatasetDict`` mixes train and test: make the user choose."""
    listing = f"{folder}/{_SPLITS}"
    if not filesystem.isfile(listing):
        return
    try:
        splits = [str(split) for split in json.loads(filesystem.cat_file(listing))["splits"]]
    except (ValueError, KeyError, TypeError):
        return  # somebody's own file of that name
    if len(splits) > 1:
        raise CorpusError(
            f"domain {domain!r}: {folder} holds the splits {splits}; name one of them, "
            f"for example {folder}/{splits[0]}",
            domain=domain,
            file=folder,
        )


def _read_state(filesystem: Any, path: str) -> dict[str, Any] | None:
    """The state of a saved dataset, or None if the file is somebody's own of that name."""
    try:
        state = json.loads(filesystem.cat_file(path))
        _ = [str(entry["filename"]) for entry in state["_data_files"]]
    except (ValueError, KeyError, TypeError):
        return None
    return dict(state)


def _saved_dataset(domain: str, filesystem: Any, folder: str, state: dict[str, Any]) -> list[str]:
    if state.get("_indices_data_files"):
        raise CorpusError(
            f"domain {domain!r}: the dataset in {folder} was saved with a selection of its rows. "
            "Call flatten_indices() on it and save it again",
            domain=domain,
            file=folder,
        )
    files = [f"{folder}/{entry['filename']}" for entry in state["_data_files"]]
    missing = [file for file in files if not filesystem.isfile(file)]
    if missing:
        raise CorpusError(
            f"domain {domain!r}: {folder}/{_STATE} lists {os.path.basename(missing[0])}, which is "
            "not there. Copy the whole folder again",
            domain=domain,
            file=missing[0],
        )
    return files


def _describe(source: DomainSource, filesystem: Any, path: str, named: bool) -> InputFile | None:
    stem, compression = path, ""
    for ending, method in _COMPRESSIONS.items():
        if path.endswith(ending):
            stem, compression = path[: -len(ending)], method
    kind = source.format
    if kind == "auto":
        recognised = _KINDS.get(os.path.splitext(stem)[1].lower())
        if recognised is None:
            if not named:
                return None
            raise CorpusError(
                f"domain {source.name!r}: the name of {path} does not tell its format. Set the "
                "domain's format to text, jsonl, parquet or arrow",
                domain=source.name,
                file=path,
            )
        kind = recognised
    if compression and kind in ("parquet", "arrow"):
        raise CorpusError(
            f"domain {source.name!r}: {path} is compressed as a whole, which {kind} files cannot "
            "be read through. Decompress it; these formats compress inside",
            domain=source.name,
            file=path,
        )
    size, stamp = _stat(filesystem, path)
    shown = path if _is_local(filesystem) else str(filesystem.unstrip_protocol(path))
    return InputFile(
        domain=source.name,
        path=shown,
        kind=kind,
        compression=compression,  # type: ignore[arg-type]
        text_field="" if kind == "text" else source.text_field,
        size=size,
        stamp=stamp,
        filesystem=filesystem,
    )


def _stat(filesystem: Any, path: str) -> tuple[int, str]:
    if _is_local(filesystem):
        status = os.stat(path)
        return status.st_size, f"{status.st_size}:{status.st_mtime_ns}"
    return int(filesystem.size(path)), str(filesystem.ukey(path))


def _is_local(filesystem: Any) -> bool:
    return isinstance(filesystem, LocalFileSystem)


def inside_roots(path: Path, data_roots: Sequence[str]) -> bool:
    """Whether a local path, its links followed, lies in one of the local roots."""
    real = path.resolve()
    return any(real.is_relative_to(Path(r).resolve()) for r in data_roots if "://" not in r)


def _check_allowed(domain: str, filesystem: Any, path: str, data_roots: Sequence[str]) -> None:
    """Refuse files outside the roots that the operator allows; links are followed first."""
    if _is_local(filesystem):
        allowed = inside_roots(Path(path), data_roots)
    else:
        url = str(filesystem.unstrip_protocol(path))
        prefixes = [root.rstrip("/") + "/" for root in data_roots if "://" in root]
        allowed = ".." not in url.split("/") and url.startswith(tuple(prefixes))
    if not allowed:
        raise CorpusError(
            f"domain {domain!r}: {path} lies outside the folders that this server may read "
            f"({', '.join(data_roots) or 'none'}). Move it there, or ask the operator to allow it",
            domain=domain,
            file=path,
        )
