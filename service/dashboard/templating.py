"""The template environment and the static files, both read once per process."""

from __future__ import annotations

import hashlib
import mimetypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jinja2

from service.dashboard import formats
from service.dashboard.explanation import why_in_short

__all__ = ["StaticFile", "environment", "static_digest", "static_files", "static_text"]

_HERE = Path(__file__).parent
_FILTERS = (
    "bits",
    "chance",
    "correlation",
    "count",
    "duration",
    "epochs",
    "mix_words",
    "moment",
    "percent",
    "share_interval",
    "signed",
    "signed_span",
    "span",
)


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file as it is served."""

    data: bytes
    media_type: str


@cache
def static_files() -> dict[str, StaticFile]:
    """Every servable file by its path under ``static/``: nothing outside can be named."""
    root = _HERE / "static"
    return {
        path.relative_to(root).as_posix(): StaticFile(
            path.read_bytes(), mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        )
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@cache
def static_digest() -> str:
    """Names the whole set of files, so that an address with it may be cached for good."""
    digest = hashlib.sha256()
    for name, file in static_files().items():
        digest.update(name.encode() + b"\0" + hashlib.sha256(file.data).digest())
    return digest.hexdigest()[:12]


def static_text(name: str) -> str:
    return static_files()[name].data.decode()


@cache
def environment() -> jinja2.Environment:
    """Escapes everything, and refuses a variable that was not passed."""
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.policies["json.dumps_kwargs"] = {"allow_nan": False, "ensure_ascii": True}
    env.filters.update({name: getattr(formats, name) for name in _FILTERS})
    env.filters["capfirst"] = lambda text: text[:1].upper() + text[1:]
    env.filters["why_in_short"] = why_in_short
    env.globals.update(ratio=formats.ratio)
    return env
