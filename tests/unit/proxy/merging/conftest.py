"""A pool of three branches on real text, trained once for all tests of merging."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from cuvee.corpus import PreparedCorpus
from cuvee.proxy.branch import PoolOutcome, train_pool
from cuvee.proxy.merge import MergeEvaluator
from cuvee.proxy.pool import MergePool, open_pool
from cuvee.proxy.recipe import MergeRecipe

RECIPE = MergeRecipe(
    parameters=10_000,
    sequence_length=32,
    batch_sequences=4,
    seed_tokens=60 * 4 * 32,
    target_tokens=40 * 4 * 32,
)
"""60 steps of seed, 40 of target, 10 of branch."""

EVAL_TOKENS = 600


@dataclass(frozen=True)
class Trained:
    recipe: MergeRecipe
    corpus: PreparedCorpus
    root: Path
    outcome: PoolOutcome

    def open(self) -> MergePool:
        return open_pool(self.root, self.outcome.seed_key, self.outcome.branches)


@pytest.fixture(scope="session")
def recipe() -> MergeRecipe:
    return RECIPE


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, bpe_corpus: PreparedCorpus) -> Trained:
    root = tmp_path_factory.mktemp("pool")
    return Trained(RECIPE, bpe_corpus, root, train_pool(RECIPE, bpe_corpus, root, device="cpu"))


@pytest.fixture(scope="session")
def pool(trained: Trained) -> MergePool:
    return trained.open()


@pytest.fixture(scope="session")
def evaluator(trained: Trained, pool: MergePool) -> MergeEvaluator:
    return MergeEvaluator(pool, trained.corpus, EVAL_TOKENS, device="cpu")
