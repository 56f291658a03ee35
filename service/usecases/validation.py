"""What can be known to be wrong with a job before its corpus has been counted."""

from __future__ import annotations

from collections.abc import Sequence

from cuvee.errors import SpecError
from cuvee.feasible import FeasibleSet
from cuvee.spec import CorpusSpec, JobSpec
from service.db.models import CorpusRow

__all__ = ["check_against"]


def check_against(spec: JobSpec, corpus: CorpusRow) -> None:
    """Check a job's names and bounds against the specification of its corpus.

    Raises:
        SpecError: If the job names a domain or an evaluation set that the corpus does not have.
        InfeasibleError: If no mixture satisfies the bounds.
    """
    registered = CorpusSpec.model_validate(corpus.spec)
    names = [domain.name for domain in registered.domains]
    eval_sets = names + [domain.name for domain in registered.evaluation_only]
    FeasibleSet.build(names, spec.constraints)
    _check_known("baseline", spec.baseline or {}, names, "domains")
    _check_known("objective.weights", spec.objective.weights or {}, eval_sets, "evaluation sets")


def _check_known(field: str, given: dict[str, float], known: Sequence[str], what: str) -> None:
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise SpecError(
            f"{field} names unknown {what} {unknown}; the corpus has {list(known)}", field=field
        )
