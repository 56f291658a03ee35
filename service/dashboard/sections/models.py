"""Which model predicts each evaluation set, and what the mixing law says of the domains."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from cuvee.answer import SetFit
from service.dashboard.formats import bits, percent, signed

__all__ = ["LawMatrix", "ModelTable"]

_MATRIX_SIDE = 24
_SHADES = 5


@dataclass(frozen=True, slots=True)
class ModelTable:
    """Scores of every surrogate on every evaluation set.

    Attributes:
        models: The surrogates, the most used first.
        rows: Evaluation set, cells by surrogate as (score, weight, whether it weighs most), and
            the error of left-out predictions.
        caption: The finding.
    """

    models: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[str, str, bool], ...], str], ...]
    caption: str

    @classmethod
    def build(cls, fits: tuple[SetFit, ...]) -> ModelTable | None:
        """None when no set was given a choice."""
        scored = [f for f in fits if f.scores]
        if not scored:
            return None
        known = {model for fit in scored for model in fit.scores}
        used = {m: math.fsum(fit.weights.get(m, 0.0) for fit in scored) for m in known}
        models = tuple(sorted(known, key=lambda m: (-used[m], m)))
        rows = tuple(
            (fit.eval_set, tuple(_cell(fit, model) for model in models), bits(fit.loo_rmse))
            for fit in scored
        )
        return cls(models, rows, _models_caption(scored))


def _cell(fit: SetFit, model: str) -> tuple[str, str, bool]:
    score = fit.scores.get(model)
    written = "–" if score is None or not math.isfinite(score) else f"{score:.2f}"
    weight = fit.weights.get(model)
    return (
        written.replace("-", "−"),
        "" if not weight else percent(weight, 0),
        model == fit.chosen,
    )


def _models_caption(scored: list[SetFit]) -> str:
    chosen = Counter(f.chosen for f in scored if f.chosen)
    said = ", ".join(f"{model} on {_sets(count)}" for model, count in chosen.most_common())
    return (
        (f"Most weight has {said}. " if said else "")
        + "The score is the mean log density of a run that was left out, in nats: one more means "
        "that the model gave what happened 2.7 times the density. Below it, the model's weight."
    )


def _sets(count: int) -> str:
    return "1 set" if count == 1 else f"{count} sets"


@dataclass(frozen=True, slots=True)
class LawMatrix:
    """The coefficients t_ij as a table of shaded cells: ``(value, shade)``, shade in -5 ... 5."""

    domains: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[float, int], ...]], ...]
    caption: str
    hidden: int

    @classmethod
    def build(cls, fits: tuple[SetFit, ...]) -> LawMatrix | None:
        """At most 24 x 24 cells, those with the greatest coefficients; None without fits."""
        fits = tuple(f for f in fits if f.coefficients)
        if not fits:
            return None
        names = list(fits[0].coefficients)
        if len(names) > _MATRIX_SIDE:
            weight = {n: max(abs(f.coefficients.get(n, 0.0)) for f in fits) for n in names}
            kept = set(sorted(names, key=lambda n: -weight[n])[:_MATRIX_SIDE])
            names = [n for n in names if n in kept]
        shown = fits[:_MATRIX_SIDE]
        cells = [(f.eval_set, n, f.coefficients.get(n, 0.0)) for f in shown for n in names]
        scale = max((abs(v) for *_, v in cells if math.isfinite(v)), default=0.0) or 1.0
        rows = tuple(
            (
                f.eval_set,
                tuple((v := f.coefficients.get(n, 0.0), _shade(v, scale)) for n in names),
            )
            for f in shown
        )
        across = [c for c in cells if c[0] != c[1]]
        caption = "A negative coefficient helps: more of the column's domain, less loss in the row."
        if across:
            target, helper, value = min(across, key=lambda c: c[2])
            if value < 0:
                caption += f" Across domains, {helper} helps {target} most ({signed(value)[:-2]})."
        hidden = len(fits) * len(fits[0].coefficients) - len(cells)
        return cls(tuple(names), rows, caption, hidden)


def _shade(value: float, scale: float) -> int:
    if not math.isfinite(value):
        return 0
    return round(_SHADES * math.copysign(math.sqrt(abs(value) / scale), value))
