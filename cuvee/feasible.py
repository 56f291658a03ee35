"""The feasible set of mixtures, in pure Python: what the API must know before a job starts.

A mixture ``p`` is feasible when ``lower_j <= p_j <= upper_j`` for every domain, the sum over each
group lies in the group's bounds, at most ``max_active`` domains have a share, and
``sum_j p_j = 1``. Of two groups one contains the other or they are disjoint, so the domains are the
leaves of a tree; ``cuvee.conflicts`` decides over it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cuvee.conflicts import Clash, Limit, Tree, smallest_clash
from cuvee.errors import InfeasibleError, SpecError
from cuvee.mixture import Mixture
from cuvee.spec import Constraints

__all__ = ["ACTIVE", "FeasibleSet", "Group"]

ACTIVE = 1e-9
"""A domain with a greater share is active."""


@dataclass(frozen=True, slots=True)
class Group:
    """Bounds on the summed share of ``members`` (indices into the domain names).

    ``label`` is how the user named it: ``web/*``, or ``a + b``.
    """

    members: tuple[int, ...]
    lower: float
    upper: float
    label: str


@dataclass(frozen=True, slots=True)
class FeasibleSet:
    """Bounds per domain and per group.

    Attributes:
        names: Domain names, ``m`` of them; their order is the order of every vector.
        lower: Least shares.
        upper: Greatest shares.
        groups: Smallest first, so that what a group contains precedes it.
        reasons: Where each ``upper`` comes from, in words; empty where it is one.
        max_active: Most domains with a share above ``ACTIVE``; None without a limit.
    """

    names: tuple[str, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    groups: tuple[Group, ...]
    reasons: tuple[str, ...]
    max_active: int | None = None

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
            SpecError: If a constraint names a domain that is not in ``names``, or two groups
                overlap and neither contains the other.
            InfeasibleError: If no mixture satisfies all constraints. ``details["conflict"]`` lists
                a set of constraints that clash, none of which can be spared.
        """
        for field in ("bounds", "max_epochs_by_domain"):
            unknown = sorted(set(getattr(constraints, field)) - set(names))
            if unknown:
                raise _unknown(field, unknown, names)
        groups, numbers = _groups(names, constraints)
        tree = Tree.of(len(names), [group.members for group in groups])
        limits: list[Limit] = []
        lower, upper, reasons = [], [], []
        for j, name in enumerate(names):
            low, caps = _domain(j, name, constraints, tokens)
            limits += [*low, *caps]
            tightest = min(caps, key=lambda cap: cap.value, default=None)
            lower.append(low[0].value if low else 0.0)
            upper.append(tightest.value if tightest else 1.0)
            reasons.append(tightest.text if tightest else "")
        for g, (group, number) in enumerate(zip(groups, numbers, strict=True)):
            node, field = len(names) + g, f"groups[{number}]"
            if group.lower > 0:
                text = f"{field}.min = {group.lower:g} ({group.label})"
                limits.append(Limit(text, node, group.lower, least=True))
            if group.upper < 1:
                text = f"{field}.max = {group.upper:g} ({group.label})"
                limits.append(Limit(text, node, group.upper))
        most = constraints.max_active
        if most is not None:
            limits.append(Limit(f"max_active = {most}", None, most))
        clash = smallest_clash(tree, limits)
        if clash is not None:
            raise _infeasible(clash, names, groups)
        return cls(tuple(names), tuple(lower), tuple(upper), groups, tuple(reasons), most)

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
                said.append(f"{g.label} has {total:.4g}, outside [{g.lower:.4g}, {g.upper:.4g}]")
        active = sum(share > ACTIVE for share in p)
        if self.max_active is not None and active > self.max_active:
            said.append(f"{active} domains have a share, more than max_active = {self.max_active}")
        return said


def _unknown(field: str, unknown: Sequence[str], names: Sequence[str]) -> SpecError:
    hint = ""
    if field == "bounds" and any("*" in name for name in unknown):
        hint = " (constraints.groups bounds the total of a level)"
    return SpecError(
        f"constraints.{field} names unknown domains {list(unknown)}{hint}; "
        f"the corpus has {list(names)}",
        field=f"constraints.{field}",
    )


def _groups(
    names: Sequence[str], constraints: Constraints
) -> tuple[tuple[Group, ...], tuple[int, ...]]:
    """The groups with patterns expanded, smallest first, and their places in the constraints."""
    index = {name: j for j, name in enumerate(names)}
    found = []
    unknown: list[str] = []
    for number, bound in enumerate(constraints.groups):
        members: set[int] = set()
        for entry in bound.domains:
            if entry.endswith("/*"):
                matched = {j for name, j in index.items() if name.startswith(entry[:-1])}
            else:
                matched = {index[entry]} if entry in index else set()
            if not matched:
                unknown.append(entry)
            members |= matched
        shown = [*bound.domains[:4], *[f"{len(bound.domains) - 4} more"][: len(bound.domains) > 4]]
        group = Group(tuple(sorted(members)), bound.min, bound.max, " + ".join(shown))
        found.append((group, number))
    if unknown:
        raise _unknown("groups", sorted(unknown), names)
    found.sort(key=lambda pair: len(pair[0].members))
    # From the largest down, all members of a group must have the same group around them.
    around: list[Group | None] = [None] * len(names)
    for group, _ in reversed(found):
        outer = {id(around[j]): around[j] for j in group.members}
        if len(outer) > 1:
            crossed = min(
                (o for o in outer.values() if o is not None), key=lambda o: len(o.members)
            )
            shared = [names[j] for j in group.members if j in crossed.members]
            raise SpecError(
                f"the groups {crossed.label} and {group.label} share only {shared}: of two groups "
                "one must contain the other, or they must be disjoint",
                field="constraints.groups",
            )
        for j in group.members:
            around[j] = group
    return tuple(group for group, _ in found), tuple(number for _, number in found)


def _domain(
    j: int, name: str, constraints: Constraints, tokens: Mapping[str, int] | None
) -> tuple[list[Limit], list[Limit]]:
    """The minimum, and the caps, of one domain; none where they say nothing."""
    low, caps = [], []
    bound = constraints.bounds.get(name)
    if bound is not None and bound.min > 0:
        low.append(Limit(f"bounds.{name}.min = {bound.min:g}", j, bound.min, least=True))
    if bound is not None and bound.max < 1:
        caps.append(Limit(f"bounds.{name}.max = {bound.max:g}", j, bound.max))
    if tokens is not None and constraints.target_tokens is not None:
        epochs = constraints.max_epochs_by_domain.get(name, constraints.max_epochs)
        supply = epochs * tokens[name] / constraints.target_tokens
        if supply < 1:
            text = (
                f"supply of {name}: {tokens[name]:,} tokens x {epochs:g} epochs / "
                f"{constraints.target_tokens:,} target tokens = {supply:.4g}"
            )
            caps.append(Limit(text, j, supply))
    return low, caps


def _infeasible(clash: Clash, names: Sequence[str], groups: Sequence[Group]) -> InfeasibleError:
    """The refusal in words: what clashes, and what to change."""
    caps = [limit for limit in clash.limits if limit.node is not None and not limit.least]
    supplied = any(cap.text.startswith("supply") for cap in caps)
    wider = "an upper bound or max_epochs, or lower target_tokens" if supplied else "an upper bound"
    needed, had = f"{clash.least:.4g}", f"{clash.most:.4g}"
    if clash.node is None:
        remedies = ["raise max_active"]
        if any(limit.least for limit in clash.limits):
            remedies.append("lower a minimum")
        if caps:
            remedies.append(f"raise {wider}")
        said = (
            f"max_active = {had}, but the constraints together need at least {needed} domains "
            f"with a share: {', or '.join(remedies)}"
        )
    elif clash.node < len(names):
        name = names[clash.node]
        said = f"{name} must have at least {needed} but at most {had}: lower bounds.{name}.min" + (
            ", lower target_tokens, or raise its epoch cap" if supplied else ""
        )
    elif clash.node == len(names) + len(groups):
        if caps:
            said = (
                f"the domains can supply at most {had} of the target run, less than 1: "
                f"raise {wider}"
            )
        else:
            said = f"the lower bounds sum to {needed}, more than 1: lower some of them"
    else:
        label = groups[clash.node - len(names)].label
        if len(caps) == 1 and caps[0].node == clash.node:
            said = (
                f"the group {label} may have at most {had}, but its domains need at least {needed} "
                "together: raise the group's max or lower some of their minima"
            )
        else:
            said = (
                f"the group {label} needs at least {needed}, but its domains can have at most "
                f"{had} together: lower the group's min, or raise {wider}"
            )
    return InfeasibleError(said, conflict=[limit.text for limit in clash.limits])
