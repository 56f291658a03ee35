"""What the commands print, and what they end with."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from cuvee.states import JobState, RunState
from tests.unit.cli.fake_server import (
    a_corpus,
    a_job,
    a_problem,
    a_report,
    a_run,
)

COMMANDS = [
    ("submit",), ("watch",), ("report",), ("list",), ("runs",), ("explain",), ("cancel",),
    ("pause",), ("resume",), ("corpus",), ("corpus", "add"), ("corpus", "list"), ("corpus", "show"),
    ("merge",), ("up",), ("version",),
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_shows_how_the_command_is_called(cuvee, command):
    result = cuvee(*command, "--help")
    assert result.exit_code == 0
    assert re.search(rf"^ +cuvee {' '.join(command)}", result.output, re.MULTILINE)
    assert "\x1b" not in result.output


def test_help_names_every_command_and_the_exit_codes(cuvee):
    output = cuvee("--help").output
    assert all(f"│ {command[0]} " in output for command in COMMANDS)
    assert "3 the job was cancelled" in " ".join(output.split())


def test_a_misspelt_command_gets_a_suggestion(cuvee):
    result = cuvee("wach", "job-1")
    assert result.exit_code == 2
    assert "watch" in result.stderr


def test_list_shows_progress_against_the_baseline(cuvee, server):
    server.add_job(a_job(name="nightly", progress={"runs_done": 3, "best": 2.1, "baseline": 2.345}))
    result = cuvee("list")
    assert result.exit_code == 0
    row = next(line for line in result.stdout.splitlines() if "job-1" in line)
    assert row.split()[:6] == ["job-1", "nightly", "running", "3/14", "2.100", "2.345"]


def test_list_reads_page_after_page_up_to_its_limit(cuvee, server):
    for number in range(450):
        server.add_job(a_job(id=f"job-{number}"))
    assert len(json.loads(cuvee("list", "--limit", "420", "--json").stdout)) == 420
    assert len(json.loads(cuvee("list", "--limit", "1000", "--json").stdout)) == 450


def test_list_says_when_there_are_more(cuvee, server):
    for number in range(3):
        server.add_job(a_job(id=f"job-{number}"))
    assert "more with --limit" in cuvee("list", "--limit", "2").stdout
    assert "more with --limit" not in cuvee("list", "--limit", "3").stdout


def test_list_filters_by_state(cuvee, server):
    server.add_job(a_job(id="job-1", state=JobState.PAUSED))
    server.add_job(a_job(id="job-2"))
    assert [j["id"] for j in json.loads(cuvee("list", "--state", "paused", "--json").stdout)] == [
        "job-1"
    ]
    assert "No job is failed" in cuvee("list", "--state", "failed").stdout


def test_an_empty_list_says_how_to_start(cuvee):
    assert "cuvee submit" in cuvee("list").stdout


def test_runs_show_the_largest_shares_and_why_a_run_failed(cuvee, server):
    server.add_job(a_job())
    failed = a_run(
        id="run-2", state=RunState.FAILED, objective=None, error=a_problem("out of memory")
    )
    server.runs["job-1"] = [a_run(), failed]
    result = cuvee("runs", "job-1")
    assert "code 75%, plays 25%" in result.stdout
    assert "Run run-2 failed: out of memory" in result.stdout
    listed = json.loads(cuvee("runs", "job-1", "--state", "failed", "--json").stdout)
    assert [run["id"] for run in listed] == ["run-2"]


@pytest.mark.parametrize(
    ("command", "state"), [("cancel", "cancelling"), ("pause", "pausing"), ("resume", "running")]
)
def test_a_job_is_steered_by_its_name(cuvee, server, command, state):
    server.add_job(a_job(name="nightly"))
    result = cuvee(command, "nightly")
    assert (result.exit_code, result.stdout) == (0, f"Job job-1 is {state}.\n")
    assert server.jobs["job-1"].state == state


def test_what_the_server_refuses_is_told_without_a_traceback(cuvee, server):
    server.add_job(a_job(state=JobState.SUCCEEDED))
    result = cuvee("cancel", "job-1")
    assert result.exit_code == 1
    assert result.stderr == "Error: job job-1 is succeeded: it has ended\n"


def test_an_unknown_job_is_an_error(cuvee):
    result = cuvee("report", "nowhere")
    assert result.exit_code == 1
    assert "there is no job 'nowhere'" in result.stderr


def test_a_server_that_is_not_there_has_its_own_exit_code(cuvee, server):
    server.down = 1
    result = cuvee("list")
    assert result.exit_code == 4
    assert "cuvee up" in result.stderr


def test_the_address_is_taken_from_the_command_then_the_front_then_the_environment(
    cuvee, server, monkeypatch
):
    monkeypatch.setenv("CUVEE_URL", "http://environment")
    cuvee("list")
    cuvee("--url", "http://front", "list")
    cuvee("--url", "http://front", "list", "--url", "http://command")
    assert [url.split("/v1")[0] for url in server.urls] == [
        "http://environment",
        "http://front",
        "http://command",
    ]


def test_version_tells_both_sides_and_bears_a_missing_server(cuvee, server):
    assert "server  0.1.0" in cuvee("version").stdout
    server.down = 1
    result = cuvee("version")
    assert result.exit_code == 0
    assert "server  none" in result.stdout


def test_report_of_a_running_job_is_not_there_yet(cuvee, server):
    server.add_job(a_job())
    result = cuvee("report", "job-1")
    assert result.exit_code == 1
    assert "not ready yet" in result.stderr


def test_report_is_saved_as_json_and_as_a_page(cuvee, server, tmp_path: Path):
    server.add_job(a_job(state=JobState.SUCCEEDED))
    server.reports["job-1"] = a_report()
    result = cuvee(
        "report", "job-1", "--output", tmp_path / "out", "--html", tmp_path / "a" / "b.html"
    )
    assert result.exit_code == 0
    saved = json.loads((tmp_path / "out" / "report.json").read_text())
    assert saved["recommended"] == {"plays": 0.7, "code": 0.3}
    assert (tmp_path / "out" / "report.html").read_text() == "<html>Train on 70% plays.</html>"
    assert (tmp_path / "a" / "b.html").exists()
    assert f"Saved {tmp_path / 'out' / 'report.json'}" in result.stdout


def test_report_as_json_is_nothing_but_json(cuvee, server):
    server.add_job(a_job(state=JobState.SUCCEEDED))
    server.reports["job-1"] = a_report()
    assert json.loads(cuvee("report", "job-1", "--json").stdout)["job_id"] == "job-1"


def test_a_file_that_cannot_be_written_is_an_error_with_its_name(cuvee, server, tmp_path: Path):
    server.add_job(a_job(state=JobState.SUCCEEDED))
    server.reports["job-1"] = a_report()
    (tmp_path / "file").write_text("in the way")
    result = cuvee("report", "job-1", "--output", tmp_path / "file" / "out")
    assert result.exit_code == 1
    assert str(tmp_path / "file") in result.stderr
    assert "Traceback" not in result.stderr


def test_corpus_show_counts_every_domain(cuvee, server):
    server.add_corpus(a_corpus())
    output = cuvee("corpus", "show", "books").stdout
    assert "Corpus books is ready." in output
    assert next(line for line in output.splitlines() if line.startswith("plays")).split() == [
        "plays", "25.0%", "40", "1,000,000", "250,000", "6,250", "10,000", "0",
    ]  # fmt: skip


def test_corpus_list_counts_tokens(cuvee, server):
    assert "cuvee corpus add" in cuvee("corpus", "list").stdout
    server.add_corpus(a_corpus())
    assert "1,000,000" in cuvee("corpus", "list").stdout
