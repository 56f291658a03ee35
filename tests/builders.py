"""Records for tests: valid as they come; override the one field that the test is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from cuvee.answer import Interval, Recommendation, Report
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
    }
    return Recommendation(**values | fields)


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
