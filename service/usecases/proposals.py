"""Turning what the engine proposed into runs."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import Session

from cuvee.errors import SpecError
from cuvee.records import Proposal
from service.db.mapping import document, job_spec
from service.db.models import AdvanceClaimRow, JobRow, ProposalRow, RunRow, new_id
from service.db.repositories import jobs, runs
from service.queue import POOLS
from service.usecases.lifecycle import run_facts

__all__ = ["insert_runs"]


def insert_runs(
    session: Session,
    job: JobRow,
    claim: AdvanceClaimRow,
    proposals: Sequence[Proposal],
    engine_version: str,
) -> tuple[str, ...]:
    """Store proposals of a locked job with their provenance, and make their runs claimable.

    Returns the ids of the runs, in the order of the proposals.

    Raises:
        SpecError: If a proposal names a rung or a domain that the job does not have.
    """
    spec = job_spec(job)
    domains = job.domains or []
    seconds = (jobs.now(session) - claim.claimed_at).total_seconds()
    made = []
    for proposal in proposals:
        if not 0 <= proposal.rung < len(spec.rungs):
            raise SpecError(
                f"a proposal names rung {proposal.rung}; job {job.id} has {len(spec.rungs)}",
                field="rung",
            )
        kind = spec.rungs[proposal.rung].kind
        made.append(
            RunRow(
                id=new_id(),
                tenant_id=job.tenant_id,
                job_id=job.id,
                proposal_id=new_id(),
                rung=proposal.rung,
                kind=kind,
                pool=POOLS[kind],
                purpose=proposal.purpose,
                label=proposal.label,
                reason=proposal.reason,
                shares=proposal.mixture.shares(domains),
                seed=proposal.seed,
            )
        )
        session.add(
            ProposalRow(
                id=made[-1].proposal_id,
                tenant_id=job.tenant_id,
                job_id=job.id,
                sequence=job.next_proposal,
                strategy=spec.strategy,
                engine_version=engine_version,
                observation_digest=claim.digest,
                high_water=claim.high_water,
                pending=claim.pending,
                seed=claim.seed,
                purpose=proposal.purpose,
                reason=proposal.reason,
                predicted={n: document(p) for n, p in proposal.predicted.items()},
                acquisition=proposal.acquisition,
                explanation=None
                if proposal.explanation is None
                else document(proposal.explanation),
                seconds=seconds,
            )
        )
        job.next_proposal += 1
    session.flush()
    runs.add(session, made)
    for run in made:
        mixture = dict(zip(domains, run.shares, strict=True))
        facts = run_facts(run) | {"reason": run.reason, "mixture": mixture}
        jobs.append_event(session, job, "run.proposed", facts)
    session.flush()
    return tuple(run.id for run in made)
