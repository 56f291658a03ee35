"""Specifications of small corpora, as tests of preparation want them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cuvee.spec import ByteTokenizer, CorpusSpec, DomainSource, Holdout

__all__ = ["spec_of"]


def spec_of(
    domains: dict[str, Path], evaluation_only: dict[str, Path] | None = None, **options: Any
) -> CorpusSpec:
    def sources(paths: dict[str, Path]) -> tuple[DomainSource, ...]:
        return tuple(DomainSource(name=n, paths=(str(p),)) for n, p in paths.items())

    defaults = {"tokenizer": ByteTokenizer(), "holdout": Holdout(share=0.2, min_bytes=100)}
    return CorpusSpec(
        domains=sources(domains),
        evaluation_only=sources(evaluation_only or {}),
        **(defaults | options),
    )
