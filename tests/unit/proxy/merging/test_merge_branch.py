"""Pools: trained once, resumed after a crash, reused across corpora, keyed by content."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from cuvee.corpus import open_corpus, prepare
from cuvee.errors import CheckpointError, CorpusError, EpochCapError, NotFoundError, SpecError
from cuvee.mixture import Mixture
from cuvee.proxy.branch import (
    continue_seed,
    plan_branches,
    train_branch,
    train_pool,
    train_seed,
)
from cuvee.proxy.model import build_model, next_token_logits
from cuvee.proxy.phase import Hooks
from cuvee.proxy.recipe import MergeRecipe
from cuvee.proxy.trained import load_branch, load_seed
from cuvee.proxy.units import cut_units, natural_shares, seed_units, unit_sampler
from cuvee.spec import ByteTokenizer, CorpusSpec, DomainSource, Holdout


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)


class StopAfter:
    def __init__(self, questions):
        self.left = questions

    def __call__(self):
        self.left -= 1
        return self.left < 0


def changed(recipe: MergeRecipe, **update) -> MergeRecipe:
    return MergeRecipe.model_validate(recipe.model_dump() | update)


# ------------------------------------------------------------------------------------------------
# Units


def test_units_are_equal_parts_of_what_the_seed_leaves(bpe_corpus, recipe):
    cut = cut_units(bpe_corpus, changed(recipe, units={"prose": 3}, seed_data_share=0.25))
    assert [unit.label for unit in cut] == ["code", "prose", "prose#1", "prose#2", "tables"]
    whole = bpe_corpus.train_tokens("prose")
    first = len(whole) // 4
    mine = [unit.tokens for unit in cut if unit.domain == "prose"]
    assert len({len(tokens) for tokens in mine}) == 1
    joined = np.concatenate(mine)
    assert np.array_equal(joined, whole[first : first + len(joined)])
    assert len(whole) - first - len(joined) < 3
    seeds = seed_units(bpe_corpus, changed(recipe, seed_data_share=0.25))
    assert np.array_equal(seeds[1].tokens, whole[:first])


def test_a_units_sequences_come_in_one_order_whatever_the_mixture(bpe_corpus, recipe):
    cut = cut_units(bpe_corpus, recipe)
    alone = unit_sampler(cut, {cut[1].digest: 1.0}, recipe, 10).batch(0, 12)
    mixed = unit_sampler(cut, natural_shares(cut), recipe, 10).batch(0, 60)
    text = cut[1].tokens.astype(np.int64).tobytes()
    mine = [row for row in mixed if row.tobytes() in text]
    assert len(mine) >= 10
    assert np.array_equal(np.array(mine[:10]), alone[:10])


def test_unknown_units_and_short_supply_are_refused_in_terms_of_domains(bpe_corpus, recipe):
    with pytest.raises(SpecError, match="'poems'"):
        cut_units(bpe_corpus, changed(recipe, units={"poems": 2}))
    with pytest.raises(CorpusError, match="'tables'"):
        cut_units(bpe_corpus, changed(recipe, units={"tables": 5000}))
    with pytest.raises(EpochCapError, match=r"'tables'.*max_epochs"):
        cut_units(bpe_corpus, changed(recipe, units={"tables": 200}, max_epochs=1.5))


@pytest.mark.parametrize(
    ("update", "words"),
    [
        ({"model": {"hidden_size": 16, "layers": 2, "heads": 2}}, "either `parameters`"),
        ({"branch_share": 0.01}, "branch_steps is 0"),
        ({"kept_shares": (0.5, 0.25, 1.0)}, "kept_shares"),
        ({"kept_shares": (0.5,)}, "kept_shares"),
        ({"units": {"code": 0}}, "at least 1"),
        ({"branch_shares": 0.5}, "Extra inputs"),
    ],
    ids=str,
)
def test_a_recipe_that_makes_no_sense_is_refused(recipe, update, words):
    with pytest.raises(ValidationError, match=words):
        changed(recipe, **update)


# ------------------------------------------------------------------------------------------------
# Training


def test_a_branch_is_what_a_plain_loop_with_pytorchs_parts_gives(trained, pool):
    """The seed's weights and moments, a constant rate, one unit's sequences: the long way round."""
    recipe, corpus = trained.recipe, trained.corpus
    seed = load_seed(trained.root, trained.outcome.seed_key)
    model = build_model(recipe.shape, corpus.manifest.vocab_size, 32, 0)
    tensors = seed.tensors()
    parameters = dict(model.named_parameters())
    optimiser = torch.optim.AdamW(
        [
            {"params": [p for p in parameters.values() if p.ndim > 1], "weight_decay": 0.1},
            {"params": [p for p in parameters.values() if p.ndim == 1], "weight_decay": 0.0},
        ],
        lr=recipe.seed_rate / 2,
        betas=(0.9, 0.95),
        foreach=False,
        fused=False,
    )
    for name, parameter in parameters.items():
        parameter.data.copy_(tensors[f"model/{name}"])
        optimiser.state[parameter] = {
            field: tensors[f"optimiser/{field}/{name}"].clone()
            for field in ("step", "exp_avg", "exp_avg_sq")
        }
    unit = cut_units(corpus, recipe)[2]
    batches = unit_sampler([unit], {unit.digest: 1.0}, recipe, 10)
    for step in range(10):
        ids = torch.from_numpy(batches.batch(step * 4, 4))
        loss = F.cross_entropy(
            next_token_logits(model, ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten()
        )
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    branch = load_branch(trained.root, trained.outcome.branches["tables"][0])
    assert branch.step == 10
    before = seed.weights()
    for name, tensor in branch.weights().items():
        assert torch.allclose(tensor, parameters[name], atol=2e-5)
        assert not torch.equal(tensor, before[name])


def test_the_seed_is_trained_on_its_own_text_with_warm_up_and_a_plateau(trained):
    outcome = trained.outcome
    assert [phase.steps for phase in outcome.phases] == [60, 10, 10, 10]
    assert outcome.train_tokens == 90 * 128
    assert list(outcome.branches) == ["code", "prose", "tables"]
    seed = load_seed(trained.root, outcome.seed_key)
    assert seed.lineage["recipe"]["lr_schedule"]["final_share"] == 1.0
    assert not list(trained.root.glob("*/running"))
    with pytest.raises(CheckpointError, match="cannot be a seed"):
        load_seed(trained.root, outcome.branches["code"][0])


def test_a_second_job_trains_nothing(trained):
    again = train_pool(trained.recipe, trained.corpus, trained.root, device="cpu")
    assert again.seed_key == trained.outcome.seed_key
    assert again.branches == trained.outcome.branches
    assert all(phase.reused for phase in again.phases)
    assert again.train_tokens == 0


# Questions are asked once per step: the stops fall in the seed, between phases, and in branches.
def test_a_pool_stopped_again_and_again_ends_at_the_same_weights(trained, tmp_path):
    calls = 0
    while True:
        hooks = Hooks(should_stop=StopAfter(23))
        outcome = train_pool(trained.recipe, trained.corpus, tmp_path, device="cpu", hooks=hooks)
        calls += 1
        if not outcome.stopped:
            break
        # Every call gets further, by the steps that were allowed.
        assert outcome.train_tokens == 23 * 128
    assert calls == 4
    assert outcome.seed_key == trained.outcome.seed_key
    assert outcome.branches == trained.outcome.branches
    for (key,) in outcome.branches.values():
        ours, theirs = load_branch(tmp_path, key), load_branch(trained.root, key)
        assert same(ours.weights(), theirs.weights())


def test_a_killed_branch_goes_on_from_its_last_whole_checkpoint(trained, tmp_path):
    class Killed(Exception):
        pass

    def die_at(step):
        asked = -1

        def ask():
            nonlocal asked
            asked += 1
            if asked == step:
                raise Killed
            return False

        return Hooks(should_stop=ask, checkpoint_seconds=0)

    recipe, corpus = trained.recipe, trained.corpus
    seed = load_seed(trained.root, trained.outcome.seed_key)
    planned = plan_branches(recipe, corpus, seed, tmp_path)[0]
    assert not planned.done
    with pytest.raises(Killed):
        train_branch(recipe, corpus, seed, planned.unit, tmp_path, device="cpu", hooks=die_at(7))
    newest = max((tmp_path / planned.key / "running").iterdir())
    newest.write_bytes(newest.read_bytes()[:-50])
    outcome = train_branch(recipe, corpus, seed, planned.unit, tmp_path, device="cpu")
    assert outcome.resumed_step == 5
    assert newest.name in outcome.notes[0]
    assert outcome.train_tokens == 5 * 128
    assert plan_branches(recipe, corpus, seed, tmp_path)[0].done
    reference = load_branch(trained.root, planned.key)
    assert same(load_branch(tmp_path, planned.key).weights(), reference.weights())


def test_a_longer_branch_passes_through_the_shorter_ones(trained, tmp_path):
    recipe = changed(trained.recipe, branch_share=0.5, kept_shares=(0.25, 0.5, 1.0))
    seed = load_seed(trained.root, trained.outcome.seed_key)
    unit = cut_units(trained.corpus, recipe)[0]
    key = train_branch(recipe, trained.corpus, seed, unit, tmp_path, device="cpu").key
    short = load_branch(trained.root, trained.outcome.branches["code"][0])
    assert same(load_branch(tmp_path, key, 10).weights(), short.weights())
    assert load_branch(tmp_path, key).step == 20
    assert load_branch(tmp_path, key, 5).step == 5
    with pytest.raises(NotFoundError, match=r"step 7 \(kept: \[5, 10, 20\]\)"):
        load_branch(tmp_path, key, 7)


def test_a_direct_training_at_a_vertex_has_the_weights_of_the_branch(trained):
    recipe, corpus = trained.recipe, trained.corpus
    seed = load_seed(trained.root, trained.outcome.seed_key)
    code = Mixture({"code": 1.0})
    outcome = continue_seed(recipe, corpus, seed, code, trained.root, steps=10, device="cpu")
    (branch,) = trained.outcome.branches["code"]
    direct = load_seed(trained.root, outcome.key)  # with its optimiser: a seed for what comes next
    assert same(direct.weights(), load_branch(trained.root, branch).weights())
    assert direct.identity != seed.identity
    assert continue_seed(recipe, corpus, seed, code, trained.root, steps=10, device="cpu").reused
    with pytest.raises(SpecError, match="'poems'"):
        continue_seed(recipe, corpus, seed, Mixture({"poems": 1.0}), trained.root, device="cpu")


def test_fresh_optimiser_state_makes_another_branch(trained, tmp_path):
    seed = load_seed(trained.root, trained.outcome.seed_key)
    recipe = changed(trained.recipe, optimizer_state="fresh")
    unit = cut_units(trained.corpus, recipe)[0]
    key = train_branch(recipe, trained.corpus, seed, unit, tmp_path, device="cpu").key
    inherited = load_branch(trained.root, trained.outcome.branches["code"][0])
    assert key != inherited.key
    assert not same(load_branch(tmp_path, key).weights(), inherited.weights())


def test_an_anchored_branch_sees_its_unit_and_a_natural_part_of_all(trained, tmp_path):
    seed = load_seed(trained.root, trained.outcome.seed_key)
    recipe = changed(trained.recipe, anchor_share=0.5)
    cut = cut_units(trained.corpus, recipe)
    key = train_branch(recipe, trained.corpus, seed, cut[0], tmp_path, device="cpu").key
    lineage = load_branch(tmp_path, key).lineage
    natural = natural_shares(cut)
    assert lineage["anchor"] == {"share": 0.5, "natural": natural}
    assert lineage["data"][cut[0].digest] == pytest.approx(0.5 + 0.5 * natural[cut[0].digest])
    assert lineage["data"][cut[1].digest] == pytest.approx(0.5 * natural[cut[1].digest])


def test_a_training_that_diverges_says_what_to_change(bpe_corpus, recipe, tmp_path):
    wild = recipe.model_copy(update={"seed_learning_rate": 1e30})
    with pytest.raises(SpecError, match=r"'seed' diverged.*Lower `seed_learning_rate`"):
        train_seed(wild, bpe_corpus, tmp_path, device="cpu")
    assert list(tmp_path.iterdir()) == []


def test_a_seed_of_another_shape_or_length_is_refused(trained):
    seed = load_seed(trained.root, trained.outcome.seed_key)
    for update, field in (({"parameters": 30_000}, "shape"), ({"sequence_length": 16}, "context")):
        with pytest.raises(CheckpointError, match=field):
            plan_branches(changed(trained.recipe, **update), trained.corpus, seed, trained.root)


def test_keys_are_no_paths(trained):
    for key in ("../" + trained.outcome.seed_key, "", "A" * 64):
        with pytest.raises(SpecError, match="is not a key"):
            load_branch(trained.root, key)
    with pytest.raises(NotFoundError, match="train them first"):
        load_branch(trained.root, "0" * 64)


def test_damaged_weights_are_trained_again(trained, tmp_path):
    recipe, corpus = trained.recipe, trained.corpus
    seed = load_seed(trained.root, trained.outcome.seed_key)
    unit = cut_units(corpus, recipe)[1]

    def go():
        return train_branch(recipe, corpus, seed, unit, tmp_path, device="cpu")

    key = go().key
    branch = load_branch(tmp_path, key)
    # Tensors that were read are views of the file, and this one is about to be spoilt in place.
    whole = {name: tensor.clone() for name, tensor in branch.weights().items()}
    branch.file.write_bytes(branch.file.read_bytes()[:-10])
    again = go()
    assert not again.reused
    assert "trained again" in again.notes[0]
    assert same(load_branch(tmp_path, key).weights(), whole)
    assert go().reused


# ------------------------------------------------------------------------------------------------
# Reuse across corpora


@pytest.fixture(scope="module")
def corpora(tmp_path_factory, real_documents):
    """Two domains; the same with a third and one renamed; the same with one changed."""
    folder = tmp_path_factory.mktemp("growing")
    for name, texts in real_documents.items():
        lines = [json.dumps({"text": text}) + "\n" for text in texts]
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
        (folder / f"{name}-less.jsonl").write_text("".join(lines[:-20]), encoding="utf-8")

    def build(**domains):
        spec = CorpusSpec(
            domains=tuple(
                DomainSource(name=n, paths=(str(folder / f"{file}.jsonl"),))
                for n, file in domains.items()
            ),
            tokenizer=ByteTokenizer(),
            holdout=Holdout(share=0.15, min_bytes=2000),
        )
        return open_corpus(folder / "corpora", prepare(spec, folder / "corpora").digest)

    return (
        build(code="code", prose="prose"),
        build(program="code", prose="prose", tables="tables"),
        build(code="code", prose="prose-less"),
    )


def test_a_domain_costs_a_branch_and_a_change_only_its_own(corpora, recipe, tmp_path):
    small, grown, altered = corpora
    first = train_pool(recipe, small, tmp_path, device="cpu")
    seed = load_seed(tmp_path, first.seed_key)
    added = train_pool(recipe, grown, tmp_path, seed=seed, device="cpu")
    assert [phase.reused for phase in added.phases] == [True, True, False]
    assert added.branches["program"] == first.branches["code"]
    after = train_pool(recipe, altered, tmp_path, seed=seed, device="cpu")
    assert [phase.reused for phase in after.phases] == [True, False]


def test_another_tokenizer_is_another_pool(corpora, trained):
    seed = load_seed(trained.root, trained.outcome.seed_key)
    with pytest.raises(CheckpointError, match="tokenizer_sha256"):
        plan_branches(trained.recipe, corpora[0], seed, trained.root)
