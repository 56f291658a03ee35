"""The covariance of the runs and its written-out gradient, against the kernel and autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cuvee.engine.surrogates.base import Runs
from cuvee.engine.surrogates.features import Features
from cuvee.engine.surrogates.marginal import negative_log_likelihood
from cuvee.engine.surrogates.rung_covariance import RunCovariance
from cuvee.engine.surrogates.rung_kernel import Levels, RungKernel

SETS, DOMAINS = 3, 4


def ladder(rungs: list[int], tasks: list[int], law: bool) -> tuple[RungKernel, torch.Tensor]:
    """A kernel with hyperparameters drawn from their prior, and inputs of some runs."""
    rng = np.random.default_rng(len(rungs) + law)
    x = rng.dirichlet(np.full(DOMAINS, 0.5), size=len(rungs))
    x[1] = x[0]  # a repeat: the distance is zero
    y = rng.standard_normal((len(rungs), SETS))
    levels = Levels.of(Runs.of(x, y, rungs, rungs=3, task=np.array(tasks, dtype=np.intp)))
    kernel = RungKernel(Features.of(x), levels, SETS)
    torch.nn.init.zeros_(kernel.theta)
    kernel.theta.data += torch.from_numpy(0.5 * rng.standard_normal(kernel.theta.shape))
    level = torch.from_numpy(levels.of_run.astype(np.float64))[:, None]
    every = (SETS, -1, -1)
    values = torch.from_numpy(rng.standard_normal((SETS, len(rungs), 1))) * float(law)
    shares = torch.from_numpy(x)
    if not law:
        return kernel, torch.cat([shares, values[0], level], dim=1)
    return kernel, torch.cat([shares.expand(every), values, level.expand(every)], dim=2)


LADDERS = {
    "one rung": ([0] * 12, [0] * 12),
    "three rungs": ([0] * 8 + [2, 1, 2, 1, 2], [0] * 13),
    "an earlier job": ([0, 2, 2, 0, 0, 2, 2, 0, 0, 2], [0] * 5 + [1] * 5),
}


@pytest.mark.parametrize("law", [False, True], ids=["constant mean", "law"])
@pytest.mark.parametrize("runs", LADDERS.values(), ids=LADDERS.keys())
def test_it_is_the_kernel_s_with_its_derivatives(
    runs: tuple[list[int], list[int]], law: bool
) -> None:
    kernel, inputs = ladder(*runs, law=law)
    known = torch.full((SETS, len(runs[0])), 0.05, dtype=torch.float64)
    y = torch.from_numpy(np.random.default_rng(1).standard_normal((SETS, len(runs[0]))))
    level = torch.from_numpy(kernel.levels.of_run)
    expected = kernel.forward(inputs, inputs) + torch.diag_embed(kernel.noise[:, level] + known)
    found = RunCovariance(kernel, inputs, known)()
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    (slope,) = torch.autograd.grad(negative_log_likelihood(expected, y).sum(), kernel.theta)
    (written,) = torch.autograd.grad(negative_log_likelihood(found, y).sum(), kernel.theta)
    assert float(slope.abs().max()) > 1e-3
    torch.testing.assert_close(written, slope, rtol=1e-6, atol=1e-8)
