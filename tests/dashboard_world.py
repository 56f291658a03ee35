"""A job to sample from: six domains, laws for the losses on them, natural and best shares."""

from __future__ import annotations

import math
import random

from cuvee.answer import Interval
from cuvee.mixture import Mixture
from cuvee.records import EvalLoss

DOMAINS = ("code", "math", "plays", "scripture", "api_docs", "ui_i18n")
TOKENS = (4_200_000, 780_000, 1_150_000, 980_000, 2_600_000, 760_000)
FLOORS = (0.92, 1.18, 1.71, 1.32, 1.05, 1.44)
WEIGHTS = (0.12, 0.4, 0.12, 0.1, 0.06, 0.2)
TARGET_TOKENS = 10_000_000
CAPS = tuple(min(1.0, 4 * tokens / TARGET_TOKENS) for tokens in TOKENS)


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


def expected(mixture: Mixture) -> float:
    """The objective without noise."""
    return sum(w * law(i, mixture) for i, w in enumerate(WEIGHTS))


def nearby(amount: float, more: int, less: int) -> Mixture:
    """The recommendation with so much of one domain's share given to another."""
    shares = dict(recommended().root)
    shares[DOMAINS[more]] += amount
    shares[DOMAINS[less]] -= amount
    return Mixture(shares)


def pairs(reference: Mixture, noise: random.Random) -> tuple[tuple[int, float, float], ...]:
    return tuple(
        (seed, objective(reference, noise), objective(recommended(), noise))
        for seed in (101, 102, 103)
    )
