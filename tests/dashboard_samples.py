"""Reports of a realistic job: two rungs, a search and a verification, from a fixed seed."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta
from typing import Any

from dashboard_world import (
    CAPS,
    DOMAINS,
    FLOORS,
    TARGET_TOKENS,
    TOKENS,
    WEIGHTS,
    coefficient,
    expected,
    interval,
    law,
    natural,
    nearby,
    pairs,
    random_mixture,
    recommended,
)

from cuvee.answer import (
    BridgePlan,
    Calibration,
    CurvePoint,
    Diagnosis,
    DomainShare,
    EquivalentSet,
    EvalReport,
    FrontPoint,
    GuardrailReport,
    Interval,
    PairedDifference,
    Report,
    ReuseSummary,
    RungSummary,
    SetDiagnosis,
    SetFit,
    ShadowPrice,
    VerificationPlan,
)
from cuvee.mixture import Mixture
from cuvee.records import Explanation

NOW = datetime(2026, 5, 4, 9, 30, tzinfo=UTC)
HOSTILE = "</script><img src=x onerror=alert(1)>"


def fit(eval_set: int, noise: random.Random, runs: int = 30) -> SetFit:
    truth = [law(eval_set, random_mixture(noise)) for _ in range(runs)]
    scores = {
        "multi_fidelity_gp": 2.71 - 0.12 * eval_set,
        "log_linear": 2.84 - 0.2 * eval_set,
        "power": 2.66 - 0.11 * eval_set,
        "trees": 1.12,
    }
    exponent = {name: math.exp(8 * score) for name, score in scores.items()}
    weights = {name: value / sum(exponent.values()) for name, value in exponent.items()}
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
        loo_se=(0.013 + 0.004 * eval_set,) * runs,
        chosen=max(weights, key=lambda name: weights[name]),
        scores=scores,
        weights=weights,
    )


def equivalents() -> EquivalentSet:
    best = recommended()
    reach = (0.05, 0.034, 0.045, 0.062, 0.04, 0.048)
    return EquivalentSet(
        tolerance=0.005,
        share_of_region=0.0137,
        ranges={
            d: Interval(mean=best[d], low=best[d] - 0.8 * r, high=min(cap, best[d] + r))
            for d, r, cap in zip(DOMAINS, reach, CAPS, strict=True)
        },
        examples=(nearby(0.044, 3, 0), nearby(0.036, 5, 2), nearby(0.03, 0, 4)),
    )


def guardrails() -> tuple[GuardrailReport, ...]:
    """Interface strings gain; plays hardly move; code gives up most of what it may."""

    def one(name: str, allowed: float, half: float, chance: float) -> GuardrailReport:
        i = DOMAINS.index(name)
        rise = law(i, recommended()) - law(i, natural())
        measured = interval(rise + 0.004, 0.009)
        return GuardrailReport(
            eval_set=name,
            max_increase=allowed,
            increase=interval(rise, half),
            chance=chance,
            measured=measured,
            holds=measured.mean <= allowed,
        )

    return (
        one("code", 0.25, 0.031, 0.978),
        one("plays", 0.02, 0.026, 0.962),
        one("ui_i18n", 0.0, 0.034, 0.9996),
    )


def price(gain: float, scale: float) -> Interval:
    return Interval(mean=scale * gain, low=scale * 0.55 * gain, high=scale * 1.52 * gain)


def shadow_prices() -> tuple[ShadowPrice, ...]:
    gains = (0.0, 0.0119, 0.0, 0.0, 0.0, 0.0)
    return tuple(
        ShadowPrice(
            domain=d,
            cap=cap,
            binding=d == "math",
            tokens=195_000 if d == "math" else 10**9,
            gain_per_billion=price(g, 10**9 / 195_000),
            gain=price(g, 1.0),
        )
        for d, cap, g in zip(DOMAINS, CAPS, gains, strict=True)
    )


def calibration(noise: random.Random, runs: int = 30) -> Calibration:
    """Left-out predictions whose errors are as large as their standard errors say."""
    measured, predicted, se = [], [], []
    for _ in range(runs):
        value = expected(random_mixture(noise))
        error = 0.009 + 0.006 * noise.random()
        measured.append(value)
        predicted.append(value + noise.gauss(0, error))
        se.append(error)
    levels = (0.5, 0.8, 0.9, 0.95)
    z = [abs(m - p) / s for m, p, s in zip(measured, predicted, se, strict=True)]
    within = {0.5: 0.6745, 0.8: 1.2816, 0.9: 1.6449, 0.95: 1.96}
    return Calibration(
        levels=levels,
        coverage=tuple(sum(x <= within[level] for x in z) / runs for level in levels),
        inflation=1.21,
        measured=tuple(measured),
        predicted=tuple(predicted),
        se=tuple(se),
    )


def diagnosis() -> Diagnosis:
    """A set that noise drowns, one that dominates, and two that say the same."""
    facts = {
        "code": (0.118, 0.004, interval(0.93, 0.05), (), 0.16, "good"),
        "math": (0.241, 0.006, interval(0.91, 0.06), (), 0.58, "good"),
        "plays": (0.083, 0.007, interval(0.88, 0.08), (), 0.07, "good"),
        "scripture": (
            0.009,
            0.011,
            interval(0.12, 0.47),
            (),
            0.01,
            "drowned: seeds move it more than mixtures do",
        ),
        "api_docs": (0.131, 0.005, interval(0.9, 0.06), ("code",), 0.08, "good"),
        "ui_i18n": (0.152, None, None, (), 0.1, "good"),
    }
    return Diagnosis(
        anchors=6,
        repeats=4,
        sets=tuple(
            SetDiagnosis(
                eval_set=name,
                signal=signal,
                noise=error,
                signal_to_noise=None if error is None else signal / error,
                agreement=agreement,
                redundant_with=redundant,
                dominance=dominance,
                verdict=verdict,
            )
            for name, (signal, error, agreement, redundant, dominance, verdict) in facts.items()
        ),
        objective=SetDiagnosis(
            eval_set="objective",
            signal=0.121,
            noise=0.0032,
            signal_to_noise=0.121 / 0.0032,
            agreement=interval(0.9, 0.06),
            dominance=1.0,
            verdict="good",
        ),
        warnings=(
            "scripture cannot tell these mixtures apart: seeds differ by 0.011 bits per byte, "
            "mixtures by 0.009. Give it more held-out text, or leave it out of the objective.",
            "math makes up 58 % of the objective's variance over mixtures: the search will mostly "
            "follow it.",
            "api_docs and code rank the mixtures alike (0.97): one of them is enough.",
        ),
    )


def reuse() -> tuple[ReuseSummary, ...]:
    return (
        ReuseSummary(source="demo-last-week", used=31, expressed=12, dropped=5, trust=0.84,
                     reasons=("3 runs have a share above 5 % of forum, which is gone",
                              "2 runs were trained with another tokenizer")),
        ReuseSummary(source="imported/spring.csv", used=0, dropped=8,
                     reasons=("no evaluation set is shared with this job",)),
    )  # fmt: skip


def front(parts: tuple[str, ...] = ("reasoning", "interface"), points: int = 7) -> Report:
    """A report of a Pareto objective; the recommendation is in the middle of its front."""
    mixtures = [nearby(0.025 * (k - points // 2), 5, 0) for k in range(points)]
    found = tuple(
        FrontPoint(
            mixture=mixture,
            parts={
                name: interval(
                    1.7 + 0.1 * j + 0.03 * (k - points // 2) * (-1) ** (j + 1)
                    + 0.004 * (k - points // 2) ** 2,
                    0.012,
                )
                for j, name in enumerate(parts)
            },
        )
        for k, mixture in enumerate(mixtures)
    )  # fmt: skip
    return a_report(front=found)


def explanation(**changes: Any) -> Explanation:
    """Of a run at a cheap rung, which promises more for its cost than one at the target."""
    fields: dict[str, Any] = {
        "method": "improvement",
        "predicted_gain": 0.0124,
        "expected_improvement": 0.0061,
        "uncertainty": 0.0098,
        "correlation": 0.87,
        "cost": 0.046,
        "alternatives": {"ngram (rung 0)": 0.1326, "proxy (rung 1)": 0.0088},
    }
    return Explanation(**(fields | changes))


def a_plan(reference: str, power: float) -> VerificationPlan:
    return VerificationPlan(
        reference=reference,
        pairs=3,
        noise=0.0052,
        detectable=0.0121,
        power=power,
        pairs_for_power=2,
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
                recommended=Interval(
                    mean=best[d],
                    low=best[d] - 0.02 - 0.01 * (i % 3),
                    high=min(CAPS[i], best[d] + 0.02 + 0.01 * (i % 3)),
                ),
                epochs=best[d] * TARGET_TOKENS / t,
                cap=CAPS[i],
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
        "equivalents": equivalents(),
        "guardrails": guardrails(),
        "shadow_prices": shadow_prices(),
        "calibration": calibration(noise),
        "plan": (
            a_plan("baseline", 0.998),
            a_plan("uniform", 0.981),
        ),
        "bridges": BridgePlan(
            runs=2,
            agreement_before=Interval(mean=0.64, low=0.28, high=0.87),
            agreement_after=Interval(mean=0.86, low=0.71, high=0.94),
            worth_another=False,
            reason="a third bridge would narrow the interval by 0.02 and cost one target run",
        ),
        "reuse": reuse(),
        "diagnosis": diagnosis(),
        "rungs": (
            RungSummary(
                kind="ngram",
                runs=48,
                failed=0,
                seconds=9.4,
                agreement=Interval(mean=0.86, low=0.71, high=0.94),
                shared=14,
                modelled=Interval(mean=0.9, low=0.8, high=0.95),
            ),
            RungSummary(kind="proxy", runs=24, failed=1, seconds=203.0),
        ),
        "curve": tuple(CurvePoint(runs=n, seconds=s, best=b) for n, s, b in steps),
        "stop_reason": "the planned 18 search runs are used up",
        "notes": (
            "math stands at its supply cap: more of its text would help, by about 0.006 bits per "
            "byte for each further epoch.",
            "Shares of scripture between 4 % and 16 % are equivalent within the noise.",
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
        equivalents=None,
        guardrails=(),
        shadow_prices=(),
        plan=(),
    )


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)
