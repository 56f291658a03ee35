"""The command as a process of its own: no traceback, no colours in a pipe, an end by Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from cuvee.cli.up import embedded_command
from tests.unit.cli.fake_server import FakeServer, a_job, a_report
from tests.unit.cli.interruptible import CUVEE

ENVIRONMENT = {**os.environ, "NO_COLOR": "1", "PYTHONWARNINGS": "error"}


@pytest.fixture
def address(server: FakeServer) -> Iterator[str]:
    """The fake server behind a real port of 127.0.0.1."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = server(httpx.Request("GET", f"http://test{self.path}"))
            self.send_response(answer.status_code)
            self.send_header("content-type", answer.headers.get("content-type", "text/html"))
            self.send_header("content-length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def start(*arguments: str, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CUVEE, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        **options,
    )


def test_a_pipe_gets_no_escape_codes(server, address):
    server.add_job(a_job())
    server.reports["job-1"] = a_report()
    output, errors = start("report", "job-1", "--url", address).communicate(timeout=30)
    assert "Better than the baseline by 0.2900" in output
    assert "\x1b" not in output
    assert errors == ""


def test_ctrl_c_leaves_the_job_running_and_says_so(server, address):
    server.add_job(a_job())
    process = start("watch", "job-1", "--url", address)
    assert "searching, 0/14 runs" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors.startswith("Stopped watching; the job goes on.")
    assert server.jobs["job-1"] == a_job()


def test_up_starts_the_embedded_stack_of_this_checkout(tmp_path):
    command = embedded_command(tmp_path, 8400, 3)
    help_text = subprocess.run(
        [*command, "--help"], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert "--outlive-parent" in help_text
    assert command[:3] == [sys.executable, "-m", "service.embedded"]


def test_up_without_the_servers_code_says_where_to_get_it(tmp_path):
    """As after installing the wheel: the library is there and the service is not."""
    program = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'service':\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "from cuvee.cli import main; main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, "up"],
        capture_output=True, text=True, cwd=tmp_path, timeout=60,
    )  # fmt: skip
    assert result.returncode == 1
    assert result.stderr.startswith("Error: the server is not part of the installed package")
    assert "Traceback" not in result.stderr
