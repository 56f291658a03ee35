"""The embedded stack starts, excludes a second one, and leaves nothing behind however it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

from cuvee.errors import ConflictError
from service.embedded import EmbeddedStack

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]


def _heed_interrupts() -> None:
    """A test run in the background of a shell ignores SIGINT, and its children would too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(folder, *options):
    command = [sys.executable, "-m", "service.embedded", "--data-dir", str(folder)]
    command += ["--port", "0", "--train-workers", "1", *options]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=_heed_interrupts,
    )


def wait_until(condition, seconds=60.0, what="did not happen in time"):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def ready(folder):
    return (folder / "stack.json").exists()


def survivors(folder):
    """Processes that belong to the stack in this folder, by command line or environment."""
    found = []
    for process in psutil.process_iter():
        try:
            about = " ".join((*process.cmdline(), process.environ().get("CUVEE_DATA_DIR", "")))
            if str(folder) in about and process.status() != psutil.STATUS_ZOMBIE:
                found.append(about)
        except psutil.Error:
            continue
    return found


def assert_nothing_left(folder):
    wait_until(lambda: not survivors(folder), 15, f"still running: {survivors(folder)}")
    left = {p.name for p in folder.iterdir()} if folder.exists() else set()
    assert left <= {"postgres", "postgres.partial", "logs", "corpora", "runs"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One data folder for all tests here: only the first start has to create the database."""
    return tmp_path_factory.mktemp("embedded")


@pytest.mark.parametrize("delay", [0.15, 0.6, 1.2, 2.0, 3.5])
def test_an_interrupt_at_any_moment_of_the_start_leaves_nothing(folder, delay):
    with start(folder) as process:
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) in (0, -signal.SIGINT)
    assert_nothing_left(folder)


def test_a_second_stack_on_the_same_folder_is_refused_and_told_who_runs(folder):
    with EmbeddedStack(folder, train_workers=1) as stack:
        with urllib.request.urlopen(f"{stack.url}/healthz") as answer:
            assert answer.status == 200
        assert json.loads((folder / "stack.json").read_text())["url"] == stack.url
        with pytest.raises(ConflictError, match=rf"pid {os.getpid()}, {stack.url}"):
            EmbeddedStack(folder).start()
        assert stack.running
    assert_nothing_left(folder)


def test_a_taken_port_is_refused_before_anything_starts(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        stack = EmbeddedStack(tmp_path, port=other.getsockname()[1])
        with pytest.raises(ConflictError, match="--port"):
            stack.start()
    assert_nothing_left(tmp_path)


def test_a_dead_member_is_started_again_at_the_same_address(folder):
    with EmbeddedStack(folder, train_workers=1) as stack:
        before = stack.pids
        for name in ("api", "valkey", "postgres"):
            os.kill(before[name], signal.SIGKILL)
        wait_until(lambda: all(stack.pids[n] != before[n] for n in ("api", "valkey", "postgres")))

        def answers():
            try:
                with urllib.request.urlopen(f"{stack.url}/readyz", timeout=5) as answer:
                    return json.load(answer)["status"] == "ready"
            except OSError:
                return False

        wait_until(answers)
    assert_nothing_left(folder)


def test_the_death_of_the_parent_ends_the_stack(folder):
    code = (
        "import subprocess, sys, time;"
        f"subprocess.Popen({[sys.executable, '-m', 'service.embedded', '--port', '0']!r}"
        f"+ ['--train-workers', '1', '--data-dir', {str(folder)!r}], cwd={str(ROOT)!r});"
        "time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as parent:
        wait_until(lambda: ready(folder))
        parent.kill()
    assert_nothing_left(folder)


def test_a_killed_stack_takes_its_members_with_it_and_can_be_started_again(folder):
    with start(folder) as process:
        wait_until(lambda: ready(folder))
        process.kill()
    wait_until(lambda: not survivors(folder), 15, f"still running: {survivors(folder)}")
    assert ready(folder)  # nobody was left to remove it
    with EmbeddedStack(folder, train_workers=1) as stack:
        assert json.loads((folder / "stack.json").read_text())["url"] == stack.url
    assert_nothing_left(folder)
