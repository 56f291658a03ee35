"""A realistic job: six domains, two rungs, a search and a verification, from a fixed seed."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta
from typing import Any

from cuvee.answer import (
    CurvePoint,
    DomainShare,
    EvalReport,
    Interval,
    PairedDifference,
    Report,
    RungSummary,
    SetFit,
)
from cuvee.mixture import Mixture
from cuvee.records import EvalLoss

DOMAINS = ("code", "math", "plays", "scripture", "api_docs", "ui_i18n")
TOKENS = (4_200_000, 780_000, 1_150_000, 980_000, 2_600_000, 760_000)
FLOORS = (0.92, 1.18, 1.71, 1.32, 1.05, 1.44)
WEIGHTS = (0.12, 0.4, 0.12, 0.1, 0.06, 0.2)
NOW = datetime(2026, 5, 4, 9, 30, tzinfo=UTC)
HOSTILE = "</script><img src=x onerror=alert(1)>"


def natural() -> Mixture:
    return Mixture.from_weights(dict(zip(DOMAINS, map(float, TOKENS), strict=True)))


def recommended() -> Mixture:
    return Mixture(dict(zip(DOMAINS, (0.186, 0.312, 0.122, 0.094, 0.068, 0.218), strict=True)))


def coefficient(eval_set: int, domain: int) -> float:
    """Own text helps most; code, documentation and interface strings help each other."""
    if eval_set == domain:
        return -2.6 - 0.2 * domain
    related = {(0, 4), (4, 0), (4, 5), (5, 4), (2, 3), (3, 2), (0, 1), (1, 0)}
    return -0.9 if (eval_set, domain) in related else 0.1 + 0.06 * ((3 * eval_set + domain) % 5)


def law(eval_set: int, mixture: Mixture) -> float:
    exponent = sum(coefficient(eval_set, j) * mixture[d] for j, d in enumerate(DOMAINS))
    return FLOORS[eval_set] + 1.1 * math.exp(exponent)


def losses(mixture: Mixture, noise: random.Random) -> dict[str, EvalLoss]:
    measured = {}
    for i, name in enumerate(DOMAINS):
        value = law(i, mixture) + noise.gauss(0, 0.002)
        nats = value * math.log(2) * 60_000
        measured[name] = EvalLoss(nats=nats, nats_se=nats * 0.004, tokens=20_000, bytes=60_000)
    return measured


def objective(mixture: Mixture, noise: random.Random) -> float:
    values = losses(mixture, noise).values()
    return sum(w * v.bits_per_byte for w, v in zip(WEIGHTS, values, strict=True))


def random_mixture(noise: random.Random) -> Mixture:
    return Mixture.from_weights({d: noise.gammavariate(1.2, 1.0) for d in DOMAINS})


def interval(mean: float, half: float) -> Interval:
    return Interval(mean=mean, low=mean - half, high=mean + half)


def fit(eval_set: int, noise: random.Random, runs: int = 30) -> SetFit:
    truth = [law(eval_set, random_mixture(noise)) for _ in range(runs)]
    return SetFit(
        eval_set=DOMAINS[eval_set],
        runs=runs,
        r2=0.985 - 0.01 * eval_set,
        loo_rmse=0.011 + 0.004 * eval_set,
        loo_r2=0.972 - 0.021 * eval_set,
        coefficients={d: coefficient(eval_set, j) for j, d in enumerate(DOMAINS)},
        floor=FLOORS[eval_set],
        observed=tuple(t + noise.gauss(0, 0.008) for t in truth),
        loo_predicted=tuple(t + noise.gauss(0, 0.011 + 0.004 * eval_set) for t in truth),
    )


def pairs(reference: Mixture, noise: random.Random) -> tuple[tuple[int, float, float], ...]:
    return tuple(
        (seed, objective(reference, noise), objective(recommended(), noise))
        for seed in (101, 102, 103)
    )


def difference(name: str, reference: Mixture, noise: random.Random) -> PairedDifference:
    paired = pairs(reference, noise)
    mean = sum(theirs - ours for _, theirs, ours in paired) / len(paired)
    return PairedDifference(
        reference=name, difference=interval(mean, 0.006), chance=0.9985, pairs=paired
    )


def a_report(**changes: Any) -> Report:
    """A verified report; ``changes`` replace whole fields."""
    noise = random.Random(7)
    best = recommended()
    steps = (
        (1, 8, 1.952),
        (3, 25, 1.931),
        (6, 51, 1.884),
        (11, 92, 1.858),
        (15, 127, 1.8412),
        (18, 152, 1.8412),
    )
    verified = (
        difference("baseline", natural(), noise),
        difference("uniform", Mixture.uniform(DOMAINS), noise),
    )
    gain = verified[0].difference.mean
    fields: dict[str, Any] = {
        "job_id": "019a8c1e-5f0b-7c32-9a41-0d6f6a1f9c55",
        "name": "demo",
        "corpus_digest": "5f2c3c1b9d7a44e0a1c6be03b2c9f7e6d1a84e5fb1c0e39a7d25f6b8c9e0a1b2",
        "created_at": NOW,
        "confidence": 0.9,
        "verdict": f"The recommended mixture beats natural proportions by {gain:.4f} bits per byte "
        f"(5.4 %), and uniform shares by {verified[1].difference.mean:.4f}: 3 of 3 paired runs "
        "agree on each.",
        "recommended": best,
        "domains": tuple(
            DomainShare(
                name=d,
                tokens=t,
                natural=natural()[d],
                baseline=natural()[d],
                recommended=interval(best[d], 0.02 + 0.01 * (i % 3)),
                epochs=best[d] * 10_000_000 / t,
                cap=min(1.0, 4 * t / 10_000_000),
                binding="supply of math: 780,000 tokens x 4 epochs / 10,000,000 target tokens "
                "= 0.312"
                if d == "math"
                else None,
            )
            for i, (d, t) in enumerate(zip(DOMAINS, TOKENS, strict=True))
        ),
        "evaluations": tuple(
            EvalReport(
                name=d,
                weight=WEIGHTS[i],
                predicted=interval(law(i, best), 0.016 + 0.004 * i),
                measured=interval(law(i, best) + noise.gauss(0, 0.008), 0.01),
                baseline_measured=interval(law(i, natural()), 0.01),
            )
            for i, d in enumerate(DOMAINS)
        ),
        "predicted_objective": interval(1.837, 0.014),
        "measured_objective": interval(1.8393, 0.008),
        "chance_of_beating": {"baseline": 0.994, "uniform": 0.91},
        "predicted_gain": {"baseline": interval(0.104, 0.018), "uniform": interval(0.059, 0.016)},
        "verification": verified,
        "fits": tuple(fit(i, noise) for i in range(6)),
        "rungs": (
            RungSummary(
                kind="ngram",
                runs=48,
                failed=0,
                seconds=9.4,
                agreement=interval(0.86, 0.09),
                shared=14,
            ),
            RungSummary(kind="proxy", runs=24, failed=1, seconds=203.0),
        ),
        "curve": tuple(CurvePoint(runs=n, seconds=s, best=b) for n, s, b in steps),
        "stop_reason": "the planned 18 search runs are used up",
        "notes": (
            "math stands at its supply cap: more of its text would help, by about 0.006 bits per "
            "byte for each further epoch.",
            "Shares of scripture between 12 % and 19 % are equivalent within the noise.",
        ),
        "seed": 1,
        "engine_version": "0.1.0",
    }
    return Report(**(fields | changes))


def a_refusal() -> Report:
    return a_report(
        verdict="No mixture can be recommended from these runs.",
        refused="The law explains only 12 % of the variance of left-out runs on scripture. "
        "Give the target rung at least 12 more runs or longer trainings.",
        recommended=None,
        domains=(),
        evaluations=(),
        verification=(),
        predicted_objective=None,
        measured_objective=None,
        chance_of_beating={},
        predicted_gain={},
    )


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)
