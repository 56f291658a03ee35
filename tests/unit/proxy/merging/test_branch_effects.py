"""Whether a pool is fit to be merged."""

from __future__ import annotations

import numpy as np
import pytest

from cuvee.mixture import Mixture
from cuvee.proxy.effects import branch_effects
from cuvee.proxy.merge import MergedModel, MergeEvaluator
from cuvee.proxy.model import build_model
from cuvee.proxy.trained import load_seed


def test_gains_are_differences_of_losses_and_largest_at_home(evaluator):
    effects = branch_effects(evaluator)
    before = evaluator.seed_losses()
    assert effects.eval_sets == ("code", "prose", "tables")
    for k, domain in enumerate(effects.domains):
        (after,) = evaluator.evaluate([Mixture({domain: 1.0})])
        for s, name in enumerate(effects.eval_sets):
            gain = before[name].bits_per_byte - after.losses[name].bits_per_byte
            assert effects.gains[s, k] == pytest.approx(gain, abs=1e-12)
        assert effects.gains[:, k].argmax() == effects.eval_sets.index(domain)
    assert (effects.errors > 0).all()


def replaced(trained, pool, make):
    """An evaluator whose branches are made from the seed's weights and their own."""
    evaluator = MergeEvaluator(pool, trained.corpus, 600, "cpu")
    seed = load_seed(trained.root, trained.outcome.seed_key).weights()
    members = [
        {name: make(seed[name], tensor) for name, tensor in branch.weights().items()}
        for branch in pool.branches
    ]
    model = build_model(trained.recipe.shape, trained.corpus.manifest.vocab_size, 32, 0)
    evaluator.model = MergedModel(model, [*members, seed], device=evaluator.device)
    return evaluator


def test_branches_that_did_not_move_are_reported(trained, pool):
    still = branch_effects(replaced(trained, pool, lambda seed, branch: seed))
    assert np.array_equal(still.gains, np.zeros((3, 3)))
    away = branch_effects(replaced(trained, pool, lambda seed, branch: seed - (branch - seed) / 9))
    for effects in (still, away):
        assert len(effects.warnings) == 3
        assert all("too little" in warning for warning in effects.warnings)


def test_branches_that_unlearnt_the_rest_are_reported(evaluator):
    effects = branch_effects(evaluator)
    expected = []
    for k, domain in enumerate(effects.domains):
        own = effects.eval_sets.index(domain)
        gain, error = effects.gains[own, k], effects.errors[own, k]
        rest = np.delete(effects.gains[:, k], own)
        if gain > 5 * error and -rest.mean() > gain / 2:
            expected.append(domain)
    assert expected, "the pool of the tests is a small one, and one of its branches is like that"
    told = [warning for warning in effects.warnings if "unlearnt" in warning]
    assert [next(d for d in effects.domains if f"{d!r}" in warning) for warning in told] == expected
