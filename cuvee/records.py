"""What is measured, proposed and reported: the records that cross the wire and enter the engine.

Losses are stored as summed nats together with tokens and bytes, so nats per token and bits per
byte both follow and can never disagree.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

from pydantic import Field

from cuvee.answer import Diagnosis
from cuvee.errors import SpecError
from cuvee.feasible import FeasibleSet
from cuvee.mixture import Mixture
from cuvee.spec import CorpusSpec, JobSpec, Objective, Record, Rung
from cuvee.states import JOB_TRANSITIONS, CorpusState, JobState, RunState

__all__ = [
    "Corpus",
    "CorpusManifest",
    "DomainCensus",
    "EarlierRun",
    "EvalLoss",
    "Event",
    "Explanation",
    "History",
    "Job",
    "JobProgress",
    "LossPoint",
    "Observation",
    "Page",
    "PendingRun",
    "Prediction",
    "Problem",
    "Proposal",
    "Purpose",
    "Readiness",
    "Run",
    "SearchProblem",
    "ServerVersion",
    "StopDecision",
    "measured_objective",
]

T = TypeVar("T")

Purpose = Literal["search", "verify"]

# ------------------------------------------------------------------------------------------------
# Corpus


class DomainCensus(Record):
    """What was counted in one domain; the training side excludes the held-out side."""

    name: str
    documents: int
    bytes: int = Field(description="UTF-8 bytes of the training documents.")
    tokens: int = Field(description="Training tokens, one end-of-document token per document.")
    heldout_documents: int
    heldout_bytes: int
    heldout_tokens: int
    duplicates: int = Field(0, description="Documents whose text occurred before in the domain.")

    @property
    def mean_tokens(self) -> float:
        """Mean tokens per training document (0 without documents)."""
        return self.tokens / self.documents if self.documents else 0.0


class CorpusManifest(Record):
    """A prepared corpus: everything the search needs to know of it without opening it."""

    digest: str = Field(description="SHA-256 over the inputs, the spec and the format version.")
    domains: tuple[DomainCensus, ...]
    evaluation_only: tuple[DomainCensus, ...] = ()
    vocab_size: int
    tokenizer_sha256: str
    format_version: int = 1

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(d.name for d in self.domains)

    @property
    def eval_sets(self) -> tuple[str, ...]:
        """Evaluation sets: the held-out side of every domain, then the held-out-only sets."""
        return tuple(d.name for d in (*self.domains, *self.evaluation_only))

    @property
    def natural(self) -> Mixture:
        """Shares in proportion to the tokens available."""
        return Mixture.from_weights({d.name: float(d.tokens) for d in self.domains})


# ------------------------------------------------------------------------------------------------
# Observations


class EvalLoss(Record):
    """The loss on one evaluation set.

    ``nats_se`` is the standard error of the summed nats, from the spread over documents (the sum's
    delta-method error as a ratio estimate: documents differ in length).
    """

    nats: float = Field(ge=0, allow_inf_nan=False)
    nats_se: float = Field(ge=0, allow_inf_nan=False)
    tokens: int = Field(ge=1)
    bytes: int = Field(ge=1)

    @property
    def nats_per_token(self) -> float:
        return self.nats / self.tokens

    @property
    def bits_per_byte(self) -> float:
        return self.nats / (math.log(2) * self.bytes)

    @property
    def bits_per_byte_se(self) -> float:
        return self.nats_se / (math.log(2) * self.bytes)


class LossPoint(Record):
    """One point of a run's loss curve, in bits per byte by evaluation set."""

    step: int
    tokens: int
    train_loss: float | None = Field(None, description="Mean nats per token since the last point.")
    losses: dict[str, EvalLoss]


class Observation(Record):
    """What one run measured. A run is counted once; this is what is counted."""

    run_id: str
    rung: int = Field(ge=0, description="Index into the job's rungs.")
    mixture: Mixture
    seed: int
    losses: dict[str, EvalLoss]
    train_tokens: int = Field(0, ge=0)
    seconds: float = Field(0.0, ge=0)
    purpose: Purpose = "search"
    label: str | None = Field(None, description="`baseline`, `natural`, `uniform`, `recommended`.")


class PendingRun(Record):
    """A run that has been proposed and not yet measured, or that failed."""

    run_id: str
    rung: int
    mixture: Mixture
    seed: int
    purpose: Purpose = "search"
    label: str | None = None


class EarlierRun(Record):
    """A finished run of another job, in that job's own domains."""

    source: str = Field(description="Id of the job.")
    run_id: str
    rung: Rung
    same_corpus: bool = Field(description="Same text and tokenizer as this job's.")
    mixture: Mixture
    seed: int
    losses: dict[str, EvalLoss]


