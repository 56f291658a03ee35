"""Derived quantities of the records, and what joining a job with its corpus refuses."""

import math
from typing import Any

import pytest

from cuvee.errors import InfeasibleError, SpecError
from cuvee.records import CorpusManifest, DomainCensus, EvalLoss, SearchProblem
from cuvee.spec import JobSpec


def census(name: str, tokens: int) -> DomainCensus:
    return DomainCensus(
        name=name,
        documents=10,
        bytes=tokens * 3,
        tokens=tokens,
        heldout_documents=2,
        heldout_bytes=300,
        heldout_tokens=100,
    )


MANIFEST = CorpusManifest(
    digest="0" * 64,
    domains=(census("a", 1000), census("b", 3000)),
    evaluation_only=(census("target", 0),),
    vocab_size=257,
    tokenizer_sha256="0" * 64,
)


def problem(**overrides: Any) -> SearchProblem:
    rung = {"kind": "proxy", "parameters": 100_000, "tokens": 100_000}
    spec = JobSpec.model_validate({"corpus": "c", "rungs": [rung], **overrides})
    return SearchProblem.build(spec, MANIFEST)


def test_bits_and_nats_follow_from_the_same_numbers() -> None:
    loss = EvalLoss(nats=math.log(2) * 800, nats_se=math.log(2) * 8, tokens=400, bytes=100)
    assert loss.bits_per_byte == pytest.approx(8.0)
    assert loss.bits_per_byte_se == pytest.approx(0.08)
    assert loss.nats_per_token == pytest.approx(2 * math.log(2))


def test_baseline_is_natural_unless_given_and_weights_default_to_equal() -> None:
    built = problem()
    assert built.baseline == built.natural
    assert built.natural["b"] == pytest.approx(0.75)
    assert built.eval_sets == ("a", "b", "target")
    assert built.weights == pytest.approx((1 / 3, 1 / 3, 1 / 3))


def test_weights_are_scaled_and_the_objective_uses_them() -> None:
    built = problem(objective={"weights": {"a": 1, "target": 3}}, baseline={"a": 1.0})
    assert built.weights == pytest.approx((0.25, 0, 0.75))
    assert built.baseline.shares(built.names) == [1.0, 0.0]
    losses = {
        e: EvalLoss(nats=bits * math.log(2) * 100, nats_se=0, tokens=50, bytes=100)
        for e, bits in {"a": 1.0, "b": 100.0, "target": 2.0}.items()
    }
    assert built.objective(losses) == pytest.approx(1.75)


@pytest.mark.parametrize(
    ("overrides", "field"),
    [
        ({"objective": {"weights": {"zz": 1}}}, "objective.weights"),
        ({"baseline": {"zz": 1.0}}, "baseline"),
        ({"warm_start": {"jobs": ["j"], "splits": {"old": {"zz": 1.0}}}}, "warm_start.splits"),
        ({"constraints": {"bounds": {"zz": {"max": 0.1}}}}, "constraints.bounds"),
    ],
)
def test_unknown_names_are_refused_with_their_field(overrides: dict[str, Any], field: str) -> None:
    with pytest.raises(SpecError) as caught:
        problem(**overrides)
    assert caught.value.details["field"] == field


def test_supply_below_the_target_is_refused_before_anything_runs() -> None:
    with pytest.raises(InfeasibleError, match="raise an upper bound or max_epochs"):
        problem(constraints={"target_tokens": 1_000_000})


def test_a_problem_survives_json() -> None:
    built = problem(objective={"weights": {"a": 2}})
    assert SearchProblem.model_validate_json(built.model_dump_json()) == built
