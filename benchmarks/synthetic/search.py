"""One search on a problem whose optimum is known, judged by the truth at every budget."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from benchmarks.loop import spend
from benchmarks.replay.record import Record
from benchmarks.replay.spent import Spent
from benchmarks.synthetic.cases import CASES, Searchable, with_text
from cuvee.engine.answer.agreement import modelled_agreement
from cuvee.engine.evidence.table import Table
from cuvee.engine.space.simplex import Array
from cuvee.engine.surrogates.fitted import Fits
from cuvee.records import History, Observation, Proposal, SearchProblem
from cuvee.spec import Doctor, StrategyName

__all__ = ["Task", "run_task", "search"]

Task = tuple[str, StrategyName, int]
"""Case, strategy, seed."""

_BLIND = 256
_SALT = 1  # the world and the search draw from the seed itself
_RANKED = 48


def run_task(corpora: Path | None, task: Task) -> tuple[list[Record], Spent]:
    """A search in a worker process, with one thread; its records, and what it took."""
    import torch

    torch.set_num_threads(1)
    begin, used = time.perf_counter(), time.process_time()
    records = search(corpora, *task)
    seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - used
    words = ", ".join(map(str, task))
    return records, Spent(task[0], task[1], words, round(seconds, 3), round(cpu_seconds, 3))


def search(corpora: Path | None, name: str, strategy: StrategyName, seed: int) -> list[Record]:
    """One record per budget; the last has the area under regret, and what became of the rungs.

    ``agreement_r`` is the rank correlation of rung ``r`` with the target that the default has
    learned when all is spent (``modelled_agreement``, over mixtures drawn uniformly), and
    ``true_agreement_r`` what it is.

    Args:
        corpora: Folder of the prepared corpus; None where the case needs none.
        name: The case's.
        strategy: Which.
        seed: Of the world and of the search.
    """
    case = (CASES if corpora is None else with_text(corpora))[name]
    world = case.build(seed)
    problem = _undiagnosed(world.problem(case.runs, strategy=strategy, seed=seed, costs=case.costs))
    blind = np.random.default_rng([seed, _SALT]).dirichlet(np.ones(len(world.names)), size=_BLIND)
    best = world.objective(world.optimum)
    scale = float(np.median([world.objective(p) for p in blind])) - best
    bought: list[Observation] = []

    def buy(proposal: Proposal, run_id: str) -> Observation:
        bought.append(world.observe(proposal, run_id))
        return bought[-1]

    found = []
    for answer in spend(problem, case.costs, case.budgets, seed, buy):
        above = world.objective(np.array(answer.mixture.shares(world.names))) - best
        values = {"regret": above / scale, "bits_per_byte": above, "spent": answer.spent}
        values |= {f"runs_{rung}": float(n) for rung, n in enumerate(answer.runs)}
        found.append(Record("synthetic", name, strategy, answer.budget, seed, values))
    last = found[-1].values
    last["area"] = float(np.trapezoid([r.values["regret"] for r in found], case.budgets))
    if strategy == "multi_fidelity":
        history = History(observations=tuple(bought))
        last |= _agreement(world, problem, history, blind[:_RANKED])
    return found


def _undiagnosed(problem: SearchProblem) -> SearchProblem:
    """Without the doctor's anchors, which are the same for all and would be a third of the target's
    runs; the references stay."""
    spec = problem.spec.model_copy(update={"doctor": Doctor(anchors=0, repeats=0)})
    return problem.model_copy(update={"spec": spec})


def _agreement(
    world: Searchable, problem: SearchProblem, history: History, p: Array
) -> dict[str, float]:
    """How the rungs below the target rank mixtures ``(n, m)``: as learned, and truly."""
    table = Table.build(problem, history)
    belief = Fits(table).belief
    order = [world.names.index(name) for name in table.domains]
    at_target = [world.objective(q) for q in p]
    values = {}
    for rung in range(table.target):
        true = spearmanr([world.objective(q, rung) for q in p], at_target).statistic
        values[f"true_agreement_{rung}"] = float(true)
        learned = None
        if belief is not None:
            rng = np.random.default_rng(0)
            learned = modelled_agreement(
                belief.model, table.goal, rung, p[:, order], rng, 0.9, belief.inflation
            )
        if learned is not None:
            values[f"agreement_{rung}"] = learned.mean
    return values