class History(Record):
    """Everything a decision may look at. Order carries no meaning."""

    earlier: tuple[EarlierRun, ...] = ()
    left_out: dict[str, int] = Field(
        {}, description="Earlier runs by source that are not here, for there are too many."
    )
    observations: tuple[Observation, ...] = ()
    pending: tuple[PendingRun, ...] = ()
    failed: tuple[PendingRun, ...] = ()


# ------------------------------------------------------------------------------------------------
# The search problem


class SearchProblem(Record):
    """The engine's view of a job: names, supply, rungs, objective, constraints, references.

    Vectors over domains follow ``names``; vectors over evaluation sets follow ``eval_sets``.
    """

    names: tuple[str, ...]
    tokens: tuple[int, ...]
    eval_sets: tuple[str, ...]
    weights: tuple[float, ...] = Field(
        description="Over eval_sets, sum 1. worst_excess: equal over the sets that count; pareto: "
        "the mean of the parts' weights."
    )
    natural: Mixture
    uniform: Mixture
    baseline: Mixture
    spec: JobSpec

    @classmethod
    def build(cls, spec: JobSpec, manifest: CorpusManifest) -> SearchProblem:
        """Join a job's specification with its corpus.

        Raises:
            SpecError: If the specification names a domain or an evaluation set that is not there.
            InfeasibleError: If no mixture satisfies the constraints.
        """
        names, eval_sets = manifest.names, manifest.eval_sets
        guarded = {"guardrails": {g.eval_set for g in spec.guardrails}}
        for field, named in (spec.objective.named_sets | guarded).items():
            unknown = sorted(named - set(eval_sets))
            if unknown:
                raise SpecError(
                    f"{field} names unknown evaluation sets {unknown}; "
                    f"the corpus has {list(eval_sets)}",
                    field=field,
                )
        scaled = _objective_weights(spec.objective, eval_sets)
        baseline = manifest.natural
        if spec.baseline is not None:
            unknown = sorted(set(spec.baseline) - set(names))
            if unknown:
                raise SpecError(
                    f"baseline names unknown domains {unknown}; the corpus has {list(names)}",
                    field="baseline",
                )
            baseline = Mixture({n: spec.baseline.get(n, 0.0) for n in names})
        splits = {} if spec.warm_start is None else spec.warm_start.splits
        unknown = sorted({part for parts in splits.values() for part in parts} - set(names))
        if unknown:
            raise SpecError(
                f"warm_start.splits names unknown domains {unknown}; the corpus has {list(names)}",
                field="warm_start.splits",
            )
        problem = cls(
            names=names,
            tokens=tuple(d.tokens for d in manifest.domains),
            eval_sets=eval_sets,
            weights=tuple(scaled.root.get(e, 0.0) for e in eval_sets),
            natural=manifest.natural,
            uniform=Mixture.uniform(names),
            baseline=baseline,
            spec=spec,
        )
        problem.feasible()
        return problem

    @property
    def target(self) -> int:
        """Index of the target rung: the last."""
        return len(self.spec.rungs) - 1

    @property
    def rungs(self) -> tuple[Rung, ...]:
        return self.spec.rungs

    def feasible(self) -> FeasibleSet:
        """The feasible set (raises InfeasibleError when empty)."""
        supply = dict(zip(self.names, self.tokens, strict=True))
        return FeasibleSet.build(self.names, self.spec.constraints, supply)

    def objective(self, losses: Mapping[str, EvalLoss]) -> float:
        """The objective of measured losses, in bits per byte."""
        weights = dict(zip(self.eval_sets, self.weights, strict=True))
        return measured_objective(self.spec.objective, weights, losses)

    @property
    def planned_runs(self) -> int:
        """Runs planned in total: every rung's budget, and the verification runs.

        Equal references are verified once, so a baseline that is the natural mixture costs no
        more. A search that is certain early spends less.
        """
        checks = self.spec.verification
        references = {self.reference(label).digest() for label in checks.references}
        return sum(r.runs for r in self.spec.rungs) + checks.seeds * (1 + len(references))

    def reference(self, label: str) -> Mixture:
        """The mixture behind ``baseline``, ``natural`` or ``uniform``."""
        return {"baseline": self.baseline, "natural": self.natural, "uniform": self.uniform}[label]


def measured_objective(
    objective: Objective, weights: Mapping[str, float], losses: Mapping[str, EvalLoss]
) -> float:
    """The objective of measured losses, in bits per byte.

    Args:
        objective: Its kind.
        weights: Its linear weights by evaluation set, as in ``SearchProblem``.
        losses: What was measured.
    """
    if objective.reference is not None:
        return max(losses[e].bits_per_byte - least for e, least in objective.reference.items())
    return math.fsum(w * losses[e].bits_per_byte for e, w in weights.items() if w > 0)


