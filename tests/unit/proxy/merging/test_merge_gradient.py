"""The gradient by shares against differences and closed forms; the search against known optima."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cuvee.errors import SpecError
from cuvee.mixture import Mixture
from cuvee.proxy.branch import train_pool
from cuvee.proxy.evaluate import ScoredSet
from cuvee.proxy.merge import MergedModel, MergeEvaluator
from cuvee.proxy.merge_gradient import (
    exponentiated_gradient,
    merge_gradient,
    merge_objective,
    search_merge,
)
from cuvee.proxy.pool import open_pool
from cuvee.proxy.recipe import MergeRecipe
from cuvee.proxy.trained import keep, load_seed

CPU = torch.device("cpu")


# ------------------------------------------------------------------------------------------------
# In double precision, on a model that keeps it (Llama's norms compute in fp32)


class Tied(nn.Module):
    """A two-layer model whose head is its embedding."""

    def __init__(self, vocab: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab, width)
        self.inner = nn.Linear(width, width)
        self.head = nn.Linear(width, vocab, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.inner(self.embedding(ids))))


def random_set(generator: np.random.Generator, vocab: int, windows: int, length: int) -> ScoredSet:
    lengths = np.sort(generator.integers(1, length + 1, windows))[::-1].copy()
    shown = np.arange(length) < lengths[:, None]
    ids = generator.integers(0, vocab, (2, windows, length))
    return ScoredSet(
        inputs=np.where(shown, ids[0], 0),
        targets=np.where(shown, ids[1], -100),
        lengths=lengths,
        excerpt=np.arange(windows),
        tokens=lengths,
        sizes=2 * lengths,
    )


def random_members(module: nn.Module, count: int, generator: np.random.Generator):
    return [
        {
            n: torch.from_numpy(generator.normal(0, 0.5, p.shape))
            for n, p in module.named_parameters()
        }
        for _ in range(count)
    ]


@given(st.integers(0, 2**32), st.integers(2, 5))
@settings(max_examples=10, deadline=None)
def test_the_gradient_is_that_of_central_differences(seed, count):
    generator = np.random.default_rng(seed)
    module = Tied(7, 4)
    members = random_members(module, count, generator)
    model = MergedModel(module, members, device=CPU, dtype=torch.float64)
    sets = {name: random_set(generator, 7, 5, 6) for name in ("a", "b", "ignored")}
    set_weights = {"a": 0.7, "b": 1.3}
    weights = generator.dirichlet(np.ones(count))

    def value(w):
        return merge_gradient(model, model.module, sets, set_weights, w, CPU)[0]

    found, gradient = merge_gradient(model, model.module, sets, set_weights, weights, CPU)
    assert found == pytest.approx(value(weights), rel=1e-12)
    assert weights @ gradient == pytest.approx(0, abs=1e-10)
    step = 1e-5
    for k in range(count):
        direction = -weights.copy()
        direction[k] += 1  # towards vertex k: weights keep their sum
        slope = (value(weights + step * direction) - value(weights - step * direction)) / (2 * step)
        assert slope == pytest.approx(gradient @ direction, rel=1e-6, abs=1e-8)


class Bowl(nn.Module):
    """Logits of two tokens whose difference is linear in the parameters, at a given input."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(size))


def test_a_logistic_loss_has_the_gradient_on_paper():
    generator = np.random.default_rng(3)
    points, labels = generator.normal(size=(6, 4)), generator.integers(0, 2, 6)
    module = Bowl(4)
    members = random_members(module, 3, generator)
    model = MergedModel(module, members, device=CPU, dtype=torch.float64)

    def logits(ids: torch.Tensor) -> torch.Tensor:
        margin = torch.from_numpy(points)[ids[:, 0]] @ module.theta
        return torch.stack([torch.zeros_like(margin), margin], dim=-1)[:, None]

    one = np.ones(6, dtype=np.int64)
    scored = ScoredSet(np.arange(6)[:, None], labels[:, None], one, np.arange(6), one, one)
    weights = np.array([0.2, 0.5, 0.3])
    value, gradient = merge_gradient(model, logits, {"s": scored}, {"s": 1.0}, weights, CPU)
    stacked = np.stack([m["theta"].numpy() for m in members])  # (3, 4)
    margins = points @ (weights @ stacked)
    expected = np.log1p(np.exp(margins)) - labels * margins
    by_theta = points.T @ (1 / (1 + np.exp(-margins)) - labels)
    by_weights = stacked @ by_theta
    scale = 1 / (6 * math.log(2))
    assert value == pytest.approx(scale * expected.sum(), rel=1e-12)
    assert gradient == pytest.approx(scale * (by_weights - weights @ by_weights), rel=1e-10)


