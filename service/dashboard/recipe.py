"""The recipe card: what to train on, beside what one would have trained on anyway."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cuvee.answer import Report
from cuvee.mixture import Mixture
from cuvee.records import SearchProblem
from cuvee.wording import shared_limits, some_names

__all__ = ["Recipe", "RecipeRow"]

_AT_CAP = 1e-4


@dataclass(frozen=True, slots=True)
class RecipeRow:
    """One domain of the card; ``low``/``high`` are None while no interval is known."""

    name: str
    colour: int
    share: float
    low: float | None
    high: float | None
    natural: float
    baseline: float
    tokens: int
    epochs: float | None
    cap: float
    binding: str | None

    @property
    def held(self) -> str | None:
        """What holds the share, in two or three words."""
        if self.share > self.cap + _AT_CAP:
            return "above its cap"
        if self.binding is None:
            return None
        return "at its cap" if self.share >= self.cap - _AT_CAP else "held by a bound"


@dataclass(frozen=True, slots=True)
class Recipe:
    """The card. ``scale`` is the share at the right end of the bars, at least the longest mark."""

    rows: tuple[RecipeRow, ...]
    scale: float
    same_baseline: bool

    @property
    def limits(self) -> list[tuple[str, str]]:
        """Domains, and what limits their shares: each limit once."""
        held = [(row.name, row.binding) for row in self.rows if row.binding is not None]
        return [(some_names(names), limit) for names, limit in shared_limits(held)]

    @classmethod
    def from_report(cls, report: Report) -> Recipe:
        """The defended shares with their intervals."""
        shares = report.recommended.root if report.recommended is not None else {}
        return cls._build(
            RecipeRow(
                name=domain.name,
                colour=index,
                share=shares.get(domain.name, domain.recommended.mean),
                low=domain.recommended.low,
                high=domain.recommended.high,
                natural=domain.natural,
                baseline=domain.baseline,
                tokens=domain.tokens,
                epochs=domain.epochs,
                cap=domain.cap,
                binding=domain.binding,
            )
            for index, domain in enumerate(report.domains)
        )

    @classmethod
    def from_mixture(cls, problem: SearchProblem, mixture: Mixture) -> Recipe:
        """A mixture on its way: shares without intervals, epochs from the target length."""
        feasible = problem.feasible()
        target = problem.spec.constraints.target_tokens
        return cls._build(
            RecipeRow(
                name=name,
                colour=index,
                share=share,
                low=None,
                high=None,
                natural=problem.natural[name],
                baseline=problem.baseline[name],
                tokens=tokens,
                epochs=None if target is None else share * target / tokens,
                cap=cap,
                binding=reason if reason and share >= cap - _AT_CAP else None,
            )
            for index, (name, share, tokens, cap, reason) in enumerate(
                zip(
                    problem.names,
                    mixture.shares(problem.names),
                    problem.tokens,
                    feasible.upper,
                    feasible.reasons,
                    strict=True,
                )
            )
        )

    @classmethod
    def _build(cls, rows: Iterable[RecipeRow]) -> Recipe:
        made = tuple(rows)
        longest = max(
            (x for r in made for x in (r.share, r.high or 0.0, r.natural, r.baseline)), default=1.0
        )
        return cls(
            rows=tuple(sorted(made, key=lambda r: -r.share)),
            scale=min(1.0, longest * 1.06) or 1.0,
            same_baseline=all(abs(r.natural - r.baseline) < 1e-6 for r in made),
        )
