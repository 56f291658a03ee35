"""The size dial, initial weights, the schedule and the loss, against PyTorch's own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from cuvee.proxy.config import Shape, choose_shape, default_learning_rate, shape_of
from cuvee.proxy.loss import chunked_cross_entropy
from cuvee.proxy.model import build_model, count_parameters, next_token_logits, training_loss
from cuvee.proxy.schedule import evaluation_steps, learning_rate
from cuvee.spec import ProxyModel, ProxyRung

TINY = Shape(hidden_size=16, layers=2, heads=2, kv_heads=1, intermediate_size=24)


@given(st.integers(10_000, 2_000_000_000))
def test_the_dial_gives_the_size_asked_for_in_sane_proportions(parameters):
    shape = choose_shape(parameters)
    assert shape.parameters == pytest.approx(parameters, rel=0.04)
    assert shape.layers >= 2
    assert shape.hidden_size % shape.heads == 0
    assert (shape.hidden_size // shape.heads) % 2 == 0
    assert 1 < shape.intermediate_size / shape.hidden_size < 5.5
    assert 8 <= shape.hidden_size / shape.layers <= 130


def test_a_full_shape_is_taken_as_it_is():
    model = ProxyModel(hidden_size=48, layers=3, heads=4, kv_heads=2, tie_embeddings=False)
    shape = shape_of(ProxyRung(model=model, tokens=100_000))
    assert (shape.hidden_size, shape.layers, shape.heads, shape.kv_heads) == (48, 3, 4, 2)
    assert shape.intermediate_size == 128
    assert not shape.tie_embeddings


@pytest.mark.parametrize("tied", [True, False])
def test_the_model_has_the_parameters_that_the_shape_says(tied):
    shape = Shape(32, 2, 4, 2, 80, tie_embeddings=tied)
    model = build_model(shape, vocab_size=100, context=16, seed=0)
    embeddings = 100 * 32 * (1 if tied else 2)
    assert count_parameters(model) == shape.parameters + embeddings
    assert model.config._attn_implementation == "sdpa"


def test_weights_depend_on_the_seed_and_leave_global_random_state_alone():
    before = torch.random.get_rng_state()
    first, again, other = (build_model(TINY, 50, 16, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    for (name, a), b, c in zip(
        first.named_parameters(), again.parameters(), other.parameters(), strict=True
    ):
        assert torch.equal(a, b)
        assert name.endswith("norm.weight") == torch.equal(a, c)


def test_the_learning_rate_falls_with_compute_and_is_capped():
    rates = [default_learning_rate(choose_shape(n), 20 * n) for n in (10**4, 10**6, 10**8)]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] <= 0.02
    assert rates[-1] == pytest.approx(0.3118 * (6 * 10**8 * 20 * 10**8) ** -0.125, rel=0.01)


@pytest.mark.parametrize(("steps", "warmup"), [(50, 0.1), (37, 0.5), (20, 0.05)])
def test_the_schedule_is_that_of_pytorchs_schedulers(steps, warmup):
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    count = round(steps * warmup)
    rise = torch.optim.lr_scheduler.LinearLR(optimiser, 1 / count, 1.0, max(1, count - 1))
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps - count, eta_min=0.03)
    both = torch.optim.lr_scheduler.SequentialLR(optimiser, [rise, fall], [count - 1])
    for step in range(steps):
        ours = learning_rate(step, steps, peak=0.3, warmup_share=warmup, final_share=0.1)
        assert ours == pytest.approx(optimiser.param_groups[0]["lr"], rel=1e-9)
        optimiser.step()
        both.step()


@given(st.integers(1, 500), st.floats(0, 0.99), st.floats(0, 1))
def test_rates_are_positive_up_to_the_peak_and_end_as_told(steps, warmup, final):
    rates = [
        learning_rate(s, steps, peak=1.0, warmup_share=warmup, final_share=final)
        for s in range(steps)
    ]
    assert all(0 < rate <= 1 for rate in rates[:-1])
    if round(warmup * steps) < steps:
        assert rates[-1] == pytest.approx(final, abs=1e-12)


@given(st.integers(1, 2000), st.integers(1, 1000))
def test_evaluations_are_even_and_the_last_is_at_the_end(steps, evaluations):
    at = evaluation_steps(steps, evaluations)
    assert len(at) == min(steps, evaluations)
    assert at[-1] == steps
    gaps = {b - a for a, b in zip((0, *at), at, strict=False)}
    assert max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize("vocab", [7, 300_000])
def test_the_chunked_loss_is_cross_entropy_in_value_and_gradient(vocab):
    generator = torch.Generator().manual_seed(0)
    # In fp64, since in fp32 both are a sum of so many terms off by as much.
    made = {"generator": generator, "dtype": torch.float64, "requires_grad": True}
    hidden, weight = torch.randn(9, 4, **made), torch.randn(vocab, 4, **made)
    targets = torch.randint(0, vocab, (9,), generator=generator)
    ours = chunked_cross_entropy(hidden, weight, targets)
    theirs = F.cross_entropy(hidden @ weight.T, targets)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-12)
    mine = torch.autograd.grad(2 * ours, (hidden, weight))
    reference = torch.autograd.grad(2 * theirs, (hidden, weight))
    for a, b in zip(mine, reference, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.floats(-1e4, 1e4), st.integers(1, 5))
def test_the_chunked_loss_stays_finite_with_extreme_logits(scale, rows):
    hidden = torch.full((rows, 2), scale, requires_grad=True)
    weight = torch.tensor([[1.0, 0.0], [0.0, -1.0], [1.0, 1.0]], requires_grad=True)
    loss = chunked_cross_entropy(hidden, weight, torch.zeros(rows, dtype=torch.int64))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(hidden.grad).all()
    assert torch.isfinite(weight.grad).all()


def test_the_training_loss_is_transformers_own():
    model = build_model(TINY, 50, 16, seed=0)
    ids = torch.randint(0, 50, (3, 17), generator=torch.Generator().manual_seed(0))
    ours = training_loss(model, ids, bf16=False)
    # The labels of transformers are the ids themselves; it shifts them.
    theirs = model(input_ids=ids, labels=ids).loss
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    assert next_token_logits(model, ids).shape == (3, 17, 50)