def test_sets_that_are_not_there_are_refused(evaluator):
    objective = merge_objective(evaluator, {"poems": 1.0})
    with pytest.raises(SpecError, match=r"unknown evaluation sets \['poems'\]"):
        objective(np.ones(3) / 3)


# ------------------------------------------------------------------------------------------------
# On a pool


@pytest.fixture(scope="module")
def objective(evaluator: MergeEvaluator):
    return merge_objective(evaluator, {"code": 0.5, "prose": 0.3, "tables": 0.2})


def test_the_value_is_that_of_the_evaluation(evaluator, objective):
    shares = np.array([0.5, 0.3, 0.2])
    value, gradient = objective(shares)
    (merged,) = evaluator.evaluate([Mixture.from_shares(evaluator.pool.names, shares.tolist())])
    weights = {"code": 0.5, "prose": 0.3, "tables": 0.2}
    expected = sum(w * merged.losses[name].bits_per_byte for name, w in weights.items())
    assert value == pytest.approx(expected, rel=1e-6)
    assert shares @ gradient == pytest.approx(0, abs=1e-9)


def test_the_gradient_of_a_pool_is_that_of_differences(objective):
    shares, step = np.array([0.4, 0.25, 0.35]), 0.05
    _, gradient = objective(shares)
    for k in range(3):
        direction = -shares.copy()
        direction[k] += 1

        def slope(h, direction=direction):
            ahead, behind = objective(shares + h * direction), objective(shares - h * direction)
            return (ahead[0] - behind[0]) / (2 * h)

        richardson = (4 * slope(step / 2) - slope(step)) / 3
        assert abs(richardson - gradient @ direction) < 1e-2 * np.linalg.norm(gradient)


@pytest.fixture(scope="module")
def anchored(trained, tmp_path_factory) -> MergeEvaluator:
    """Two steps of branches, a domain in two units, three tenths of all data natural."""
    root = tmp_path_factory.mktemp("anchored")
    update = {"anchor_share": 0.3, "units": {"prose": 2}, "branch_share": 0.05}
    recipe = MergeRecipe.model_validate(trained.recipe.model_dump() | update)
    seed = load_seed(trained.root, trained.outcome.seed_key)
    keep(root, seed.key, seed.step, seed.tensors(), seed.lineage)
    outcome = train_pool(recipe, trained.corpus, root, seed=seed, device="cpu")
    pool = open_pool(root, seed.key, outcome.branches)
    return MergeEvaluator(pool, trained.corpus, 600, "cpu")


def test_an_anchored_pool_knows_its_natural_mixture(trained, anchored):
    natural = anchored.pool.natural
    assert natural is not None
    assert natural.distance(trained.corpus.manifest.natural) < 1e-3
    assert anchored.pool.weights(natural) == pytest.approx(
        [natural[d] / anchored.pool.domains.count(d) for d in anchored.pool.domains]
    )


def test_the_gradient_of_anchored_branches_and_units_is_that_of_differences(anchored):
    names, step = anchored.pool.names, 0.1
    objective = merge_objective(anchored, dict.fromkeys(names, 1 / 3))
    shares = np.array([0.4, 0.3, 0.3])
    _, gradient = objective(shares)
    for k in range(3):
        direction = -shares.copy()
        direction[k] += 1
        ahead, behind = (objective(shares + h * direction)[0] for h in (step, -step))
        difference = (ahead - behind) / (2 * step)
        assert abs(difference - gradient @ direction) < 2e-2 * np.linalg.norm(gradient)


def test_the_search_beats_its_start_and_every_vertex(evaluator, objective):
    weights = {"code": 0.5, "prose": 0.3, "tables": 0.2}
    start = Mixture.uniform(evaluator.pool.names)
    mixture, result = search_merge(evaluator, weights, start, evaluations=8)
    values = [value for _, value in result.path]
    assert values == sorted(values, reverse=True)
    assert result.value == values[-1] < values[0]
    assert mixture.shares(evaluator.pool.names) == pytest.approx(result.shares)
    for vertex in np.eye(3):
        assert result.value < objective(vertex)[0]


