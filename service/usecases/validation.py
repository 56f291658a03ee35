"""What can be known to be wrong with a job before its corpus has been counted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cuvee.errors import SpecError
from cuvee.feasible import FeasibleSet
from cuvee.spec import CorpusSpec, JobSpec
from service.db.models import CorpusRow

__all__ = ["check_against", "check_warm_start"]


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
    guarded = {"guardrails": {guardrail.eval_set for guardrail in spec.guardrails}}
    for field, named in (spec.objective.named_sets | guarded).items():
        _check_known(field, named, eval_sets, "evaluation sets")
    splits = {} if spec.warm_start is None else spec.warm_start.splits
    parts = {part for portions in splits.values() for part in portions}
    _check_known("warm_start.splits", parts, names, "domains")


def check_warm_start(spec: JobSpec, corpora: Iterable[CorpusRow]) -> None:
    """Check what a job says of earlier jobs' domains against the corpora of those jobs.

    Raises:
        SpecError: If it splits a domain that none of them has.
    """
    splits = set() if spec.warm_start is None else set(spec.warm_start.splits)
    registered = (CorpusSpec.model_validate(corpus.spec) for corpus in corpora)
    known = sorted({domain.name for earlier in registered for domain in earlier.domains})
    unknown = sorted(splits - set(known))
    if unknown:
        raise SpecError(
            f"warm_start.splits names domains {unknown} that the earlier jobs do not have; they "
            f"have {known}",
            field="warm_start.splits",
        )


def _check_known(field: str, given: Iterable[str], known: Sequence[str], what: str) -> None:
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise SpecError(
            f"{field} names unknown {what} {unknown}; the corpus has {list(known)}", field=field
        )
