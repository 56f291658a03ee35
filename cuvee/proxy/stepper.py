"""A model and its optimiser: one step at a time, and all state out and in again.

The same optimisation as ``cuvee.proxy.train``: AdamW with decay on matrices and not on norms,
gradients clipped by norm, bf16 autocast with fp32 weights on CUDA, fp32 on CPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cuvee.proxy.config import Shape
from cuvee.proxy.model import build_model, training_loss
from cuvee.proxy.recipe import ADAM_BETAS, ADAM_EPS

__all__ = ["Stepper"]


class Stepper:
    """A freshly initialised model under training, ``model``.

    Args:
        shape: Its dimensions.
        vocab_size: Number of token ids.
        context: Longest sequence.
        init_seed: Seed of the initial weights.
        device: Where it computes.
        weight_decay: Of matrices.
        clip_norm: Largest norm of a gradient.
    """

    def __init__(
        self,
        shape: Shape,
        vocab_size: int,
        context: int,
        *,
        init_seed: int,
        device: torch.device,
        weight_decay: float,
        clip_norm: float,
    ) -> None:
        self._device = device
        self._clip_norm = clip_norm
        self.model = build_model(shape, vocab_size, context, init_seed)
        torch.nn.Module.to(self.model, device)
        self._parameters = dict(sorted(self.model.named_parameters()))
        groups: list[dict[str, Any]] = [
            {
                "params": [p for p in self._parameters.values() if p.ndim >= 2],
                "weight_decay": weight_decay,
            },
            {"params": [p for p in self._parameters.values() if p.ndim < 2], "weight_decay": 0.0},
        ]
        self._optimiser = torch.optim.AdamW(groups, betas=ADAM_BETAS, eps=ADAM_EPS, fused=True)
        self._bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported()
        # A sum on the device, read seldom: finite only if every term was.
        self._seen = torch.zeros((), dtype=torch.float64, device=device)

    def step(self, batch: npt.NDArray[np.int64], rate: float) -> Tensor:
        """One optimiser step on token ids of shape (B, S + 1).

        Returns:
            The loss before it, mean nats per token, still on the device.
        """
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        ids = torch.from_numpy(batch).to(self._device)
        loss = training_loss(self.model, ids, bf16=self._bf16)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(
            self._parameters.values(), self._clip_norm, foreach=True
        )
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        self._seen += loss.detach() + norm.detach()
        return loss.detach()

    @property
    def finite(self) -> bool:
        """Whether every loss and every gradient so far was finite."""
        return bool(torch.isfinite(self._seen))

    def state(self) -> dict[str, Tensor]:
        """All of it, as ``model/NAME`` and ``optimiser/FIELD/NAME``; the next step changes it."""
        tensors: dict[str, Tensor] = {}
        for name, parameter in self._parameters.items():
            tensors[f"model/{name}"] = parameter.detach()
            for field, value in self._optimiser.state[parameter].items():
                tensors[f"optimiser/{field}/{name}"] = value
        return tensors

    def load(self, tensors: Mapping[str, Tensor], *, optimiser: bool) -> None:
        """Take over what ``state`` gave, with or without the optimiser's part."""
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(tensors[f"model/{name}"])
        self._optimiser.state.clear()
        for key, tensor in tensors.items():
            kind, _, rest = key.partition("/")
            if kind == "optimiser" and optimiser:
                field, _, name = rest.partition("/")
                parameter = self._parameters[name]
                self._optimiser.state[parameter][field] = tensor.to(self._device, copy=True)
