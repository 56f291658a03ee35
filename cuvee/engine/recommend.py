"""The answer before verification: a mixture, how sure each share is, and what to expect of it."""

from __future__ import annotations

import numpy as np

from cuvee.answer import Interval, Recommendation, SetFit
from cuvee.engine import bootstrap
from cuvee.engine.fitted import Fits, Fitted, objective_noise, r2
from cuvee.engine.simplex import Array
from cuvee.engine.strategies import STRATEGIES
from cuvee.engine.table import Table
from cuvee.records import History, SearchProblem

__all__ = ["law_fits", "recommend"]

REPLICATES = 400
"""Twenty draws in each tail of a 90 % interval: between bootstrap seeds an interval's end
moves by 3 % of the interval's length (standard deviation, 20 worlds)."""


def recommend(problem: SearchProblem, history: History, seed: int) -> Recommendation:
    """The mixture that the job's strategy answers with, or why it can not answer.

    The mixture is never outside the shares that target runs have seen: there the law is a guess.
    Share intervals are those of the answer over bootstrap replicates of the laws; predicted losses
    and gains are evaluated at the fixed recommendation on the same replicates, so they are free of
    the optimism of evaluating each replicate at its own optimum.

    Args:
        problem: What was searched.
        history: Every run; verification runs are ignored.
        seed: The job's seed, for the bootstrap.

    Raises:
        EngineError: If an observation lacks an evaluation set.
    """
    table = Table.build(problem, history)
    fits = Fits(table)
    fitted = fits.at(table.target)
    refused = _refusal(table, fitted)
    if fitted is None or refused is not None:
        records = () if fitted is None else law_fits(table, fitted)
        return Recommendation(mixture=None, fits=records, refused=refused)
    strategy = STRATEGIES[problem.spec.strategy]
    rng = np.random.default_rng([seed, len(table.shares)])
    draws = fitted.draws(rng, REPLICATES)
    mixture = table.mixture(strategy.answer(table, fits, rng))
    p = table.vector(mixture)
    answers = strategy.answers(table, fitted, draws)
    level = problem.spec.verification.confidence
    losses = draws.at(p)[:, 0]  # (B, E)
    mean = fitted.laws.at(p)[0]
    places = {name: j for j, name in enumerate(table.domains)}
    sets = {name: e for e, name in enumerate(table.eval_sets)}
    gain, chance = {}, {}
    for label in ("baseline", "natural", "uniform"):
        reference = table.vector(problem.reference(label))
        better = (draws.at(reference)[:, 0] - losses) @ table.w  # (B,)
        point = float((fitted.laws.at(reference)[0] - mean) @ table.w)
        gain[label] = _interval(point, better, level)
        wins = np.sum(better > 0) + 0.5 * np.sum(better == 0)
        chance[label] = float((wins + 0.5) / (len(better) + 1))
    return Recommendation(
        mixture=mixture,
        shares={
            name: _interval(float(p[places[name]]), answers[:, places[name]], level)
            for name in problem.names
        },
        predicted={
            name: _interval(float(mean[sets[name]]), losses[:, sets[name]], level)
            for name in problem.eval_sets
        },
        objective=_interval(float(mean @ table.w), losses @ table.w, level),
        gain=gain,
        chance_of_beating=chance,
        fits=law_fits(table, fitted),
        notes=_notes(table, fitted, p),
    )


def _interval(mean: float, draws: Array, confidence: float) -> Interval:
    low, high = bootstrap.interval(draws, confidence)
    return Interval(mean=mean, low=min(low, mean), high=max(high, mean))


def _refusal(table: Table, fitted: Fitted | None) -> str | None:
    """Why there can be no recommendation; None when there can."""
    x, y = table.at(table.target)
    m = x.shape[1]
    if fitted is None:
        failed = int(np.sum(table.busy_rung == table.target))
        return (
            f"{len(np.unique(np.round(x, 5), axis=0))} different mixtures were measured at the "
            f"target rung, and a law over {m} domains needs at least {m + 1} "
            f"({failed} runs failed or are pending): raise rungs[{table.target}].runs, best to "
            f"{3 * (m + 1)} or more"
        )
    if fitted.loo_r2 <= 0 and fitted.loo_rank < 0.5:
        noise = objective_noise(table, fitted)
        said = f", the noise of one run about {noise:.2g}" if noise is not None else ""
        return (
            "the laws predict a run that was left out no better than the mean of the others "
            f"(R2 {fitted.loo_r2:.2f}, rank correlation {fitted.loo_rank:.2f}); the measured "
            f"objectives span {np.ptp(y @ table.w):.2g} bits per byte{said}: run more or longer "
            "target runs, or keep the present mixture"
        )
    if not np.any(table.region.contains(x, slack=1e-5)):
        return "no measured mixture satisfies the constraints: allow more target runs"
    return None


def law_fits(table: Table, fitted: Fitted) -> tuple[SetFit, ...]:
    """The laws as records, in the problem's order of evaluation sets and domains."""
    laws = fitted.laws
    fit = laws.y - laws.residuals
    by_name = {}
    for e, name in enumerate(table.eval_sets):
        slopes = dict(zip(table.domains, laws.t[e].tolist(), strict=True))
        by_name[name] = SetFit(
            eval_set=name,
            runs=laws.runs,
            r2=r2(laws.y[:, e], fit[:, e]),
            loo_rmse=float(np.sqrt(np.mean((laws.y[:, e] - laws.loo[:, e]) ** 2))),
            loo_r2=r2(laws.y[:, e], laws.loo[:, e]),
            coefficients={d: slopes[d] for d in table.problem.names},
            floor=float(laws.c[e]),
            observed=tuple(laws.y[:, e].tolist()),
            loo_predicted=tuple(laws.loo[:, e].tolist()),
        )
    return tuple(by_name[name] for name in table.problem.eval_sets)


def _notes(table: Table, fitted: Fitted, p: Array) -> tuple[str, ...]:
    """What a reader should know before trusting the mixture."""
    notes = []
    runs, m = fitted.laws.x.shape
    low, high = fitted.laws.x.min(axis=0), fitted.laws.x.max(axis=0)
    at_low = (p <= low + 1e-5) & (low > table.region.lower + 1e-4)
    at_high = (p >= high - 1e-5) & (high < table.region.upper - 1e-4)
    for at, word, seen in ((at_low, "less", low), (at_high, "more", high)):
        held = [f"{table.domains[j]} ({seen[j]:.3g})" for j in np.flatnonzero(at)]
        if held:
            notes.append(
                f"the laws would give still {word} than any target run gave to "
                f"{', '.join(sorted(held))}: the recommendation stays within what was seen"
            )
    if runs < 3 * (m + 1):
        notes.append(
            f"the laws rest on {runs} target runs for {m + 1} parameters each; "
            f"{3 * (m + 1)} would make the intervals firmer"
        )
    leverage = float(table.w @ fitted.laws.leverages_at(p)[:, 0])
    if leverage > 1:
        notes.append(f"the target runs support this mixture weakly (leverage {leverage:.2g})")
    failed = int(np.sum(table.busy_rung == table.target) - table.pending[table.target])
    if failed:
        notes.append(f"{failed} target runs failed and are not in the laws")
    return tuple(notes)
