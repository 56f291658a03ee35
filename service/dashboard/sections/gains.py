"""How much better the recommendation is, what verification could show, and what it showed."""

from __future__ import annotations

from collections.abc import Iterable

from cuvee.answer import PairedDifference, Report, VerificationPlan
from service.dashboard.figures import Figure
from service.dashboard.formats import bits, chance, finite, signed, signed_span
from service.dashboard.rows import Axis, Marks, rows_data

__all__ = ["PLAN_HEADER", "gains_figure", "pairs_figure", "plan_rows"]

PLAN_HEADER = (
    "Reference",
    "Pairs",
    "Deviation of a pair",
    "Least gain shown with 80 % chance",
    "Chance to show the predicted gain",
    "Pairs for a chance of 80 %",
)


def gains_figure(report: Report) -> Figure | None:
    """Predicted and measured gain over each reference; None when nothing was compared."""
    measured = {one.reference: one for one in report.verification}
    plans = {one.reference: one for one in report.plan}
    predicted = report.predicted_gain
    names = list(dict.fromkeys((*predicted, *measured)))
    if "baseline" in names and all(d.natural == d.baseline for d in report.domains):
        names = [n for n in names if n != "natural"]  # the same mixture by another name
    if not names:
        return None
    return Figure(
        id="gains",
        kind="rows",
        title="How much better is it, and how sure is that?",
        caption=_gains_caption(names[0], report, measured, plans),
        data=rows_data(
            Axis("bits per byte gained, higher is better", "signed", zero=True),
            names,
            (
                Marks("predicted gain", "band", "accent", list(map(predicted.get, names))),
                Marks(
                    "measured in pairs",
                    "dot",
                    "accent",
                    [measured[n].difference if n in measured else None for n in names],
                ),
                Marks(
                    "least gain that the planned pairs show",
                    "tick",
                    "warn",
                    [plans[n].detectable if n in plans else None for n in names],
                ),
            ),
        ),
        header=(
            "Reference",
            "Predicted gain",
            "Chance of being better, predicted",
            "Measured gain",
            "Chance of being better, after pairs",
        ),
        rows=tuple(
            (
                name,
                signed_span(predicted.get(name)),
                chance(report.chance_of_beating.get(name)),
                signed_span(measured[name].difference if name in measured else None),
                chance(measured[name].chance if name in measured else None),
            )
            for name in names
        ),
        tall=len(names),
    )


def _gains_caption(
    name: str,
    report: Report,
    measured: dict[str, PairedDifference],
    plans: dict[str, VerificationPlan],
) -> str:
    said = []
    gain, odds = report.predicted_gain.get(name), report.chance_of_beating.get(name)
    if gain is not None:
        sure = "" if odds is None else f", better with a chance of {chance(odds)}"
        said.append(f"Over the {name} a gain of {signed_span(gain)} was predicted{sure}.")
    if name in measured:
        one = measured[name]
        said.append(
            f"{_pairs(len(one.pairs))} then measured {signed_span(one.difference)}; "
            f"the chance is now {chance(one.chance)}."
        )
    elif name in plans and plans[name].pairs:
        said.append("It has not been measured.")
    return " ".join(said)


def plan_rows(plan: Iterable[VerificationPlan]) -> tuple[tuple[str, ...], ...]:
    """The plan of verification as it was made before the pairs were run, a row a reference."""
    return tuple(
        (
            one.reference,
            str(one.pairs),
            bits(one.noise),
            bits(one.detectable),
            chance(one.power),
            _needed(one),
        )
        for one in plan
    )


def _needed(one: VerificationPlan) -> str:
    if one.pairs_for_power is not None:
        return str(one.pairs_for_power)
    return "–" if one.power is None else "over 100"


def pairs_figure(differences: Iterable[PairedDifference]) -> Figure | None:
    """Every pair of runs; None without any."""
    paired = [d for d in differences if d.pairs]
    if not paired:
        return None
    counts = [
        f"in {sum(reference > ours for _, reference, ours in one.pairs)} of {len(one.pairs)} "
        f"against {one.reference}"
        for one in paired
    ]
    return Figure(
        id="verification",
        kind="pairs",
        title="Did it hold when tried again?",
        caption="In pairs of runs with the same seed and budget, the recommendation had the lower "
        f"loss {' and '.join(counts)}.",
        data={
            "rows": [
                {
                    "reference": one.reference,
                    "pair": number,
                    "from": finite(reference),
                    "to": finite(ours),
                }
                for one in paired
                for number, (_, reference, ours) in enumerate(one.pairs, 1)
            ]
        },
        header=("Pair", "Seed", "Reference, bits per byte", "Recommended", "Difference"),
        rows=tuple(
            (
                f"{one.reference}, {number}",
                str(seed),
                bits(reference),
                bits(ours),
                signed(ours - reference),
            )
            for one in paired
            for number, (seed, reference, ours) in enumerate(one.pairs, 1)
        ),
        tall=sum(len(one.pairs) for one in paired),
    )


def _pairs(number: int) -> str:
    return "1 pair of runs" if number == 1 else f"{number} pairs of runs"
