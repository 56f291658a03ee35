"""What the engine concludes: the records of a recommendation, a diagnosis and the report."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from cuvee.mixture import Mixture
from cuvee.spec import Record

__all__ = [
    "BridgePlan",
    "Calibration",
    "CurvePoint",
    "Diagnosis",
    "DomainShare",
    "EquivalentSet",
    "EvalReport",
    "FrontPoint",
    "GuardrailReport",
    "Interval",
    "PairedDifference",
    "Recommendation",
    "Report",
    "ReuseSummary",
    "RungSummary",
    "SetDiagnosis",
    "SetFit",
    "ShadowPrice",
    "VerificationPlan",
]


class Interval(Record):
    """An estimate and a two-sided interval at the job's confidence."""

    mean: float
    low: float
    high: float


class SetFit(Record):
    """How well the surrogate of one evaluation set predicts the target runs it was fitted on."""

    eval_set: str
    runs: int
    r2: float = Field(description="In sample.")
    loo_rmse: float = Field(description="Leave-one-out root mean squared error, bits per byte.")
    loo_r2: float
    coefficients: dict[str, float] = Field(
        {}, description="t_j of the log-linear law by domain; negative helps."
    )
    floor: float | None = Field(None, description="c of the log-linear law, bits per byte.")
    observed: tuple[float, ...] = ()
    loo_predicted: tuple[float, ...] = ()
    loo_se: tuple[float, ...] = Field((), description="Noise of a run included, bits per byte.")
    chosen: str = Field("", description="The surrogate that weighs most.")
    scores: dict[str, float] = Field(
        {}, description="Mean leave-one-out log predictive density by surrogate, nats per run."
    )
    weights: dict[str, float] = Field({}, description="Weight by surrogate in the prediction.")


class EquivalentSet(Record):
    """The mixtures that the data cannot tell from the recommendation.

    A mixture belongs to it when the interval of its objective minus the recommendation's, at the
    job's confidence, reaches below ``tolerance``.
    """

    tolerance: float = Field(description="Bits per byte.")
    share_of_region: float = Field(description="Of uniform draws from the feasible region.")
    ranges: dict[str, Interval] = Field(description="By domain: recommended, least, greatest.")
    examples: tuple[Mixture, ...] = Field((), description="Far apart from each other.")


class GuardrailReport(Record):
    """Whether an evaluation set stays within what its guardrail allows over the baseline."""

    eval_set: str
    max_increase: float
    increase: Interval = Field(description="Predicted, recommended minus baseline, bits per byte.")
    chance: float = Field(description="Predicted chance that the guardrail holds.")
    measured: Interval | None = Field(None, description="Over paired runs, if there were any.")
    holds: bool = Field(
        description="With the chance that was asked for: by the paired runs, else as predicted."
    )


class ShadowPrice(Record):
    """What more tokens of a domain would be worth."""

    domain: str
    cap: float = Field(description="The greatest share that the supply allows now.")
    binding: bool
    gain_per_billion: Interval = Field(
        description="Fall of the objective with 10^9 more tokens, re-optimised, bits per byte; "
        "scaled from `gain` where that is for another number."
    )
    tokens: int | None = Field(
        None,
        description="More tokens that `gain` is for: 10^9, or a round number that moves the cap by "
        "an amount that shows and that the runs can speak for.",
    )
    gain: Interval | None = Field(None, description="With that many more, bits per byte.")


class Calibration(Record):
    """How often leave-one-out intervals of the objective held what was then measured."""

    levels: tuple[float, ...] = Field(description="Nominal.")
    coverage: tuple[float, ...] = Field(description="Measured, at each level.")
    inflation: float = Field(description="Factor on the standard error that leave-one-out asks.")
    rung: int | None = Field(
        None, description="Whose runs judge: the target, or the highest rung with eight or more."
    )
    measured: tuple[float, ...] = Field((), description="Objective by run there, bits per byte.")
    predicted: tuple[float, ...] = Field((), description="With that run left out.")
    se: tuple[float, ...] = Field((), description="Of the prediction of a run, inflated.")


class VerificationPlan(Record):
    """What paired runs can show, before they are made."""

    reference: str
    pairs: int = Field(description="Pairs that the job will run.")
    noise: float | None = Field(description="Deviation of one pair's difference, bits per byte.")
    detectable: float | None = Field(
        description="Least gain shown with 80 % chance by these pairs, bits per byte."
    )
    power: float | None = Field(description="Chance that the interval will exclude no gain.")
    pairs_for_power: int | None = Field(None, description="Pairs for a power of 0.8, up to 100.")


class BridgePlan(Record):
    """How far mixtures measured at both ends of the ladder have repaired the ranking between."""

    runs: int = Field(
        description="Mixtures measured at the target and at the cheapest rung, references and "
        "anchors among them."
    )
    agreement_before: Interval | None = Field(
        None, description="Rank correlation of the target with the cheapest rung's prediction."
    )
    agreement_after: Interval | None = Field(
        None, description="Of the target with what is predicted from every run."
    )
    worth_another: bool = Field(
        description="Whether another would repair enough of the ranking, by information alone."
    )
    reason: str = Field(description="Why; and what ended the search, where that is over.")


