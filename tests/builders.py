"""Records for tests: valid as they come; override the one field that the test is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from cuvee.answer import (
    BridgePlan,
    Calibration,
    Diagnosis,
    EquivalentSet,
    FrontPoint,
    GuardrailReport,
    Interval,
    Recommendation,
    Report,
    ReuseSummary,
    SetDiagnosis,
    SetFit,
    ShadowPrice,
    VerificationPlan,
)
from cuvee.mixture import Mixture
from cuvee.records import CorpusManifest, DomainCensus, EvalLoss, LossPoint, Observation, Proposal
from cuvee.spec import (
    ByteTokenizer,
    CorpusSpec,
    DomainSource,
    JobSpec,
    NgramRung,
    ProxyRung,
    Verification,
)

DOMAINS = ("code", "plays", "verse")


def a_corpus_spec(domains: Sequence[str] = DOMAINS, **fields: Any) -> CorpusSpec:
    values: dict[str, Any] = {
        "domains": tuple(DomainSource(name=d, paths=(f"/data/{d}",)) for d in domains),
        "tokenizer": ByteTokenizer(),
    }
    return CorpusSpec(**values | fields)


def a_census(name: str, **fields: Any) -> DomainCensus:
    values: dict[str, Any] = {
        "name": name,
        "documents": 100,
        "bytes": 400_000,
        "tokens": 100_000,
        "heldout_documents": 5,
        "heldout_bytes": 20_000,
        "heldout_tokens": 5_000,
    }
    return DomainCensus(**values | fields)


def a_manifest(domains: Sequence[str] = DOMAINS, **fields: Any) -> CorpusManifest:
    values: dict[str, Any] = {
        "digest": "d" * 64,
        "domains": tuple(a_census(d) for d in domains),
        "vocab_size": 257,
        "tokenizer_sha256": "e" * 64,
    }
    return CorpusManifest(**values | fields)


def an_ngram_rung(**fields: Any) -> NgramRung:
    return NgramRung(**{"runs": 6} | fields)


def a_proxy_rung(**fields: Any) -> ProxyRung:
    return ProxyRung(**{"runs": 4, "parameters": 20_000, "tokens": 8_192} | fields)


def a_spec(**fields: Any) -> JobSpec:
    values: dict[str, Any] = {
        "corpus": "corpus",
        "rungs": (an_ngram_rung(),),
        "concurrency": 2,
        "verification": Verification(seeds=1, references=("baseline",)),
    }
    return JobSpec(**values | fields)


def a_loss(bits_per_byte: float = 2.0, **fields: Any) -> EvalLoss:
    size = 20_000
    values: dict[str, Any] = {
        "nats": bits_per_byte * 0.6931471805599453 * size,
        "nats_se": 50.0,
        "tokens": 5_000,
        "bytes": size,
    }
    return EvalLoss(**values | fields)


def losses(
    bits_per_byte: float | Mapping[str, float] = 2.0, eval_sets: Sequence[str] = DOMAINS
) -> dict[str, EvalLoss]:
    """A loss for every evaluation set: the same for all, or one by name."""
    if isinstance(bits_per_byte, Mapping):
        return {name: a_loss(value) for name, value in bits_per_byte.items()}
    return {name: a_loss(bits_per_byte) for name in eval_sets}


def a_mixture(*shares: float, domains: Sequence[str] = DOMAINS) -> Mixture:
    return Mixture.from_shares(domains, shares) if shares else Mixture.uniform(domains)


def a_point(step: int = 1, **fields: Any) -> LossPoint:
    values: dict[str, Any] = {
        "step": step,
        "tokens": 1_000 * step,
        "train_loss": 3.0,
        "losses": losses(),
    }
    return LossPoint(**values | fields)


def an_observation(**fields: Any) -> Observation:
    values: dict[str, Any] = {
        "run_id": "01a20ca2-e072-76d4-9e39-b6b29eece113",
        "rung": 0,
        "mixture": a_mixture(),
        "seed": 1,
        "losses": losses(),
        "train_tokens": 8_192,
        "seconds": 1.5,
    }
    return Observation(**values | fields)


def a_proposal(**fields: Any) -> Proposal:
    values: dict[str, Any] = {
        "mixture": a_mixture(),
        "rung": 0,
        "seed": 1,
        "reason": "space-filling design",
    }
    return Proposal(**values | fields)


def a_recommendation(**fields: Any) -> Recommendation:
    values: dict[str, Any] = {
        "mixture": a_mixture(0.5, 0.3, 0.2),
        "objective": Interval(mean=1.9, low=1.8, high=2.0),
        "chance_of_beating": {"baseline": 0.95},
        "plan": (
            VerificationPlan(
                reference="baseline",
                pairs=1,
                noise=0.02,
                detectable=0.05,
                power=0.9,
                pairs_for_power=1,
            ),
        ),
    }
    return Recommendation(**values | fields)


def an_interval(mean: float = 2.0, half: float = 0.1) -> Interval:
    return Interval(mean=mean, low=mean - half, high=mean + half)


def a_diagnosis(**fields: Any) -> Diagnosis:
    def of(name: str) -> SetDiagnosis:
        return SetDiagnosis(
            eval_set=name,
            signal=0.05,
            noise=0.01,
            signal_to_noise=5.0,
            agreement=an_interval(0.8),
            redundant_with=("verse",) if name == "plays" else (),
            dominance=1 / 3,
            verdict="good",
        )

    values: dict[str, Any] = {
        "anchors": 5,
        "repeats": 1,
        "sets": tuple(of(name) for name in DOMAINS),
        "objective": of("objective"),
        "warnings": ("plays, verse order the anchors alike",),
    }
    return Diagnosis(**values | fields)


def a_full_recommendation(**fields: Any) -> Recommendation:
    """A recommendation in which nothing is left out."""
    mixture = a_mixture(0.5, 0.3, 0.2)
    values: dict[str, Any] = {
        "shares": {name: an_interval(mixture[name]) for name in DOMAINS},
        "predicted": {name: an_interval() for name in DOMAINS},
        "gain": {"baseline": an_interval(0.1, 0.05)},
        "fits": (
            SetFit(
                eval_set="code",
                runs=3,
                r2=0.9,
                loo_rmse=0.02,
                loo_r2=0.8,
                observed=(2.0, 2.1, 2.2),
                loo_predicted=(2.01, 2.1, 2.19),
                loo_se=(0.02, 0.02, 0.02),
                chosen="multi_fidelity_gp",
                scores={"multi_fidelity_gp": 1.2, "log_linear": 0.9},
                weights={"multi_fidelity_gp": 0.8, "log_linear": 0.2},
            ),
        ),
        "equivalents": EquivalentSet(
            tolerance=0.001,
            share_of_region=0.04,
            ranges={name: an_interval(mixture[name]) for name in DOMAINS},
            examples=(mixture,),
        ),
        "guardrails": (
            GuardrailReport(
                eval_set="plays",
                max_increase=0.01,
                increase=an_interval(-0.02, 0.01),
                chance=0.97,
                holds=True,
            ),
        ),
        "shadow_prices": (
            ShadowPrice(
                domain="code", cap=0.5, binding=True, gain_per_billion=an_interval(0.2, 0.1)
            ),
        ),
        "calibration": Calibration(
            levels=(0.5, 0.9),
            coverage=(0.52, 0.88),
            inflation=1.1,
            measured=(2.0, 2.1),
            predicted=(2.02, 2.08),
            se=(0.02, 0.02),
        ),
        "plan": (
            VerificationPlan(
                reference="baseline",
                pairs=3,
                noise=0.01,
                detectable=0.02,
                power=0.99,
                pairs_for_power=3,
            ),
        ),
        "front": (FrontPoint(mixture=mixture, parts={"a": an_interval()}),),
        "bridges": BridgePlan(
            runs=4,
            agreement_before=an_interval(0.7),
            agreement_after=an_interval(0.85),
            worth_another=False,
            reason="another would cost more than it tells",
        ),
        "reuse": (
            ReuseSummary(
                source="earlier",
                used=40,
                expressed=12,
                dropped=3,
                reasons=("3 with text of prose, which this job does not have",),
                trust=0.8,
            ),
        ),
        "diagnosis": a_diagnosis(),
        "notes": ("a note",),
    }
    return a_recommendation(**values | fields)


def a_report(**fields: Any) -> Report:
    values: dict[str, Any] = {
        "job_id": "01a20ca2-e072-76d4-9e39-b6b29eece113",
        "name": None,
        "corpus_digest": "d" * 64,
        "created_at": datetime(2026, 11, 24, tzinfo=UTC),
        "confidence": 0.9,
        "verdict": "the recommended mixture is better than the baseline",
        "recommended": a_mixture(0.5, 0.3, 0.2),
    }
    return Report(**values | fields)
