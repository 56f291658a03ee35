"""What a specification refuses, and that each refusal has an accepted twin."""

from typing import Any

import pytest
from pydantic import ValidationError

from cuvee.spec import CorpusSpec, JobSpec, ProxyModel, ProxyRung

PROXY: dict[str, Any] = {"kind": "proxy", "parameters": 100_000, "tokens": 100_000}


def job(**overrides: Any) -> JobSpec:
    return JobSpec.model_validate({"corpus": "text", "rungs": [PROXY], **overrides})


def test_a_minimal_job_is_enough() -> None:
    spec = job()
    assert spec.verification.seeds == 3
    assert spec.rungs[-1].kind == "proxy"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"rungs": []}, "at least 1 item"),
        ({"rungs": [{"kind": "teleport"}]}, "'ngram', 'proxy'"),
        ({"seeed": 3}, "Extra inputs"),
        ({"seed": -1}, "greater than or equal to 0"),
        ({"name": "has space"}, "not a valid name"),
        ({"objective": {"weights": {"a": -1}}}, "at least 0"),
        ({"objective": {"weights": {"a": 0}}}, "sum to 0"),
        ({"baseline": {"a": 0.5}}, "sum to 0.5"),
        ({"constraints": {"bounds": {"a": {"min": 0.6, "max": 0.5}}}}, "greater than max"),
        (
            {"constraints": {"groups": [{"domains": ["a", "b"]}, {"domains": ["b", "c"]}]}},
            r"\['a', 'b'\] and \['b', 'c'\] share only \['b'\]",
        ),
        ({"constraints": {"groups": [{"domains": ["a", "a"]}]}}, "each domain once"),
        ({"constraints": {"groups": [{"domains": ["*/high"]}]}}, "only a last level"),
        ({"constraints": {"groups": [{"domains": ["*"]}]}}, "only a last level"),
        ({"constraints": {"max_active": 0}}, "greater than or equal to 1"),
        ({"constraints": {"max_epochs_by_domain": {"a": 0}}}, "must be positive"),
        ({"rungs": [{**PROXY, "model": {"hidden_size": 64, "layers": 2, "heads": 2}}]}, "either"),
        ({"rungs": [{"kind": "proxy", "tokens": 100_000}]}, "either"),
        ({"rungs": [{**PROXY, "tokens": 1000}]}, "less than one batch"),
        ({"verification": {"confidence": 1.0}}, "less than 1"),
        ({"verification": {"references": ["uniform", "uniform"]}}, "each reference once"),
        ({"rungs": [PROXY, {"kind": "ngram"}]}, "n-grams before proxies"),
        ({"rungs": [{**PROXY, "learning_rate": float("inf")}]}, "less than or equal to 10"),
        ({"budget": {"max_seconds": float("inf")}}, "less than or equal to"),
        ({"name": "line\n"}, "not a valid name"),
        ({"stopping": {"least_gain": 0}}, "greater than 0"),
        ({"stopping": {"least_gain": float("nan")}}, "finite number"),
        ({"stopping": {"certainty": 0.5}}, "greater than 0.5"),
        ({"stopping": {"certainty": 1}}, "less than 1"),
    ],
)
def test_a_wrong_job_is_refused(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        job(**overrides)


@pytest.mark.parametrize(
    "groups",
    [[["a"], ["a", "b"]], [["a", "b"], ["a", "b"]], [["a"], ["b"]], [["web/*"], ["web/en"]]],
)
def test_groups_may_be_nested_or_disjoint(groups: list[list[str]]) -> None:
    spec = job(constraints={"groups": [{"domains": names} for names in groups]})
    assert [list(group.domains) for group in spec.constraints.groups] == groups


def test_proxy_takes_a_full_shape_instead_of_the_dial() -> None:
    shape = ProxyModel(hidden_size=64, layers=2, heads=2)
    assert ProxyRung(model=shape, tokens=100_000).parameters is None


@pytest.mark.parametrize("shape", [{"heads": 3}, {"heads": 64}, {"heads": 4, "kv_heads": 3}])
def test_an_impossible_shape_is_refused(shape: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match="heads"):
        ProxyModel.model_validate({"hidden_size": 64, "layers": 2, **shape})


def test_domain_names_are_unique_across_training_and_evaluation() -> None:
    a, b = {"name": "a", "paths": ["x"]}, {"name": "b", "paths": ["y"]}
    assert CorpusSpec.model_validate({"domains": [a, b]}).holdout.share == 0.05
    with pytest.raises(ValidationError, match=r"repeated: \['a'\]"):
        CorpusSpec.model_validate({"domains": [a, b], "evaluation_only": [a]})
    with pytest.raises(ValidationError, match="at least 2 items"):
        CorpusSpec.model_validate({"domains": [a]})


@pytest.mark.parametrize("name", ["", "/a", "a/", "a//b", "../a", ".hidden", "a b", "x" * 200])
def test_names_cannot_escape_or_confuse(name: str) -> None:
    with pytest.raises(ValidationError, match="not a valid name"):
        CorpusSpec.model_validate(
            {"domains": [{"name": name, "paths": ["x"]}, {"name": "b", "paths": ["y"]}]}
        )


def test_levels_are_separated_by_slashes() -> None:
    spec = CorpusSpec.model_validate(
        {"domains": [{"name": "web/en", "paths": ["x"]}, {"name": "web/de", "paths": ["y"]}]}
    )
    assert [d.name for d in spec.domains] == ["web/en", "web/de"]


def test_references_are_run_without_caps_and_keep_their_target() -> None:
    capped = job(constraints={"target_tokens": 10**9, "max_epochs_by_domain": {"a": 1}}).constraints
    free = capped.without_caps()
    assert free.target_tokens == 10**9
    assert free.max_epochs_by_domain == {}
    assert free.max_epochs > 1e5
