"""Why a run was made, from the command line."""

from __future__ import annotations

import json

from cuvee.records import Explanation
from tests.unit.cli.fake_server import a_job, a_run

WHY = Explanation(
    method="improvement",
    predicted_gain=0.0124,
    expected_improvement=0.0061,
    uncertainty=0.0098,
    correlation=0.87,
    cost=0.046,
    alternatives={"ngram (rung 0)": 0.1326, "proxy (rung 1)": 0.0088},
)


def explained(server, **changes):
    server.add_job(a_job())
    run = a_run(label=None, reason="the best value at this rung", **{"explanation": WHY, **changes})
    server.runs["job-1"] = [run]


def test_a_run_is_explained_with_gain_uncertainty_cost_and_alternatives(cuvee, server):
    explained(server)
    result = cuvee("explain", "run-1")
    assert result.exit_code == 0
    said = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert said["What"].rstrip() == "search at rung 0 (ngram), succeeded"
    assert said["Why"].rstrip() == "the best value at this rung"
    assert said["Chosen"].rstrip() == "promised the most improvement for its cost"
    assert said["Gain"].startswith("+0.0124 bits per byte ±0.0098 (standard error)")
    assert said["Improvement"].startswith("0.0061")
    assert said["Correlation"].startswith("0.87")
    assert said["Cost"].rstrip() == "4.6% of a run at the target"
    assert (
        said["Instead"].rstrip().endswith("ngram (rung 0) 0.133, this run, proxy (rung 1) 0.0088")
    )


def test_what_is_not_known_is_left_out(cuvee, server):
    explained(server, explanation=Explanation(method="design", cost=1.0), objective=None)
    output = cuvee("explain", "run-1").stdout
    assert "part of the design" in output
    for word in ("Gain", "Improvement", "Instead", "Measured", "Correlation"):
        assert word not in output


def test_a_strategy_without_a_posterior_says_so(cuvee, server):
    explained(server, explanation=Explanation(method="regmix", cost=1.0))
    assert "not predicted: regmix has no posterior" in cuvee("explain", "run-1").stdout
    assert "gain not predicted" in cuvee("runs", "job-1", "--explain").stdout
    explained(server, explanation=WHY.model_copy(update={"method": "olmix"}))
    assert "posterior" not in cuvee("explain", "run-1").stdout


def test_a_method_without_words_is_told_by_its_name(cuvee, server):
    explained(server, explanation=WHY.model_copy(update={"method": "thompson"}))
    assert "thompson" in cuvee("explain", "run-1").stdout


def test_a_run_of_an_older_server_has_its_reason_only(cuvee, server):
    explained(server, explanation=None)
    output = cuvee("explain", "run-1").stdout
    assert "the best value at this rung" in output
    assert "Cost" not in output
    explained(server, explanation=None)
    server.runs["job-1"] = [a_run(explanation=None)]
    assert "no explanation was stored" in cuvee("explain", "run-1").stdout


def test_an_explained_run_as_json_is_the_run(cuvee, server):
    explained(server)
    found = json.loads(cuvee("explain", "run-1", "--json").stdout)
    assert found["explanation"]["alternatives"] == WHY.alternatives


def test_a_run_that_is_not_there_is_an_error(cuvee):
    result = cuvee("explain", "nowhere")
    assert result.exit_code == 1
    assert "there is no run 'nowhere'" in result.stderr


def test_runs_are_explained_in_a_line_each_when_asked(cuvee, server):
    explained(server)
    assert "promised" not in cuvee("runs", "job-1").stdout
    assert (
        "Run run-1: improvement: gain +0.0124 ±0.0098, 4.6% of a target run's cost "
        "(the best value at this rung)" in cuvee("runs", "job-1", "--explain").stdout
    )
