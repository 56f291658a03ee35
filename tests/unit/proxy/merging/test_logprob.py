"""Mixtures of predictions against probabilities averaged token by token."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from cuvee.errors import SpecError
from cuvee.mixture import Mixture
from cuvee.proxy.evaluate import prepare_sets
from cuvee.proxy.logprob import LogprobMixture, branch_logprobs
from cuvee.proxy.merge_gradient import exponentiated_gradient
from cuvee.proxy.merge_weights import MILLION

MIXTURE = Mixture({"code": 0.5, "prose": 0.2, "tables": 0.3})


@pytest.fixture(scope="module")
def mixture(evaluator) -> LogprobMixture:
    return LogprobMixture.measure(evaluator)


def test_a_vertex_has_the_loss_of_the_branch(evaluator, mixture):
    vertices = [Mixture({name: 1.0}) for name in evaluator.pool.names]
    for ours, theirs in zip(mixture.evaluate(vertices), evaluator.evaluate(vertices), strict=True):
        for name, loss in theirs.losses.items():
            assert ours.losses[name].nats == pytest.approx(loss.nats, rel=1e-6)
            assert ours.losses[name].nats_se == pytest.approx(loss.nats_se, rel=1e-4)
            assert ours.nats[name] == pytest.approx(theirs.nats[name], rel=1e-5)
            assert ours.keys[name] != theirs.keys[name]


def test_a_mixture_is_the_average_of_probabilities(evaluator, mixture):
    (ours,) = mixture.evaluate([MIXTURE])
    for name, scored in evaluator.sets.items():
        inputs, targets = torch.from_numpy(scored.inputs), torch.from_numpy(scored.targets)
        averaged = torch.zeros(targets.shape, dtype=torch.float64)
        for k, count in enumerate(ours.millionths):
            evaluator.model.set_weights([float(i == k) for i in range(4)])
            with torch.no_grad():
                p = torch.softmax(evaluator.logits(inputs).double(), dim=-1)
            averaged += count / MILLION * p.gather(2, targets.clamp(min=0)[..., None])[..., 0]
        expected = -torch.log(averaged[targets >= 0]).sum().item()
        assert ours.losses[name].nats == pytest.approx(expected, rel=1e-5)


def test_averaging_predictions_never_loses_to_averaging_losses(evaluator, mixture):
    """Jensen: the log of a mean is at least the mean of logs."""
    names = evaluator.pool.names
    vertices = mixture.evaluate([Mixture({name: 1.0}) for name in names])
    (mixed,) = mixture.evaluate([MIXTURE])
    for name, loss in mixed.losses.items():
        mean = sum(MIXTURE[n] * v.losses[name].nats for n, v in zip(names, vertices, strict=True))
        assert loss.nats < mean


def test_the_gradient_is_that_of_differences_and_the_value_of_the_losses(evaluator, mixture):
    objective = mixture.objective({"code": 0.6, "prose": 0.4})
    shares = np.array([0.4, 0.25, 0.35])
    value, gradient = objective(shares)
    (measured,) = mixture.evaluate([Mixture.from_shares(evaluator.pool.names, shares.tolist())])
    losses = {name: loss.bits_per_byte for name, loss in measured.losses.items()}
    assert value == pytest.approx(0.6 * losses["code"] + 0.4 * losses["prose"], rel=1e-12)
    for k in range(3):
        direction = -shares.copy()
        direction[k] += 1
        ahead, behind = (objective(shares + h * direction)[0] for h in (1e-5, -1e-5))
        assert (ahead - behind) / 2e-5 == pytest.approx(gradient @ direction, rel=1e-6, abs=1e-9)
    with pytest.raises(SpecError, match="poems"):
        mixture.objective({"poems": 1.0})


def test_its_optimum_is_found_for_the_loss_is_convex(evaluator, mixture):
    objective = mixture.objective({"code": 0.4, "prose": 0.3, "tables": 0.3})
    result = exponentiated_gradient(objective, np.ones(3) / 3, evaluations=300, tolerance=1e-7)
    assert result.gap < 1e-4
    grid = [np.array([i, j, 20 - i - j]) / 20 for i in range(21) for j in range(21 - i)]
    assert result.value <= min(objective(p)[0] for p in grid) + 1e-9


def test_very_different_predictions_neither_overflow_nor_vanish(pool, evaluator):
    tokens = {name: int(scored.lengths.sum()) for name, scored in evaluator.sets.items()}
    made = [
        {name: np.full(count, level, np.float32) for name, count in tokens.items()}
        for level in (-1.0, -200.0, -2000.0)
    ]
    mixture = LogprobMixture(pool, evaluator.sets, made)
    names = pool.domains
    for k, level in enumerate((1.0, 200.0, 2000.0)):
        (alone,) = mixture.evaluate([Mixture({names[k]: 1.0})])
        assert alone.losses["code"].nats_per_token == pytest.approx(level, rel=1e-9)
    value, gradient = mixture.objective({"code": 1.0})(np.array([0.0, 0.0, 1.0]))
    assert math.isfinite(value)
    assert np.isfinite(gradient).all()
    (mixed,) = mixture.evaluate([Mixture({names[0]: 0.5, names[1]: 0.5})])
    assert mixed.losses["code"].nats_per_token == pytest.approx(1 + math.log(2), rel=1e-9)


def test_predictions_for_other_sets_or_branches_are_refused(trained, pool, evaluator):
    found = [branch_logprobs(evaluator, k) for k in range(3)]
    with pytest.raises(SpecError, match="3 branches need log-probabilities, got 2"):
        LogprobMixture(pool, evaluator.sets, found[:2])
    other = prepare_sets(trained.corpus, 32, 900)
    with pytest.raises(SpecError, match="computed for another set"):
        LogprobMixture(pool, other, found)


def test_predictions_are_kept_and_read_instead_of_computed(pool, evaluator, mixture, tmp_path):
    class Computed(Exception):
        pass

    def refuse():
        raise Computed

    kept = LogprobMixture.measure(evaluator, folder=tmp_path)
    (reference,), (first,) = mixture.evaluate([MIXTURE]), kept.evaluate([MIXTURE])
    assert first.losses == reference.losses
    again = LogprobMixture.measure(evaluator, folder=tmp_path, on_batch=refuse)
    assert again.evaluate([MIXTURE])[0].losses == reference.losses
    # A damaged file is computed again.
    path = next(tmp_path.rglob("*.safetensors"))
    damaged = path.read_bytes()[:-4]
    path.unlink()
    path.write_bytes(damaged)
    with pytest.raises(Computed):
        LogprobMixture.measure(evaluator, folder=tmp_path, on_batch=refuse)
    repaired = LogprobMixture.measure(evaluator, folder=tmp_path)
    assert repaired.evaluate([MIXTURE])[0].losses == reference.losses
