"""One dial, the number of parameters, and what follows from it.

``parameters`` counts what does the computing: attention, feed-forward and norms. Embeddings are
left out, since a vocabulary of a thousand or of a hundred thousand would otherwise decide the size
of a small model (Kaplan et al. 2020, arXiv 2001.08361, section 2.1). The choices:

- **Depth and width** grow together, ``hidden_size = 64 * layers``, the proportions of GPT-2. Loss
  is flat around them (arXiv 2001.08361, figure 5). At least two layers: copying from context takes
  an attention layer that reads another's output (arXiv 2209.11895).
- **Feed-forward width** is near ``8/3 * hidden_size``, which makes a gated layer as large as an
  ungated one of four times the width (arXiv 2002.05202), and takes up what rounding the width left
  over, so that the size comes out within a few percent of the one asked for.
- **Heads** are as wide as divides the width, at most 64, with at least two of them.
- **Learning rate** falls with compute, ``0.3118 * C**-0.125`` (DeepSeek LLM, arXiv 2401.02954),
  ``C = 6 * parameters * tokens``. It was fitted between 1e17 and 2e19 but holds far below: 1e5
  parameters over 4e5 bytes reached 2.32, 2.31 and 2.42 bits per byte at 0.003, 0.01 and 0.02, where
  it says 0.012; 3e4 over 2.5e5 reached 2.76, 2.73, 2.66 and 2.94 at 0.006, 0.01, 0.02 and 0.03,
  where it says 0.015.
- **Weights** start normal with deviation ``sqrt(2 / (5 * hidden_size))`` (Nguyen and Salazar 2019,
  arXiv 1910.05895). The customary 0.02 suits a width of 1000 and starves one of 64: in the first
  setting above it ends at 2.53 instead of 2.31.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from cuvee.spec import ProxyModel, ProxyRung

__all__ = ["Shape", "choose_shape", "default_learning_rate", "shape_of"]

_ASPECT = 64
_GATED = 8 / 3
_MAX_HEAD = 64
_MAX_LEARNING_RATE = 0.02


@dataclass(frozen=True, slots=True)
class Shape:
    """The dimensions of a Llama-style model."""

    hidden_size: int
    layers: int
    heads: int
    kv_heads: int
    intermediate_size: int
    tie_embeddings: bool = True

    @property
    def parameters(self) -> int:
        """Parameters outside the embeddings."""
        d, kv = self.hidden_size, self.kv_heads * (self.hidden_size // self.heads)
        attention = 2 * d * d + 2 * d * kv
        return self.layers * (attention + 3 * d * self.intermediate_size + 2 * d) + d

    @property
    def initial_deviation(self) -> float:
        return math.sqrt(2 / (5 * self.hidden_size))


def shape_of(rung: ProxyRung) -> Shape:
    """The shape that a rung asks for, by the dial or in full."""
    if rung.model is None:
        assert rung.parameters is not None, "ProxyRung holds exactly one of the two"
        return choose_shape(rung.parameters)
    return _complete(rung.model)


def choose_shape(parameters: int) -> Shape:
    """The shape with about ``parameters`` parameters outside the embeddings."""
    layers = max(2, round((parameters / (12 * _ASPECT**2)) ** (1 / 3)))
    ideal = (parameters / (12 * layers)) ** 0.5
    # Coarser as it grows: kernels like round widths, and the feed-forward layer makes up for it.
    step = 8 if ideal < 64 else 16 if ideal < 128 else 32 if ideal < 512 else 64
    width = max(step, step * round(ideal / step))
    # What a layer has beyond its attention and two norms goes to the three feed-forward matrices.
    spare = (parameters - width) / layers - 4 * width * width - 2 * width
    unit = 8 if width >= 64 else 2
    intermediate = max(unit, unit * round(spare / (3 * width) / unit))
    heads = _heads(width)
    return Shape(width, layers, heads, heads, intermediate)


def default_learning_rate(shape: Shape, tokens: int) -> float:
    """Peak learning rate of AdamW for a run of ``tokens`` tokens."""
    compute = 6.0 * shape.parameters * tokens
    return float(min(_MAX_LEARNING_RATE, 0.3118 * compute**-0.125))


def _heads(width: int) -> int:
    size = next(s for s in (_MAX_HEAD, 32, 16, 8, 4) if width % s == 0 and width // s >= 2)
    return width // size


def _complete(model: ProxyModel) -> Shape:
    return Shape(
        hidden_size=model.hidden_size,
        layers=model.layers,
        heads=model.heads,
        kv_heads=model.kv_heads or model.heads,
        intermediate_size=model.intermediate_size or 8 * round(_GATED * model.hidden_size / 8),
        tie_embeddings=model.tie_embeddings,
    )
