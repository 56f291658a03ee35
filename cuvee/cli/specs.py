"""Job and corpus files turned into specifications that can be sent."""

from __future__ import annotations

from pathlib import Path

from cuvee.cli.documents import Document, override, read_document
from cuvee.cli.remedies import validate
from cuvee.errors import SpecError
from cuvee.spec import CorpusSpec, DomainSource, FileTokenizer, JobSpec

__all__ = ["load_corpus", "load_job", "load_job_for"]


def load_job(path: Path, settings: list[str] | None = None) -> JobSpec:
    """A JobSpec from a file, with ``path=value`` settings applied on top.

    Raises:
        SpecError: With every problem of the file, by line and field.
    """
    return validate(JobSpec, override(read_document(path), settings or []))


def load_job_for(path: Path, corpus: CorpusSpec, settings: list[str] | None = None) -> JobSpec:
    """A JobSpec whose corpus is registered together with it, so that the file need not name one.

    The record's ``corpus`` is the corpus's name, or a placeholder until the server gives an id.

    Raises:
        SpecError: As ``load_job``, and if the file names another corpus.
    """
    document = override(read_document(path), settings or [])
    named = document.data.get("corpus")
    if named is not None and named != corpus.name:
        raise SpecError(
            f"{path} asks for the corpus {named!r}, but the corpus file registers "
            f"{corpus.name or 'one without a name'!r}: make them equal, or leave `corpus` out"
        )
    data = {**document.data, "corpus": corpus.name or "registered-with-the-job"}
    return validate(JobSpec, Document(document.name, data, document.lines))


def load_corpus(path: Path, base: Path | None = None) -> CorpusSpec:
    """A CorpusSpec from a file; relative paths in it start at ``base``, or at the file's folder.

    Raises:
        SpecError: With every problem of the file, by line and field.
    """
    spec = validate(CorpusSpec, read_document(path))
    start = (base or path.parent).resolve()

    def located(source: DomainSource) -> DomainSource:
        return source.model_copy(update={"paths": tuple(_located(p, start) for p in source.paths)})

    changes: dict[str, object] = {"domains": tuple(located(d) for d in spec.domains)}
    if spec.evaluation_only:
        changes["evaluation_only"] = tuple(located(d) for d in spec.evaluation_only)
    if isinstance(spec.tokenizer, FileTokenizer):
        where = _located(spec.tokenizer.path, start)
        changes["tokenizer"] = spec.tokenizer.model_copy(update={"path": where})
    return spec.model_copy(update=changes)


def _located(path: str, start: Path) -> str:
    """An absolute path; URLs stay as they are."""
    return path if "://" in path else str(start / Path(path).expanduser())