class ReuseSummary(Record):
    """How far the runs of an earlier job were used."""

    source: str
    used: int
    expressed: int = Field(0, description="Of these, re-expressed because domains had changed.")
    dropped: int = 0
    reasons: tuple[str, ...] = ()
    trust: float | None = Field(
        None, description="Learned correlation with this job's target, mean over sets."
    )


class SetDiagnosis(Record):
    """What a few repeated anchors tell of one evaluation set."""

    eval_set: str
    signal: float = Field(description="Deviation between mixtures, noise removed, bits per byte.")
    noise: float | None = Field(description="Deviation between seeds, bits per byte.")
    signal_to_noise: float | None = None
    agreement: Interval | None = Field(
        None, description="Spearman's correlation between the cheapest rung and the target."
    )
    redundant_with: tuple[str, ...] = ()
    dominance: float = Field(description="Its share of the objective's variance over mixtures.")
    verdict: str = Field(description="`good`, or what is wrong, in words.")


class Diagnosis(Record):
    """The objective doctor's findings."""

    anchors: int = Field(description="Different mixtures that were compared.")
    repeats: int = Field(description="Runs beyond the first of a mixture.")
    sets: tuple[SetDiagnosis, ...]
    objective: SetDiagnosis | None = Field(None, description="The same of the objective itself.")
    warnings: tuple[str, ...] = Field((), description="What is wrong and what to do, in words.")


class FrontPoint(Record):
    """A mixture that no other beats on all parts of a Pareto objective."""

    mixture: Mixture
    parts: dict[str, Interval] = Field(description="Predicted, bits per byte.")


class Recommendation(Record):
    """The engine's answer before verification, or its refusal to give one."""

    mixture: Mixture | None
    shares: dict[str, Interval] = {}
    predicted: dict[str, Interval] = Field({}, description="By evaluation set, bits per byte.")
    objective: Interval | None = None
    gain: dict[str, Interval] = Field({}, description="Predicted, reference minus recommended.")
    chance_of_beating: dict[str, float] = {}
    fits: tuple[SetFit, ...] = ()
    equivalents: EquivalentSet | None = None
    guardrails: tuple[GuardrailReport, ...] = ()
    shadow_prices: tuple[ShadowPrice, ...] = ()
    calibration: Calibration | None = None
    plan: tuple[VerificationPlan, ...] = ()
    front: tuple[FrontPoint, ...] = ()
    bridges: BridgePlan | None = None
    reuse: tuple[ReuseSummary, ...] = ()
    diagnosis: Diagnosis | None = None
    notes: tuple[str, ...] = ()
    refused: str | None = Field(None, description="Why there is no recommendation.")


class PairedDifference(Record):
    """Reference minus recommended over paired runs (same seed), in bits per byte."""

    reference: str
    difference: Interval
    chance: float = Field(description="Posterior chance that the recommendation is better.")
    pairs: tuple[tuple[int, float, float], ...] = Field(
        description="(seed, reference's objective, recommendation's objective)."
    )


class DomainShare(Record):
    name: str
    tokens: int
    natural: float
    baseline: float
    recommended: Interval
    epochs: float | None = Field(None, description="At the target length, if that is known.")
    cap: float = Field(description="The greatest share that bounds and supply allow.")
    binding: str | None = Field(None, description="The constraint that holds the share, if any.")


class EvalReport(Record):
    name: str
    weight: float
    predicted: Interval
    measured: Interval | None = None
    baseline_measured: Interval | None = None


class RungSummary(Record):
    kind: str
    runs: int
    failed: int
    seconds: float
    agreement: Interval | None = Field(
        None, description="Spearman's rank correlation with the target rung over shared mixtures."
    )
    shared: int = Field(0, description="Mixtures measured at both rungs.")
    modelled: Interval | None = Field(
        None,
        description="The same correlation without noise, by the surrogate, over mixtures that "
        "either rung measured.",
    )


class CurvePoint(Record):
    """Best measured objective at the target rung after so many runs and seconds of training."""

    runs: int
    seconds: float
    best: float


class Report(Record):
    """The defended answer."""

    job_id: str
    name: str | None
    corpus_digest: str
    created_at: datetime
    confidence: float
    verdict: str
    refused: str | None = None
    recommended: Mixture | None = None
    domains: tuple[DomainShare, ...] = ()
    evaluations: tuple[EvalReport, ...] = ()
    predicted_objective: Interval | None = None
    measured_objective: Interval | None = None
    chance_of_beating: dict[str, float] = Field({}, description="Predicted, before verification.")
    predicted_gain: dict[str, Interval] = {}
    verification: tuple[PairedDifference, ...] = ()
    fits: tuple[SetFit, ...] = ()
    equivalents: EquivalentSet | None = None
    guardrails: tuple[GuardrailReport, ...] = ()
    shadow_prices: tuple[ShadowPrice, ...] = ()
    calibration: Calibration | None = None
    plan: tuple[VerificationPlan, ...] = Field((), description="As made before verification.")
    front: tuple[FrontPoint, ...] = ()
    bridges: BridgePlan | None = None
    reuse: tuple[ReuseSummary, ...] = ()
    diagnosis: Diagnosis | None = None
    rungs: tuple[RungSummary, ...] = ()
    curve: tuple[CurvePoint, ...] = ()
    stop_reason: str = ""
    notes: tuple[str, ...] = ()
    seed: int = 0
    engine_version: str = ""
