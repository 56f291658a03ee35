"""The same loop on servers that the distribution installed, given by URL."""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from cuvee.client import Client
from cuvee.spec import CorpusSpec, JobSpec
from cuvee.states import JobState, RunState
from service.embedded.members import Member, Program

pytestmark = [pytest.mark.system, pytest.mark.e2e]

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "not-a-placeholder"


def find(name, *folders):
    """A server's program, or a skip that says what is missing."""
    found = [shutil.which(name), *(str(p) for f in folders for p in sorted(Path("/").glob(f)))]
    for path in found:
        if path and Path(path).exists():
            return path
    pytest.skip(f"{name} is not installed")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(condition, seconds=60.0, what="did not happen in time"):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


class Servers:
    """Processes started for a test, ended in reverse order."""

    def __init__(self, folder):
        self.folder = folder
        self.members = []

    def start(self, name, *argv, **options):
        options.setdefault("env", dict(os.environ))
        log = self.folder / f"{name}.log"
        member = Member(name, lambda: Program(argv=argv, cwd=ROOT, log=log, **options))
        member.start()
        self.members.append(member)
        return member

    def end(self):
        for member in reversed(self.members):
            member.ask_to_stop()
            member.end(10)


@pytest.fixture
def servers(tmp_path):
    servers = Servers(tmp_path)
    yield servers
    servers.end()


@pytest.fixture
def database_url(servers):
    # Through its link: initdb lies beside the real one.
    postgres = str(Path(find("postgres", "usr/lib/postgresql/*/bin/postgres")).resolve())
    user = "postgres" if os.geteuid() == 0 else None
    home = Path(f"/tmp/cuvee-system-{os.getpid()}")
    home.mkdir(mode=0o700)
    try:
        if user:
            shutil.chown(home, user, user)
        initdb = servers.start(
            "initdb", str(Path(postgres).with_name("initdb")), "-D", str(home / "data"),
            "-U", "cuvee", "--auth=trust", "-E", "UTF8", user=user,
        )  # fmt: skip
        assert initdb.process.wait(60) == 0, initdb.current.tail()
        port = free_port()
        server = servers.start(
            "postgres", postgres, "-D", str(home / "data"), "-p", str(port),
            "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={home}",
            "-c", "fsync=off", user=user, stop_signal=signal.SIGINT, death_signal=signal.SIGINT,
        )  # fmt: skip
        state = home / "data" / "postmaster.pid"
        wait_until(lambda: state.exists() and state.read_text().rstrip().endswith("ready"))
        yield f"postgresql://cuvee:{PASSWORD}@127.0.0.1:{port}/postgres"
        servers.end()
        assert server.process is None
    finally:
        shutil.rmtree(home)


@pytest.fixture
def broker_url(servers):
    redis = find("redis-server", "usr/bin/redis-server")
    port = free_port()
    servers.start(
        "redis", redis, "--port", str(port), "--bind", "127.0.0.1", "--requirepass", PASSWORD,
        "--save", "", "--dir", str(servers.folder),
    )  # fmt: skip

    def listens():
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    wait_until(listens)
    return f"redis://:{PASSWORD}@127.0.0.1:{port}/0"


def corpus_spec(folder):
    draw = random.Random(5)
    for name, words in (("fruit", "apple pear plum cherry"), ("tools", "hammer saw drill vice")):
        (folder / name).mkdir(parents=True)
        for number in range(100):
            lines = [" ".join(draw.choices(words.split(), k=8)) + "." for _ in range(15)]
            (folder / name / f"{number}.txt").write_text("\n".join(lines))
    domains = [{"name": name, "paths": [str(folder / name)]} for name in ("fruit", "tools")]
    return CorpusSpec.model_validate(
        {
            "domains": domains,
            "tokenizer": {"kind": "bytes"},
            "holdout": {"share": 0.1, "min_bytes": 1000},
        }
    )


def test_a_job_runs_on_ordinary_servers_in_production_mode(
    servers, database_url, broker_url, tmp_path
):
    port = free_port()
    environment = {
        **os.environ,
        "CUVEE_DATABASE_URL": database_url,
        "CUVEE_BROKER_URL": broker_url,
        "CUVEE_DATA_DIR": str(tmp_path / "data"),
        "CUVEE_ENVIRONMENT": "production",
        "CUVEE_DATA_ROOTS": json.dumps([str(tmp_path)]),
        "CUVEE_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
    python = (sys.executable, "-m")
    subprocess.run([*python, "alembic", "upgrade", "head"], cwd=ROOT, env=environment, check=True)
    servers.start(
        "api", *python, "uvicorn", "--factory", "service.app:create_app", "--port", str(port),
        env=environment,
    )  # fmt: skip
    servers.start(
        "worker", *python, "celery", "-A", "workers.app", "worker", "-Q", "cpu,train",
        env=environment,
    )  # fmt: skip
    servers.start("reconciler", *python, "workers.reconciler", env=environment)
    url = f"http://127.0.0.1:{port}"

    def ready():
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    wait_until(ready)
    with Client(url) as client:
        corpus = client.register_corpus(corpus_spec(tmp_path / "text"))
        job = client.submit(
            JobSpec.model_validate(
                {
                    "corpus": corpus.id,
                    "rungs": [
                        {"kind": "ngram", "runs": 4, "train_bytes": 5000, "eval_bytes": 1000},
                        {
                            "kind": "proxy",
                            "runs": 4,
                            "parameters": 20_000,
                            "tokens": 4096,
                            "sequence_length": 32,
                            "batch_sequences": 8,
                            "eval_tokens": 500,
                        },
                    ],
                    "verification": {"seeds": 0},
                }
            )
        )
        ended = [event.type for event in client.events(job.id)][-1]
        job = client.get_job(job.id)
        assert (ended, job.state) == ("job.succeeded", JobState.SUCCEEDED), job.error
        assert {run.state for run in client.runs(job.id)} == {RunState.SUCCEEDED}
        assert client.report(job.id).corpus_digest == client.get_corpus(corpus.id).manifest.digest