def _objective_weights(objective: Objective, eval_sets: Sequence[str]) -> Mixture:
    """The linear weights behind an objective of any kind."""
    if objective.reference is not None:
        return Mixture.from_weights(dict.fromkeys(objective.reference, 1.0))
    if objective.parts is not None:
        parts = [Mixture.from_weights(weights).root for weights in objective.parts.values()]
        total = {e: math.fsum(part.get(e, 0.0) for part in parts) for e in eval_sets}
        return Mixture.from_weights(total)
    return Mixture.from_weights(objective.weights or dict.fromkeys(eval_sets, 1.0))


# ------------------------------------------------------------------------------------------------
# Decisions


class Prediction(Record):
    """A predicted value with its standard error, in bits per byte."""

    mean: float
    se: float


class Explanation(Record):
    """Why this mixture, at this rung, now."""

    method: str = Field(description="How it was chosen: `design`, `bridge`, `improvement` ...")
    predicted_gain: float | None = Field(
        None, description="Of the objective at the target over the best so far, bits per byte."
    )
    expected_improvement: float | None = Field(None, description="Bits per byte.")
    uncertainty: float | None = Field(
        None, description="Standard error of the objective there at the target, bits per byte."
    )
    correlation: float | None = Field(
        None, description="Of what this rung measures with the target, given what is known."
    )
    cost: float = Field(description="Of this run, relative to a run at the target.")
    alternatives: dict[str, float] = Field(
        {}, description="Value per cost of the best candidate by rung that could have been run."
    )


class Proposal(Record):
    """A mixture that the engine wants run, at which rung, and why."""

    mixture: Mixture
    rung: int
    seed: int
    reason: str
    purpose: Purpose = "search"
    label: str | None = None
    predicted: dict[str, Prediction] = {}
    acquisition: float | None = None
    explanation: Explanation | None = None


class StopDecision(Record):
    stop: bool
    reason: str = Field(description="In words, for people.")


# ------------------------------------------------------------------------------------------------
# What the API returns


class Problem(Record):
    """Why something failed, in the shape every error has."""

    code: str
    message: str
    details: dict[str, Any] = {}


class Corpus(Record):
    id: str
    name: str | None
    state: CorpusState
    spec: CorpusSpec
    manifest: CorpusManifest | None = None
    progress: str | None = Field(None, description="What preparation is doing, in words.")
    error: Problem | None = None
    created_at: datetime
    updated_at: datetime


class JobProgress(Record):
    """Where a job stands: what a progress bar needs."""

    phase: Literal["waiting", "preparing", "searching", "verifying", "reporting", "done"]
    runs_done: int
    runs_planned: int
    runs_failed: int
    runs_active: int
    best: float | None = Field(None, description="Best objective at the target, bits per byte.")
    best_run_id: str | None = None
    baseline: float | None = Field(None, description="The baseline's objective at the target.")
    seconds_left: float | None = None
    message: str = ""


class Job(Record):
    id: str
    name: str | None
    state: JobState
    spec: JobSpec
    corpus_id: str
    progress: JobProgress
    stop_reason: str | None = None
    diagnosis: Diagnosis | None = Field(
        None, description="The objective doctor's, once its anchors ran; only when one job is read."
    )
    error: Problem | None = None
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None = None
    version: int = 1


class Run(Record):
    id: str
    job_id: str
    rung: int
    kind: str
    purpose: Purpose
    label: str | None
    state: RunState
    mixture: Mixture
    seed: int
    attempt: int
    reason: str = Field("", description="Why the engine proposed it.")
    explanation: Explanation | None = None
    progress: float | None = Field(None, ge=0, le=1, description="Share of the training done.")
    objective: float | None = Field(None, description="Bits per byte, once measured.")
    losses: dict[str, EvalLoss] | None = None
    curve: tuple[LossPoint, ...] | None = Field(None, description="Only when one run is read.")
    train_tokens: int | None = None
    seconds: float | None = None
    error: Problem | None = None
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None


class Event(Record):
    """One entry of a job's log; ``seq`` counts 1, 2, 3 ... without a gap."""

    job_id: str
    seq: int
    type: str
    payload: dict[str, Any]
    created_at: datetime

    @property
    def ends_job(self) -> bool:
        """Whether this is the last thing that happens to the job: success, failure or cancelling.

        Streams end after it.
        """
        return self.type in _ENDING_EVENTS


_ENDING_EVENTS = frozenset(f"job.{state}" for state in JobState if not JOB_TRANSITIONS[state])


class Page(Record, Generic[T]):
    """One page of a list; pass ``next_cursor`` back to read on, until it is null."""

    items: tuple[T, ...]
    next_cursor: str | None = None


class Readiness(Record):
    """Whether a server can take work, and what it depends on."""

    status: Literal["ready", "degraded", "unavailable"] = Field(
        description="`degraded`: work is accepted and kept, but starts late."
    )
    checks: dict[str, str] = Field(description="`ok`, or what is wrong in words, by dependency.")


class ServerVersion(Record):
    version: str
    api: str = Field(description="The newest version of the API that is served, as in its paths.")
