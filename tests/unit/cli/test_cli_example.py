"""The example of a job file: it is one, and it leaves out nothing that a search can be given."""

from __future__ import annotations

import re
from typing import get_args

import pytest

from cuvee.cli.example import EXAMPLE
from cuvee.cli.specs import load_job
from cuvee.spec import Constraints, Guardrail, JobSpec, Objective, StrategyName, WarmStart


def test_the_command_prints_it_without_needing_a_file(cuvee):
    result = cuvee("submit", "--example")
    assert (result.exit_code, result.stdout) == (0, EXAMPLE)


def test_it_is_a_valid_job(tmp_path):
    path = tmp_path / "job.yaml"
    path.write_text(EXAMPLE)
    job = load_job(path)
    assert job.constraints.max_active == 3
    assert job.warm_start is not None
    assert job.guardrails[0].eval_set == "poems"


@pytest.mark.parametrize("kind", ["worst_excess", "pareto"])
def test_the_other_kinds_of_objective_are_valid_where_they_are_uncommented(tmp_path, kind):
    others = re.findall(r"#or objective:\n(?:#or  .*\n)+", EXAMPLE)
    block = next(b for b in others if kind in b)
    without = re.sub(r"^objective:\n(?:  .*\n)+", "", EXAMPLE, flags=re.MULTILINE)
    path = tmp_path / "job.yaml"
    path.write_text(without + block.replace("#or ", ""))
    assert load_job(path).objective.kind == kind


@pytest.mark.parametrize("record", [JobSpec, Constraints, Guardrail, WarmStart, Objective])
def test_it_names_every_field(record):
    missing = [name for name in record.model_fields if not re.search(rf"\b{name}: ", EXAMPLE)]
    told_in_lines_below = [n for n in missing if re.search(rf"\b{n}:(?:\s+#.*)?\n", EXAMPLE)]
    assert set(missing) == set(told_in_lines_below)


def test_it_names_every_strategy():
    assert all(name in EXAMPLE for name in get_args(StrategyName))
