"""Problems with known optima: nothing beats the optimum, and the truth judges a search."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.synthetic import text
from benchmarks.synthetic.cases import CASES
from benchmarks.synthetic.search import search
from cuvee.corpus import prepare
from cuvee.spec import ByteTokenizer, CorpusSpec, DomainSource

WORDS = {
    "verse": "thee thou art fair and the summer day is long to be or not",
    "code": "def return self import for in range lambda yield None True",
    "sums": "1 + 2 = 3 ; 40 * 5 - 6 / 7 sqrt ( x ) integral dy",
}


@pytest.mark.parametrize("name", CASES)
def test_no_mixture_beats_the_optimum_of_a_case(name: str) -> None:
    world = CASES[name].build(1)
    least = world.objective(world.optimum)
    draws = np.random.default_rng(0).dirichlet(np.full(len(world.names), 0.3), size=200)
    assert min(world.objective(p) for p in draws) >= least - 1e-6


def test_a_search_is_judged_at_every_budget_and_repeats_exactly() -> None:
    name = "three rungs, 6 domains"
    found = search(None, name, "random", 3)
    assert [r.n for r in found] == list(CASES[name].budgets)
    assert all(r.values["regret"] >= 0 and r.values["spent"] <= r.n + 1e-9 for r in found)
    assert found == search(None, name, "random", 3)
    regrets = [r.values["regret"] for r in found]
    assert min(regrets) * 7 <= found[-1].values["area"] <= max(regrets) * 7  # budgets 1 to 8


def test_the_optimum_over_real_text_is_not_beaten_by_dense_sampling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    sources = []
    for name, words in WORDS.items():
        (tmp_path / name).mkdir()
        for i in range(40):
            document = " ".join(rng.choice(words.split(), size=200).tolist())
            (tmp_path / name / f"{i}.txt").write_text(document)
        sources.append(DomainSource(name=name, paths=(str(tmp_path / name),)))
    spec = CorpusSpec(domains=tuple(sources), tokenizer=ByteTokenizer())
    spec = spec.model_copy(
        update={"holdout": spec.holdout.model_copy(update={"share": 0.2, "min_bytes": 1000})}
    )
    prepare(spec, tmp_path / "corpora")
    monkeypatch.setattr(text, "_SPREAD", 30)
    world = text.text_world(tmp_path / "corpora", seed=0)
    least = world.objective(world.optimum)
    draws = np.random.default_rng(1).dirichlet(np.ones(3), size=150)
    assert min(world.objective(p) for p in draws) >= least - 1e-4
    assert world.optimum.sum() == pytest.approx(1)
