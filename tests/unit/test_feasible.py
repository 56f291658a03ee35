"""The feasible set against a linear program solved by scipy, and its refusals."""

import time

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
    assert said[1] == "b + c has 0, outside [0.5, 1]"


def test_too_many_active_domains_are_a_violation_and_a_rounding_error_is_not() -> None:
    built = FeasibleSet.build(NAMES, Constraints(max_active=2))
    assert built.violations(Mixture({"a": 0.5, "b": 0.25, "c": 0.25})) == [
        "3 domains have a share, more than max_active = 2"
    ]
    assert built.violations(Mixture({"a": 0.5, "b": 0.5 - 5e-10, "c": 5e-10})) == []


LEVELS = ("web/en/high", "web/en/low", "web/de/high", "web/de/low", "code/py", "books")


def test_a_pattern_stands_for_the_domains_below_a_level() -> None:
    c = Constraints(
        groups=(
            GroupBound(domains=("web/*",), max=0.5),
            GroupBound(domains=("books", "web/en/*"), min=0.6),
            GroupBound(domains=("web/en/*",), min=0.1),
        )
    )
    with pytest.raises(SpecError, match=r"web/\* and books \+ web/en/\* share only") as caught:
        FeasibleSet.build(LEVELS, c)
    assert caught.value.details["field"] == "constraints.groups"
    built = FeasibleSet.build(LEVELS, Constraints(groups=c.groups[::2]))
    assert [(g.label, g.members) for g in built.groups] == [
        ("web/en/*", (0, 1)),
        ("web/*", (0, 1, 2, 3)),
    ]
    assert built.violations(Mixture({"web/de/low": 0.6, "books": 0.4})) == [
        "web/en/* has 0, outside [0.1, 1]",
        "web/* has 0.6, outside [0, 0.5]",
    ]


def test_a_level_that_is_not_there_is_refused() -> None:
    c = Constraints(groups=(GroupBound(domains=("books/*", "news/*", "code/*")),))
    with pytest.raises(SpecError, match=r"unknown domains .'books/\*', 'news/\*'."):
        FeasibleSet.build(LEVELS, c)
    with pytest.raises(SpecError, match=r"constraints\.groups bounds the total of a level"):
        FeasibleSet.build(LEVELS, Constraints(bounds={"web/*": Bound(max=0.5)}))


@pytest.mark.parametrize(
    ("c", "message", "conflict"),
    [
        (
            Constraints(bounds={"a": Bound(min=0.7), "b": Bound(min=0.6), "c": Bound(min=0.1)}),
            "the lower bounds sum to 1.3, more than 1",
            ["bounds.a.min = 0.7", "bounds.b.min = 0.6"],
        ),
        (
            Constraints(
                bounds={"a": Bound(min=0.3), "b": Bound(min=0.1), "c": Bound(min=0.3)},
                groups=(GroupBound(domains=("a", "b", "c"), max=0.5),),
            ),
            "the group a . b . c may have at most 0.5, but its domains need at least 0.6 together",
            ["groups[0].max = 0.5 (a + b + c)", "bounds.a.min = 0.3", "bounds.c.min = 0.3"],
        ),
        (
            Constraints(
                bounds={"a": Bound(max=0.2), "b": Bound(max=0.1)},
                groups=(
                    GroupBound(domains=("a", "b", "c"), min=0.6),
                    GroupBound(domains=("b", "c"), max=0.3),
                ),
            ),
            "the group a . b . c needs at least 0.6, but its domains can have at most 0.5 together",
            [
                "groups[0].min = 0.6 (a + b + c)",
                "bounds.a.max = 0.2",
                "groups[1].max = 0.3 (b + c)",
            ],
        ),
        (
            Constraints(bounds={n: Bound(min=0.1) for n in "abc"}, max_active=2),
            "max_active = 2, but the constraints together need at least 3 domains",
            ["max_active = 2"] + [f"bounds.{n}.min = 0.1" for n in "abc"],
        ),
        (
            Constraints(bounds={n: Bound(max=0.4) for n in NAMES}, max_active=2),
            "raise max_active, or raise an upper bound",
            ["max_active = 2"] + [f"bounds.{n}.max = 0.4" for n in NAMES],
        ),
    ],
)
def test_a_refusal_says_what_clashes_and_what_to_change(
    c: Constraints, message: str, conflict: list[str]
) -> None:
    with pytest.raises(InfeasibleError, match=message) as caught:
        FeasibleSet.build(NAMES, c)
    assert caught.value.details["conflict"] == conflict


def test_a_minimum_above_the_supply_is_refused() -> None:
    c = Constraints(bounds={"a": Bound(min=0.5)}, target_tokens=1000, max_epochs=1)
    with pytest.raises(InfeasibleError, match=r"a must have at least 0\.5 but at most 0\.3") as e:
        FeasibleSet.build(("a", "b"), c, {"a": 300, "b": 1000})
    assert e.value.details["conflict"][1] == "bounds.a.min = 0.5"
    assert e.value.details["conflict"][0].startswith("supply of a: 300 tokens")


def test_two_hundred_domains_are_checked_and_refused_quickly() -> None:
    names = [f"s{i // 40}/t{i // 8 % 5}/q{i % 8}" for i in range(200)]
    topics = [GroupBound(domains=(f"s{s}/t{t}/*",), min=0.01) for s in range(5) for t in range(5)]
    sources = [GroupBound(domains=(f"s{s}/*",), max=0.4) for s in range(5)]
    groups = (*sources, *topics)
    bounds = {name: Bound(min=0.001, max=0.03) for name in names[::5]}
    began = time.perf_counter()
    assert FeasibleSet.build(names, Constraints(groups=groups, max_active=25)).max_active == 25
    with pytest.raises(InfeasibleError):
        FeasibleSet.build(names, Constraints(groups=groups, bounds=bounds, max_active=30))
    with pytest.raises(InfeasibleError):
        FeasibleSet.build(names, Constraints(bounds={n: Bound(min=0.006) for n in names}))
    assert time.perf_counter() - began < 1.0  # 0.12 s on an idle core
