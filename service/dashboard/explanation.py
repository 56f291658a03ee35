"""Why a run was proposed: this mixture, at this rung, at that moment."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cuvee.methods import foresight_words, method_words
from cuvee.records import Explanation
from service.dashboard.formats import bits, percent, signed

__all__ = ["Why", "why_in_short"]


def why_in_short(found: Explanation) -> str:
    """One line for the table of runs: the promise, how sure it was, and the price."""
    said = found.method
    if found.predicted_gain is not None:
        said += f": gain {signed(found.predicted_gain)}"
        if found.uncertainty is not None:
            said += f" ± {bits(found.uncertainty)}"
    return f"{said}, {_price(found.cost)}"


@dataclass(frozen=True, slots=True)
class Why:
    """The whole explanation, for the page of a run.

    Attributes:
        method: How it was chosen, in words.
        facts: Name, value, and what it means.
        alternatives: Where the run could have been made instead: the rung, its value per cost,
            that value as a share of the greatest, and whether the run was made there.
        verdict: How much more the chosen rung promised than the next best; empty without a choice.
    """

    method: str
    facts: tuple[tuple[str, str, str], ...]
    alternatives: tuple[tuple[str, str, float, bool], ...]
    verdict: str

    @classmethod
    def of(cls, found: Explanation, kind: str, rung: int) -> Why:
        """``kind`` and ``rung`` are the run's own."""
        here = f"{kind} (rung {rung})"
        values = {k: v for k, v in found.alternatives.items() if math.isfinite(v)}
        most = max(values.values(), default=0.0)
        return cls(
            method=method_words(found.method),
            facts=tuple(_facts(found)),
            alternatives=tuple(
                (name, f"{value:.3g}", max(0.0, value / most) if most > 0 else 0.0, name == here)
                for name, value in sorted(values.items(), key=lambda item: -item[1])
            ),
            verdict=_verdict(values, here),
        )


def _facts(found: Explanation) -> list[tuple[str, str, str]]:
    facts = []
    if found.predicted_gain is not None:
        facts.append(
            (
                "Predicted gain",
                signed(found.predicted_gain),
                "bits per byte at the target, over the best so far",
            )
        )
    elif blind := foresight_words(found):
        facts.append(("Predicted gain", "–", blind))
    if found.uncertainty is not None:
        facts.append(
            ("Uncertainty", f"± {bits(found.uncertainty)}", "standard error of the loss there")
        )
    if found.expected_improvement is not None:
        facts.append(
            (
                "Expected improvement",
                bits(found.expected_improvement),
                "bits per byte, the chance of none counted",
            )
        )
    if found.correlation is not None:
        facts.append(
            ("Correlation", f"{found.correlation:.2f}", "of this rung's loss with the target's")
        )
    facts.append(
        ("Cost", percent(found.cost, 0 if found.cost >= 0.1 else 1), "of a run at the target")
    )
    return facts


def _verdict(values: dict[str, float], here: str) -> str:
    others = {name: value for name, value in values.items() if name != here}
    if here not in values or not others:
        return ""
    rival = max(others, key=lambda name: others[name])
    ours, theirs = values[here], others[rival]
    if ours > theirs > 0:
        return f"For its cost, {here} promised {ours / theirs:.3g} times as much as {rival}."
    if ours > theirs:
        return f"For its cost, only {here} promised anything."
    return f"{rival} promised more for its cost; {here} was chosen for another reason."


def _price(cost: float) -> str:
    return f"{percent(cost, 0 if cost >= 0.1 else 1)} of a target run's cost"
