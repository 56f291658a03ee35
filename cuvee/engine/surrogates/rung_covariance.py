"""The covariance of the runs themselves, with its gradient written out.

``RungKernel.forward`` says what the covariance is and serves for predictions. A fit asks for the
covariance of the same runs dozens of times, with its gradient, and most of its time goes into
passes over ``(E, K, K)`` numbers: written out in one place they are a third of what automatic
differentiation takes. A test holds this to ``forward`` and its derivatives.
"""

from __future__ import annotations

from typing import Any

import torch

from cuvee.engine.surrogates.rung_kernel import INTERCEPT, RungKernel

__all__ = ["RunCovariance"]


class RunCovariance:
    """The covariance of the measurements of some runs as a function of a kernel's ``theta``.

    Args:
        kernel: Its hyperparameters are read at every call.
        inputs: Of the runs, shape ``(K, m + 2)`` or ``(E, K, m + 2)``.
        known: Known variances of the measurements, with what else is added to the diagonal, shape
            ``(E, K)``.
    """

    def __init__(self, kernel: RungKernel, inputs: torch.Tensor, known: torch.Tensor) -> None:
        self._kernel = kernel
        self._shares = inputs[..., : kernel.domains]
        law = inputs[..., kernel.domains]
        self._law = law.expand(len(known), -1) if bool(torch.any(law != 0)) else None
        self._known = known
        self._level = inputs[..., -1].reshape(-1, inputs.shape[-2])[0].long()
        self._intercepts = INTERCEPT * (self._level[:, None] == self._level).to(inputs.dtype)
        present = torch.unique(self._level).tolist()
        self._own = {
            q: torch.nonzero(self._level == q)[:, 0] for q in present if q != kernel.levels.base
        }

    def __call__(self) -> torch.Tensor:
        """Shape ``(E, K, K)``. Its gradient takes for granted that what comes back is symmetric."""
        kernel, level = self._kernel, self._level
        a = kernel.features(self._shares, kernel.exponent) / kernel.length[:, None, :]
        root = kernel.scale.sqrt()[:, None] * kernel.slope[:, level]
        diagonal = kernel.noise[:, level] + self._known
        law = self._law
        if law is not None:
            law = law * (kernel.trust / kernel.scale).sqrt()[:, None]
        else:
            law = torch.zeros(len(a), 0, dtype=a.dtype)
        total = _Covariance.apply(  # type: ignore[no-untyped-call]
            a, root, kernel.discrepancy, kernel.wider, law, diagonal, self._own, self._intercepts
        )
        return torch.as_tensor(total)


class _Covariance(torch.autograd.Function):
    """``r_i r_j (k(i, j) + own_q k'(i, j) + h_i h_j) + intercepts + diagonal``.

    With ``s`` the distance times the root of 3, ``k = (1 + s) e^-s`` has the derivative
    ``-1.5 e^-s`` by the squared distance; ``k'`` is ``k`` at ``s e^-c``.
    """

    @staticmethod
    def forward(
        ctx: Any,
        a: torch.Tensor,
        root: torch.Tensor,
        own: torch.Tensor,
        wider: torch.Tensor,
        law: torch.Tensor,
        diagonal: torch.Tensor,
        apart: dict[int, torch.Tensor],
        intercepts: torch.Tensor,
    ) -> torch.Tensor:
        square = (a**2).sum(-1)
        s = torch.baddbmm(square[:, :, None], a, a.mT, alpha=-2.0)
        s += square[:, None, :]
        s.clamp_min_(0.0).mul_(3.0).sqrt_()
        decay = torch.exp(-s)
        total = torch.addcmul(decay, s, decay)
        for level, rows in apart.items():
            inner = _block(s, rows) * torch.exp(-wider)[:, None, None]
            part = own[:, level, None, None] * (1.0 + inner) * torch.exp(-inner)
            total[:, rows[:, None], rows] += part
        if law.shape[1]:
            total.baddbmm_(law[:, :, None], law[:, None, :])
        ctx.save_for_backward(a, root, own, wider, law, s, decay, total)
        ctx.apart = apart
        covariance = total * root[:, :, None]
        covariance *= root[:, None, :]
        covariance += intercepts
        torch.diagonal(covariance, dim1=-2, dim2=-1).add_(diagonal)
        return covariance

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,) = gradients
        a, root, own, wider, law, s, decay, total = ctx.saved_tensors
        by_total = gradient * root[:, :, None]
        by_total *= root[:, None, :]
        by_root = 2.0 * torch.einsum("eij,eij->ei", by_total, total) / root
        by_law = 2.0 * (by_total @ law[:, :, None])[..., 0] if law.shape[1] else None
        by_square = by_total * decay
        by_square *= -1.5
        by_own, by_wider = torch.zeros_like(own), torch.zeros_like(wider)
        shrink = torch.exp(-wider)[:, None, None]
        for level, rows in ctx.apart.items():
            inner = _block(s, rows) * shrink
            fading = torch.exp(-inner)
            here = _block(by_total, rows)
            by_own[:, level] = (here * (1.0 + inner) * fading).sum((1, 2))
            here = here * fading * own[:, level, None, None]
            by_wider += (here * inner**2).sum((1, 2))
            by_square[:, rows[:, None], rows] -= 1.5 * shrink**2 * here
        by_a = 4.0 * (by_square.sum(-1)[..., None] * a - by_square @ a)
        by_diagonal = torch.diagonal(gradient, dim1=-2, dim2=-1).clone()
        return by_a, by_root, by_own, by_wider, by_law, by_diagonal, None, None


def _block(matrix: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Rows and columns of ``(E, K, K)``."""
    return matrix[:, rows[:, None], rows]
