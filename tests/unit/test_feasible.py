"""The feasible set against a linear program solved by scipy, and its refusals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from cuvee.errors import InfeasibleError, SpecError
from cuvee.feasible import FeasibleSet
from cuvee.mixture import Mixture
from cuvee.spec import Bound, Constraints, GroupBound

NAMES = ("a", "b", "c", "d", "e")


@st.composite
def constraints(draw: st.DrawFn) -> Constraints:
    def interval(scale: float) -> tuple[float, float]:
        low = draw(st.floats(0, scale))
        return low, draw(st.floats(low, 1))

    bounds = {}
    for name in draw(st.sets(st.sampled_from(NAMES))):
        low, high = interval(0.6)
        bounds[name] = Bound(min=low, max=high)
    split = draw(st.integers(1, 4))
    groups = []
    for members in draw(st.sampled_from([(), (NAMES[:split],), (NAMES[:split], NAMES[split:])])):
        low, high = interval(1.0)
        groups.append(GroupBound(domains=members, min=low, max=high))
    return Constraints(bounds=bounds, groups=tuple(groups))


@given(constraints())
@settings(max_examples=200, deadline=None)
def test_feasibility_agrees_with_a_linear_program(c: Constraints) -> None:
    lower = [c.bounds[n].min if n in c.bounds else 0.0 for n in NAMES]
    upper = [c.bounds[n].max if n in c.bounds else 1.0 for n in NAMES]
    rows, limits = [], []
    for group in c.groups:
        row = np.array([float(n in group.domains) for n in NAMES])
        rows += [row, -row]
        limits += [group.max, -group.min]
    answer = linprog(
        np.zeros(len(NAMES)),
        A_ub=np.array(rows) if rows else None,
        b_ub=limits or None,
        A_eq=np.ones((1, len(NAMES))),
        b_eq=[1.0],
        bounds=list(zip(lower, upper, strict=True)),
    )
    if answer.status == 2:
        with pytest.raises(InfeasibleError) as refused:
            FeasibleSet.build(NAMES, c)
        assert refused.value.details["conflict"]
    else:
        assert answer.status == 0
        built = FeasibleSet.build(NAMES, c)
        assert built.violations(Mixture.from_shares(NAMES, answer.x)) == []


def test_supply_caps_follow_tokens_epochs_and_target() -> None:
    c = Constraints(target_tokens=1000, max_epochs=2, max_epochs_by_domain={"b": 5})
    built = FeasibleSet.build(("a", "b"), c, {"a": 300, "b": 100})
    assert built.upper == (pytest.approx(0.6), pytest.approx(0.5))
    assert "300 tokens x 2 epochs / 1,000 target tokens" in built.reasons[0]


def test_too_little_supply_names_every_cap_and_the_remedy() -> None:
    with pytest.raises(InfeasibleError, match=r"at most 0\.8 of the target run") as caught:
        FeasibleSet.build(
            ("a", "b"), Constraints(target_tokens=1000, max_epochs=2), {"a": 300, "b": 100}
        )
    assert len(caught.value.details["conflict"]) == 2
    assert "target_tokens" in str(caught.value)


@pytest.mark.parametrize(
    ("c", "message"),
    [
        (Constraints(bounds={"zz": Bound(max=0.5)}), "unknown domains .'zz'."),
        (Constraints(max_epochs_by_domain={"zz": 1}), "max_epochs_by_domain"),
        (Constraints(groups=(GroupBound(domains=("a", "zz")),)), "constraints.groups"),
    ],
)
def test_unknown_domains_are_refused_with_the_field(c: Constraints, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        FeasibleSet.build(NAMES, c)


def test_violations_are_told_in_words() -> None:
    c = Constraints(bounds={"a": Bound(max=0.2)}, groups=(GroupBound(domains=("b", "c"), min=0.5),))
    said = FeasibleSet.build(NAMES, c).violations(Mixture({"a": 0.6, "d": 0.4}))
    assert len(said) == 2
    assert said[0].startswith("a has 0.6, outside [0, 0.2]")
    assert "['b', 'c'] have 0, outside [0.5, 1]" in said[1]
