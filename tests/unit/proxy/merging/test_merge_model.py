"""Merges: exact at the vertices, blind to order and names, only within one pool."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from cuvee.errors import CheckpointError, SpecError
from cuvee.mixture import Mixture
from cuvee.proxy.branch import train_branch, train_pool, train_seed
from cuvee.proxy.evaluate import evaluate, prepare_sets
from cuvee.proxy.heldout import ratio_loss
from cuvee.proxy.merge import (
    MergedModel,
    MergeEvaluator,
    measurement_keys,
    paired_difference,
    scored_sha256,
)
from cuvee.proxy.merge_weights import macro_weights, micro_weights, quantise
from cuvee.proxy.model import build_model, next_token_logits
from cuvee.proxy.pool import open_pool
from cuvee.proxy.recipe import MergeRecipe
from cuvee.proxy.trained import keep, load_branch, load_seed
from cuvee.proxy.units import cut_units

CPU = torch.device("cpu")
EVAL_TOKENS = 600
MIXTURE = Mixture({"code": 0.5, "prose": 0.2, "tables": 0.3})


def scored_directly(trained, weights):
    """A model of its own, filled with given weights, by the evaluation of every other rung."""
    recipe = trained.recipe
    model = build_model(recipe.shape, trained.corpus.manifest.vocab_size, 32, seed=9)
    parameters = dict(model.named_parameters())
    assert parameters.keys() == weights.keys()
    for name, tensor in weights.items():
        parameters[name].data.copy_(tensor)
    return evaluate(
        lambda ids: next_token_logits(model, ids),
        trained.corpus,
        sequence_length=32,
        eval_tokens=EVAL_TOKENS,
    )


def test_a_merge_at_a_vertex_is_the_branch_to_the_last_bit(trained, evaluator):
    for name, (key,) in trained.outcome.branches.items():
        branch = load_branch(trained.root, key).weights()
        (merged,) = evaluator.evaluate([Mixture({name: 1.0})])
        assert merged.losses == scored_directly(trained, branch)


def test_the_seeds_losses_are_the_seeds(trained, evaluator):
    seed = load_seed(trained.root, trained.outcome.seed_key)
    assert evaluator.seed_losses() == scored_directly(trained, seed.weights())


def test_a_merge_is_the_seed_and_weighted_differences(trained, evaluator):
    seed = load_seed(trained.root, trained.outcome.seed_key).weights()
    branches = {
        name: load_branch(trained.root, key).weights()
        for name, (key,) in trained.outcome.branches.items()
    }
    for scale in (1.0, 1.5):
        expected = {
            tensor: seed[tensor].double()
            + scale
            * sum(MIXTURE[n] * (b[tensor].double() - seed[tensor]) for n, b in branches.items())
            for tensor in seed
        }
        (merged,) = evaluator.evaluate([MIXTURE], scale=scale)
        parameters = dict(evaluator.model.module.named_parameters())
        for name, tensor in expected.items():
            assert torch.allclose(parameters[name].double(), tensor, atol=1e-6, rtol=1e-6)
        for name, loss in scored_directly(trained, expected).items():
            assert merged.losses[name].nats == pytest.approx(loss.nats, rel=1e-5)


def test_many_mixtures_in_one_pass_do_not_disturb_each_other(evaluator):
    mixtures = [MIXTURE, Mixture({"code": 1.0}), Mixture({"prose": 0.9, "tables": 0.1}), MIXTURE]
    seen = []
    together = evaluator.evaluate(mixtures, on_losses=seen.append)
    assert seen == together
    assert together[0].losses == together[3].losses != together[1].losses
    for mixture, merged in zip(mixtures[::-1], together[::-1], strict=True):
        assert evaluator.evaluate([mixture])[0].losses == merged.losses


def test_the_order_and_the_names_of_domains_change_no_bit(trained, evaluator):
    renamed = {"tables": "x", "prose": "y", "code": "z"}
    listed = {renamed[n]: trained.outcome.branches[n] for n in ("tables", "prose", "code")}
    other = MergeEvaluator(
        open_pool(trained.root, trained.outcome.seed_key, listed),
        trained.corpus,
        EVAL_TOKENS,
        "cpu",
    )
    (ours,) = evaluator.evaluate([MIXTURE])
    (theirs,) = other.evaluate([Mixture({renamed[n]: share for n, share in MIXTURE.root.items()})])
    assert theirs.losses == ours.losses
    assert theirs.keys == ours.keys


def test_a_measurement_carries_its_names_and_its_excerpts(trained, evaluator):
    (merged,) = evaluator.evaluate([MIXTURE])
    counts = quantise(evaluator.pool.weights(MIXTURE).tolist())
    assert list(merged.millionths) == counts
    assert merged.keys == measurement_keys(evaluator.pool, evaluator.digests, counts)
    assert len(set(merged.keys.values())) == 3
    for name, scored in evaluator.sets.items():
        assert merged.losses[name] == ratio_loss(merged.nats[name], scored.tokens, scored.sizes)
        assert merged.losses[name].nats_se > 0


def test_what_is_scored_is_named_by_its_content(trained, evaluator):
    again = prepare_sets(trained.corpus, 32, EVAL_TOKENS)
    more = prepare_sets(trained.corpus, 32, EVAL_TOKENS + 100)
    digests = {name: scored_sha256(scored) for name, scored in evaluator.sets.items()}
    assert len(set(digests.values())) == 3
    for name in digests:
        assert scored_sha256(again[name]) == digests[name] != scored_sha256(more[name])


def test_macro_equals_micro_for_equal_groups(trained, tmp_path):
    recipe = MergeRecipe.model_validate(
        trained.recipe.model_dump()
        | {"units": {"code": 2, "prose": 2, "tables": 2}, "branch_share": 0.05}
    )
    seed = load_seed(trained.root, trained.outcome.seed_key)
    outcome = train_pool(recipe, trained.corpus, tmp_path, seed=seed, device="cpu")
    # The pool's folder need not be the seed's: leave a copy of the seed with the branches.
    keep(tmp_path, seed.key, seed.step, seed.tensors(), seed.lineage)
    evaluator = MergeEvaluator(
        open_pool(tmp_path, seed.key, outcome.branches), trained.corpus, EVAL_TOKENS, "cpu"
    )
    domains = evaluator.pool.domains
    assert sorted(domains) == ["code", "code", "prose", "prose", "tables", "tables"]
    micro = evaluator.evaluate_weights(micro_weights([True] * 6).tolist())
    macro = evaluator.evaluate_weights(macro_weights([True] * 6, domains).tolist())
    (uniform,) = evaluator.evaluate([Mixture.uniform(("code", "prose", "tables"))])
    assert micro.losses == macro.losses == uniform.losses
    assert micro.keys == macro.keys == uniform.keys


@pytest.mark.parametrize("weights", [[0.5, 0.5, 0.1], [0.2, 0.2, 0.2], [1.2, -0.2, 0.0]], ids=str)
def test_weights_that_are_no_average_are_refused(evaluator, weights):
    with pytest.raises(SpecError, match=r"sum to one|at least 0"):
        evaluator.evaluate_weights(weights)


def test_a_mixture_that_cannot_be_merged_is_refused_before_any_work(evaluator):
    seen = []
    with pytest.raises(SpecError, match="'poems'"):
        evaluator.evaluate([MIXTURE, Mixture({"poems": 1.0})], on_losses=seen.append)
    assert seen == []


# ------------------------------------------------------------------------------------------------
# The gate


def test_branches_of_another_seed_are_refused(trained, tmp_path):
    recipe = trained.recipe.model_copy(update={"init_seed": 1})
    other = load_seed(tmp_path, train_seed(recipe, trained.corpus, tmp_path, device="cpu").key)
    unit = cut_units(trained.corpus, recipe)[0]
    foreign = train_branch(recipe, trained.corpus, other, unit, trained.root, device="cpu").key
    mixed = {**trained.outcome.branches, "code": (foreign,)}
    with pytest.raises(CheckpointError, match=r"'code' continues another seed: checkpoint_sha256"):
        open_pool(trained.root, trained.outcome.seed_key, mixed)


@pytest.mark.parametrize(
    ("update", "words"),
    [({"branch_lr_share": 0.4}, "recipe"), ({"branch_share": 0.5}, "recipe")],
    ids=["rate", "length"],
)
def test_branches_trained_differently_are_refused(trained, update, words):
    recipe = trained.recipe.model_copy(update=update)
    seed = load_seed(trained.root, trained.outcome.seed_key)
    unit = cut_units(trained.corpus, recipe)[0]
    other = train_branch(recipe, trained.corpus, seed, unit, trained.root, device="cpu").key
    mixed = {**trained.outcome.branches, "code": (other,)}
    with pytest.raises(CheckpointError, match=f"trained differently: {words}"):
        open_pool(trained.root, trained.outcome.seed_key, mixed)


def test_a_seed_is_no_member_and_no_members_make_no_pool(trained):
    key = trained.outcome.seed_key
    with pytest.raises(CheckpointError, match="is a seed, not a branch"):
        open_pool(trained.root, key, {"code": (key,)})
    with pytest.raises(SpecError, match="at least one branch"):
        open_pool(trained.root, key, {})


def test_the_sets_must_be_in_the_pools_tokens(pool, byte_corpus):
    with pytest.raises(CheckpointError, match="tokenizer"):
        MergeEvaluator(pool, byte_corpus, EVAL_TOKENS, "cpu")


def test_tensors_that_do_not_fit_are_named(trained, pool):
    good = pool.seed.weights()
    model = build_model(trained.recipe.shape, trained.corpus.manifest.vocab_size, 32, 0)
    name = "model.norm.weight"
    broken = {
        "missing.*norm": {n: t for n, t in good.items() if n != name},
        "too many.*lm_head.weight": good | {"lm_head.weight": torch.zeros(1)},
        "'model.norm.weight' has shape": good | {name: torch.zeros(3)},
        "type torch.int64": good | {name: torch.ones(good[name].shape, dtype=torch.int64)},
        "not all finite": good | {name: torch.full(good[name].shape, math.nan)},
    }
    for words, member in broken.items():
        with pytest.raises(CheckpointError, match=words):
            MergedModel(model, [good, member], device=CPU)


def test_running_statistics_have_no_average():
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    with pytest.raises(SpecError, match=r"1\.running_mean"):
        MergedModel(module, [dict(module.named_parameters())], device=CPU)


def test_tied_heads_stay_tied_and_untied_ones_do_not(trained):
    tied = trained.recipe.shape
    for shape in (tied, replace(tied, tie_embeddings=False)):
        models = [build_model(shape, 50, 16, seed) for seed in (1, 2)]
        members = [{n: p.detach() for n, p in m.named_parameters()} for m in models]
        merged = MergedModel(build_model(shape, 50, 16, 0), members, device=CPU)
        merged.set_weights([0.25, 0.75])
        module = merged.module
        embedding, head = module.model.embed_tokens.weight, module.lm_head.weight
        assert (embedding is head) == shape.tie_embeddings
        name = "model.embed_tokens.weight"
        assert torch.allclose(embedding, 0.25 * members[0][name] + 0.75 * members[1][name])


def test_independent_initialisations_merge_worse_than_both_ends(trained, tmp_path):
    """What the gate is for: without a common seed there is a barrier between two models."""
    ends = []
    for init_seed in (1, 2):
        recipe = trained.recipe.model_copy(
            update={"init_seed": init_seed, "seed_learning_rate": 0.02, "seed_tokens": 100 * 128}
        )
        key = train_seed(recipe, trained.corpus, tmp_path, device="cpu").key
        ends.append(load_seed(tmp_path, key).weights())
    model = build_model(trained.recipe.shape, trained.corpus.manifest.vocab_size, 32, 0)
    merged = MergedModel(model, ends, device=CPU)

    def loss(weights):
        merged.set_weights(weights)
        losses = evaluate(
            lambda ids: next_token_logits(merged.module, ids),
            trained.corpus,
            sequence_length=32,
            eval_tokens=EVAL_TOKENS,
        )
        return np.mean([loss.nats_per_token for loss in losses.values()])

    assert loss([0.5, 0.5]) > max(loss([1.0, 0.0]), loss([0.0, 1.0])) + 0.2


def test_a_merge_of_branches_is_better_on_the_whole_than_any_of_them(evaluator):
    def mean(mixture):
        (merged,) = evaluator.evaluate([mixture])
        return np.mean([loss.bits_per_byte for loss in merged.losses.values()])

    names = ("code", "prose", "tables")
    assert mean(Mixture.uniform(names)) < min(mean(Mixture({n: 1.0})) for n in names)


# ------------------------------------------------------------------------------------------------
# Paired comparison


def test_a_paired_difference_is_that_of_the_losses_and_surer(evaluator):
    first, second = evaluator.evaluate([MIXTURE, Mixture.uniform(("code", "prose", "tables"))])
    for name, scored in evaluator.sets.items():
        a, b = first.losses[name], second.losses[name]
        difference, error = paired_difference(first.nats[name], second.nats[name], scored.sizes)
        assert difference == pytest.approx(a.bits_per_byte - b.bits_per_byte, abs=1e-12)
        assert 0 < error < 0.5 * math.hypot(a.bits_per_byte_se, b.bits_per_byte_se)


def test_the_error_of_a_paired_difference_is_that_of_repeated_draws():
    generator = np.random.default_rng(0)
    estimates, errors = [], []
    for _ in range(2000):
        sizes = generator.integers(50, 200, 40)
        common = generator.normal(2.0, 1.0, 40) * sizes
        first = common + sizes * generator.normal(0.1, 0.3, 40)
        difference, error = paired_difference(first, common, sizes)
        estimates.append(difference)
        errors.append(error)
    assert np.mean(estimates) == pytest.approx(0.1 / math.log(2), abs=0.005)
    assert np.mean(errors) == pytest.approx(np.std(estimates), rel=0.07)
