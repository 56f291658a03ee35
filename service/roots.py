"""Which files a corpus may read: only those inside the roots that the operator has named.

The paths of a corpus are the server's paths, so without a limit anyone who can reach the API could
read any file of the server through a trained tokenizer or a loss.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from cuvee.errors import SpecError
from cuvee.spec import CorpusSpec, FileTokenizer
from service.settings import Settings

__all__ = ["check_paths"]

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.\-]*)://")
_GLOB = re.compile(r"[*?\[]")
_LOCAL_SCHEMES = frozenset({"file", "local"})


def check_paths(spec: CorpusSpec, settings: Settings) -> None:
    """Refuse a corpus with a path outside ``settings.data_roots``.

    Without roots nothing may be read in production; elsewhere everything may, because the server
    is then the user's own.

    Raises:
        SpecError: ``details["pointer"]`` says where the path stands in the specification.
    """
    roots = settings.readable_roots
    if roots is None:
        return
    if not roots:
        raise SpecError(
            "this server has no data roots, so that corpora cannot be registered: its operator "
            "sets CUVEE_DATA_ROOTS to the folders that may be read"
        )
    for pointer, path in _paths(spec):
        problem = _outside(path, roots)
        if problem:
            raise SpecError(f"{pointer}: {problem}", pointer=pointer)


def _paths(spec: CorpusSpec) -> Iterator[tuple[str, str]]:
    for field in ("domains", "evaluation_only"):
        for i, source in enumerate(getattr(spec, field)):
            for j, path in enumerate(source.paths):
                yield f"/{field}/{i}/paths/{j}", path
    if isinstance(spec.tokenizer, FileTokenizer):
        yield "/tokenizer/path", spec.tokenizer.path


def _outside(path: str, roots: Sequence[str]) -> str | None:
    """Why a path is not allowed, or None."""
    listed = f"this server reads from {', '.join(roots)} only"
    if "::" in path:
        return f"chained URLs ({path}) are not allowed; {listed}"
    scheme = _SCHEME.match(path)
    if scheme and scheme[1].lower() not in _LOCAL_SCHEMES:
        return None if any(_below(path, root) for root in roots) else f"{path} is outside; {listed}"
    local = path[scheme.end() :] if scheme else path
    if not local.startswith("/"):
        return f"{path} is relative; give the full path on the server"
    if ".." in Path(local).parts:
        return f"{path} contains '..'; give the full path on the server"
    # Links are followed before comparing; what a glob may match lies below its fixed part.
    fixed = _fixed_part(Path(local)).resolve()
    inside = any(
        fixed.is_relative_to(Path(root).resolve()) for root in roots if not _SCHEME.match(root)
    )
    return None if inside else f"{path} is outside; {listed}"


def _below(url: str, root: str) -> bool:
    root = root.rstrip("/")
    return (url == root or url.startswith(root + "/")) and ".." not in url.split("/")


def _fixed_part(path: Path) -> Path:
    """The path up to its first wildcard."""
    for i, part in enumerate(path.parts):
        if _GLOB.search(part):
            return Path(*path.parts[:i])
    return path
