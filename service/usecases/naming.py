"""What is said when a name is taken: the same of corpora and of jobs."""

from __future__ import annotations

from cuvee.errors import ConflictError
from service.db.models import CorpusRow, JobRow

__all__ = ["name_taken"]


def name_taken(kind: str, existing: CorpusRow | JobRow | None, spec_hash: str) -> ConflictError:
    """The conflict with the row that has the name, and whether it asks for the same."""
    assert existing is not None, "the name is taken by a committed row"
    same = existing.spec_hash == spec_hash
    return ConflictError(
        f"a {kind} named {existing.name!r} exists already: {existing.id}, {existing.state}, with "
        + ("the same specification" if same else "another specification; choose another name"),
        id=existing.id,
        state=existing.state,
        same_spec=same,
    )