# ------------------------------------------------------------------------------------------------
# The search by itself


def quadratic(target, curvature):
    def objective(p):
        away = p - target
        return 0.5 * float(away @ curvature @ away), curvature @ away

    return objective


@given(st.integers(0, 2**32), st.integers(2, 8))
@settings(max_examples=25, deadline=None)
def test_the_optimum_of_a_quadratic_is_found(seed, size):
    generator = np.random.default_rng(seed)
    root = generator.normal(size=(size, size))
    target = generator.dirichlet(np.full(size, 5.0))
    objective = quadratic(target, root @ root.T / size + np.eye(size))
    result = exponentiated_gradient(
        objective, np.full(size, 1 / size), evaluations=500, tolerance=1e-9
    )
    assert result.shares == pytest.approx(target, abs=1e-3)
    assert 0 <= result.value - objective(target)[0] <= result.gap + 1e-12


def test_an_optimum_at_a_vertex_is_approached():
    slopes = np.array([1.0, 0.0, 2.0])
    result = exponentiated_gradient(
        lambda p: (float(slopes @ p), slopes), np.ones(3) / 3, evaluations=60
    )
    assert result.status == "converged"
    assert result.shares[1] > 0.999
    assert result.gap < 1e-2


def test_a_projection_is_kept_and_its_optimum_found():
    """Minimise |p - t|^2 with p_0 <= 0.3: the excess goes to the others in equal parts."""
    target = np.array([0.6, 0.25, 0.15])

    def project(p):
        capped = p.copy()
        capped[0] = min(p[0], 0.3)
        capped[1:] = p[1:] * (1 - capped[0]) / p[1:].sum()
        return capped

    asked = []

    def objective(p):
        asked.append(p)
        return quadratic(target, np.eye(3))(p)

    result = exponentiated_gradient(
        objective, np.array([0.8, 0.1, 0.1]), project=project, evaluations=200, tolerance=1e-7
    )
    assert max(p[0] for p in asked) <= 0.3
    assert result.shares == pytest.approx([0.3, 0.4, 0.3], abs=1e-3)


def test_a_prior_alone_is_the_answer_and_a_strong_one_pulls():
    prior, flat = np.array([0.6, 0.3, 0.1]), lambda p: (0.0, np.zeros(3))
    start = np.ones(3) / 3
    alone = exponentiated_gradient(
        flat, start, prior=prior, kappa=1.0, evaluations=200, tolerance=1e-7
    )
    assert alone.shares == pytest.approx(prior, abs=1e-4)
    assert alone.value == pytest.approx(0, abs=1e-6)
    slopes = np.array([0.0, 0.0, -1.0])
    pulled = exponentiated_gradient(
        lambda p: (float(slopes @ p), slopes),
        start,
        prior=prior,
        kappa=0.5,
        evaluations=200,
        tolerance=1e-7,
    )
    exact = prior * np.exp(-slopes / 0.5)  # where the gradient with the KL term is constant
    assert pulled.shares == pytest.approx(exact / exact.sum(), abs=1e-4)
    with pytest.raises(SpecError, match="kappa needs a prior"):
        exponentiated_gradient(flat, start, kappa=1.0)


def test_the_budget_is_kept_and_a_flat_objective_ends_at_once():
    calls = SimpleNamespace(count=0)

    def hard(p):
        calls.count += 1
        return quadratic(np.array([0.9, 0.1]), np.eye(2))(p)

    result = exponentiated_gradient(hard, np.array([0.1, 0.9]), evaluations=3, tolerance=0)
    assert (result.status, result.evaluations, calls.count) == ("budget", 3, 3)
    flat = exponentiated_gradient(lambda p: (1.0, np.zeros(2)), np.array([0.1, 0.9]))
    assert (flat.status, flat.evaluations) == ("converged", 1)


def test_a_step_into_the_undefined_is_taken_back():
    def objective(p):
        return (math.nan if p[0] > 0.5 else -float(p[0])), np.array([-1.0, 0.0])

    result = exponentiated_gradient(objective, np.array([0.2, 0.8]), evaluations=60)
    assert 0.45 < result.shares[0] <= 0.5
