"""The demo's parts that need no server: its files, its verdict, how it ends a child."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cuvee.answer import GuardrailReport, Interval
from cuvee.cli.specs import load_corpus, load_job
from cuvee.errors import UnavailableError
from examples.demo import run, stack
from examples.demo.sources import DOMAINS
from examples.demo.verdict import beats, verdict_lines
from tests.unit.cli.fake_server import a_report, an_interval


def test_the_demos_files_fit_the_text_that_it_fetches(tmp_path: Path):
    corpus = load_corpus(run.HERE / "corpus.yaml", base=tmp_path)
    assert [d.paths for d in corpus.domains] == [(str(tmp_path / f"{n}.jsonl"),) for n in DOMAINS]
    job = load_job(run.HERE / "job.yaml")
    assert job.corpus == corpus.name
    assert set(job.objective.weights) <= set(DOMAINS)
    assert {"baseline", "uniform"} <= set(job.verification.references)
    assert job.guardrails, "so that the report shows the chance of one"
    assert {g.eval_set for g in job.guardrails} <= set(DOMAINS)


def test_another_recipe_is_another_corpus(tmp_path: Path):
    spec = load_corpus(run.HERE / "corpus.yaml", base=tmp_path)
    other = spec.model_copy(update={"holdout": spec.holdout.model_copy(update={"share": 0.1})})
    assert run.named(spec) == run.named(spec)
    assert run.named(spec).name != run.named(other).name


def test_the_verdict_counts_the_gain_in_deviations_between_seeds():
    pairs = ((1, 2.40, 2.10), (2, 2.42, 2.12), (3, 2.44, 2.14))
    measured = (
        a_report()
        .verification[0]
        .model_copy(update={"pairs": pairs, "difference": an_interval(0.3)})
    )
    lines = list(verdict_lines(a_report(verification=(measured,))))
    assert lines == [
        "Gain in standard deviations between seeds: 15.0 over the baseline.",
        "1 of 1 measured losses lie inside their 90% predicted intervals.",
        "Verification: the recommendation beat the baseline.",
    ]


def test_the_verdict_names_what_was_not_beaten():
    unsure = (
        a_report()
        .verification[0]
        .model_copy(
            update={
                "reference": "uniform",
                "chance": 0.6,
                "difference": Interval(mean=0.1, low=-0.2, high=0.4),
                "pairs": ((1, 2.1, 2.0),),
            }
        )
    )
    lines = list(verdict_lines(a_report(verification=(*a_report().verification, unsure))))
    assert lines[-1] == (
        "Verification did not show that the recommendation beats the uniform mixture."
    )


def test_the_verdict_names_a_broken_guardrail():
    broken = GuardrailReport(
        eval_set="code", max_increase=0.01, increase=an_interval(0.02), chance=0.3, holds=False
    )
    held = broken.model_copy(update={"eval_set": "plays", "holds": True})
    lines = list(verdict_lines(a_report(guardrails=(broken, held))))
    assert "Guardrails that do not hold: code." in lines


@pytest.mark.parametrize(
    ("mean", "low", "beaten"), [(0.1, 0.02, True), (0.1, -0.01, False), (-0.1, -0.2, False)]
)
def test_beating_needs_the_whole_interval_above_zero(mean, low, beaten):
    value = Interval(mean=mean, low=low, high=2 * mean - low)
    assert beats(a_report().verification[0].model_copy(update={"difference": value})) is beaten


def test_a_job_without_verification_says_so():
    assert list(verdict_lines(a_report(verification=()))) == ["The job verified nothing."]


def test_a_taken_port_is_replaced_by_any():
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = holder.getsockname()[1]
        assert stack.free_port(taken) == 0
    assert stack.free_port(taken) == taken


def test_a_stack_that_cannot_start_is_an_error_with_its_log(tmp_path: Path):
    (tmp_path / "postgres").write_text("a file where the database's folder should be")
    with (
        pytest.raises(UnavailableError, match=r"did not start; the end of .*stack\.log"),
        stack.running_stack(tmp_path, 0, keep=False),
    ):
        pass
    assert not (tmp_path / "stack.lock").exists()


def test_an_address_of_a_stack_that_is_gone_is_not_used(tmp_path: Path):
    (tmp_path / "stack.json").write_text('{"url": "http://127.0.0.1:9", "pid": 1}')
    assert stack._answering(tmp_path) is None
    (tmp_path / "stack.json").write_text("{")
    assert stack._answering(tmp_path) is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_only_the_first_signal_interrupts(number):
    program = (
        "import os, signal, sys\n"
        "from examples.demo.stack import handle_signals\n"
        "handle_signals()\n"
        "try:\n"
        f"    os.kill(os.getpid(), {int(number)})\n"
        "except KeyboardInterrupt:\n"
        f"    os.kill(os.getpid(), {int(number)})\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('cleaned up')\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )  # fmt: skip
    assert (result.returncode, result.stdout, result.stderr) == (0, "cleaned up\n", "")


@pytest.mark.parametrize("arguments", [["--seed", "-1"], ["--port", "70000"], ["--seed", "x"]])
def test_a_wrong_option_is_told_before_anything_starts(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        run._arguments(arguments)
    assert ended.value.code == 2
    assert arguments[0] in capsys.readouterr().err
