"""The feasible set of mixtures, in pure Python: what the API must know before a job starts.

A mixture ``p`` is feasible when ``lower_j <= p_j <= upper_j`` for every domain, the sum over each
group lies in the group's bounds, and ``sum_j p_j = 1``. Groups do not overlap, so feasibility has a
closed form: each group can reach exactly ``[max(min_g, sum lower), min(max_g, sum upper)]``, and
the whole set is non-empty when those intervals are and their sums enclose one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cuvee.errors import InfeasibleError, SpecError
from cuvee.mixture import Mixture
from cuvee.spec import Constraints

__all__ = ["FeasibleSet", "Group"]

_SLACK = 1e-9


@dataclass(frozen=True, slots=True)
class Group:
    """Bounds on the summed share of ``members`` (indices into the domain names)."""

    members: tuple[int, ...]
    lower: float
    upper: float


@dataclass(frozen=True, slots=True)
class FeasibleSet:
    """Bounds per domain and per group; ``reasons[j]`` says where ``upper[j]`` comes from."""

    names: tuple[str, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    groups: tuple[Group, ...]
    reasons: tuple[str, ...]

    @classmethod
    def build(
        cls,
        names: Sequence[str],
        constraints: Constraints,
        tokens: Mapping[str, int] | None = None,
    ) -> FeasibleSet:
        """Turn a user's constraints into bounds.

        Args:
            names: Domain names; their order is the order of every vector.
            constraints: The user's constraints.
            tokens: Training tokens available per domain. Without it supply caps are left out.

        Raises:
            SpecError: If a constraint names a domain that is not in ``names``.
            InfeasibleError: If no mixture satisfies all constraints.
        """
        known = set(names)
        named: dict[str, set[str]] = {
            "bounds": set(constraints.bounds),
            "max_epochs_by_domain": set(constraints.max_epochs_by_domain),
            "groups": {d for g in constraints.groups for d in g.domains},
        }
        for field, mentioned in named.items():
            unknown = sorted(mentioned - known)
            if unknown:
                raise SpecError(
                    f"constraints.{field} names unknown domains {unknown}; "
                    f"the corpus has {list(names)}",
                    field=f"constraints.{field}",
                )
        lower, upper, reasons = [], [], []
        for name in names:
            bound = constraints.bounds.get(name)
            lower.append(bound.min if bound else 0.0)
            top, reason = (bound.max, f"bounds.{name}.max = {bound.max:g}") if bound else (1.0, "")
            if tokens is not None and constraints.target_tokens is not None:
                epochs = constraints.max_epochs_by_domain.get(name, constraints.max_epochs)
                supply = epochs * tokens[name] / constraints.target_tokens
                if supply < top:
                    top = supply
                    reason = (
                        f"supply of {name}: {tokens[name]:,} tokens x {epochs:g} epochs / "
                        f"{constraints.target_tokens:,} target tokens = {supply:.4g}"
                    )
            upper.append(top)
            reasons.append(reason)
        index = {name: i for i, name in enumerate(names)}
        groups = tuple(
            Group(tuple(index[d] for d in g.domains), g.min, g.max) for g in constraints.groups
        )
        built = cls(tuple(names), tuple(lower), tuple(upper), groups, tuple(reasons))
        built.check()
        return built

    def blocks(self) -> list[Group]:
        """The groups, and each ungrouped domain as a group of one, with reachable bounds."""
        grouped = {j for group in self.groups for j in group.members}
        blocks = [
            Group(
                g.members,
                max(g.lower, math.fsum(self.lower[j] for j in g.members)),
                min(g.upper, math.fsum(self.upper[j] for j in g.members)),
            )
            for g in self.groups
        ]
        blocks += [
            Group((j,), self.lower[j], self.upper[j])
            for j in range(len(self.names))
            if j not in grouped
        ]
        return blocks

    def check(self) -> None:
        """Raise unless some mixture satisfies every bound.

        Raises:
            InfeasibleError: ``details["conflict"]`` lists the constraints that clash.
        """
        for name, low, high, reason in zip(
            self.names, self.lower, self.upper, self.reasons, strict=True
        ):
            if low > high + _SLACK:
                raise InfeasibleError(
                    f"{name} must have at least {low:g} but at most {high:.4g}: lower "
                    f"bounds.{name}.min, lower target_tokens, or raise its epoch cap",
                    conflict=[f"bounds.{name}.min = {low:g}", reason],
                )
        for group in self.groups:
            members = [self.names[j] for j in group.members]
            low = math.fsum(self.lower[j] for j in group.members)
            high = math.fsum(self.upper[j] for j in group.members)
            if low > group.upper + _SLACK:
                raise InfeasibleError(
                    f"the group {members} may have at most {group.upper:g}, but its domains "
                    f"need at least {low:g} together",
                    conflict=[f"group max = {group.upper:g}"]
                    + [f"bounds.{self.names[j]}.min" for j in group.members if self.lower[j] > 0],
                )
            if high < group.lower - _SLACK:
                raise InfeasibleError(
                    f"the group {members} needs at least {group.lower:g}, but its domains "
                    f"can have at most {high:.4g} together",
                    conflict=[f"group min = {group.lower:g}"]
                    + [self.reasons[j] for j in group.members if self.reasons[j]],
                )
        blocks = self.blocks()
        least = math.fsum(b.lower for b in blocks)
        most = math.fsum(b.upper for b in blocks)
        if least > 1 + _SLACK:
            raise InfeasibleError(
                f"the lower bounds sum to {least:.4g}, more than 1: lower some of them",
                conflict=self._binding(blocks, lower=True),
            )
        if most < 1 - _SLACK:
            raise InfeasibleError(
                f"the domains can supply at most {most:.4g} of the target run, less than 1: "
                "raise an upper bound or max_epochs, or lower target_tokens",
                conflict=self._binding(blocks, lower=False),
            )

    def _binding(self, blocks: Sequence[Group], *, lower: bool) -> list[str]:
        said = []
        for block in blocks:
            names = [self.names[j] for j in block.members]
            if lower and block.lower > 0:
                said.append(f"{'+'.join(names)} >= {block.lower:g}")
            if not lower and block.upper < 1:
                reasons = [self.reasons[j] for j in block.members if self.reasons[j]]
                said.append("; ".join(reasons) or f"{'+'.join(names)} <= {block.upper:g}")
        return said

    def violations(self, mixture: Mixture, slack: float = 1e-6) -> list[str]:
        """What of this set a mixture breaks, in words; empty when it is feasible."""
        p = mixture.shares(self.names)
        said = [
            f"{name} has {share:.4g}, outside [{low:.4g}, {high:.4g}]"
            + (f" ({reason})" if share > high and reason else "")
            for name, share, low, high, reason in zip(
                self.names, p, self.lower, self.upper, self.reasons, strict=True
            )
            if not low - slack <= share <= high + slack
        ]
        for g in self.groups:
            total = math.fsum(p[j] for j in g.members)
            if not g.lower - slack <= total <= g.upper + slack:
                members = [self.names[j] for j in g.members]
                said.append(f"{members} have {total:.4g}, outside [{g.lower:.4g}, {g.upper:.4g}]")
        return said
