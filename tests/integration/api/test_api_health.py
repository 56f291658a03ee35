from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import httpx
import psycopg
import pytest

import cuvee
from cuvee.client import Client
from cuvee.errors import UnavailableError
from service.app import create_app
from service.settings import Settings


@pytest.fixture
def revision(database_url):
    """Pretend that the database was migrated to another revision."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        (real,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()

        def pretend(name: str | None) -> None:
            connection.execute("DELETE FROM alembic_version")
            if name is not None:
                connection.execute("INSERT INTO alembic_version VALUES (%s)", (name,))

        yield pretend
        pretend(real)


def test_a_whole_server_is_ready(client):
    assert client.live()
    readiness = client.ready()
    assert readiness.status == "ready"
    assert set(readiness.checks.values()) == {"ok"}


def test_the_version_is_the_packages(client):
    assert client.version().version == cuvee.__version__
    assert client.version().api == "v1"


def test_a_database_that_must_be_migrated_is_not_ready(client, revision):
    revision(None)
    with pytest.raises(UnavailableError, match="behind"):
        client.ready()
    assert client.live()


def test_a_database_ahead_of_the_server_is_ready_and_told(client, revision):
    revision("9999_of_tomorrow")
    readiness = client.ready()
    assert readiness.status == "degraded"
    assert readiness.checks["schema"].startswith("ahead")


def test_a_database_that_is_away_is_not_ready_and_tells_no_secret(broken_server):
    with Client(broken_server, retry_delays=()) as client:
        with pytest.raises(UnavailableError, match="database") as caught:
            client.ready()
        assert client.live()
    assert caught.value.details["checks"]["database"] == "does not answer"
    assert "the-secret" not in str(caught.value.details)


def test_a_broker_that_is_away_is_degraded_and_work_is_taken(settings, serve, corpus_spec):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        there = settings.model_dump() | {"broker_url": f"redis://127.0.0.1:{port}/0"}
        with serve(create_app(Settings(**there))) as url, Client(url) as client:
            assert client.ready().status == "degraded"
            assert "broker" in client.ready().checks
            assert client.register_corpus(corpus_spec("text")).state == "registered"
            assert client.get_corpus("text").name == "text"


def test_importing_the_application_does_nothing(monkeypatch, tmp_path: Path):
    """The factory is what reads settings; without any it says which one is missing."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"CUVEE_{name.upper()}", raising=False)
    with pytest.raises(ValueError, match="database_url"):
        create_app()


def test_requests_at_the_wrong_path_do_not_reach_the_docs_of_a_cdn(http):
    assert http.get("/redoc").status_code == 404
    document = http.get("/openapi.json").json()
    assert document["info"]["title"] == "Cuvée"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_handbooks_commands_work_in_order(settings, serve, tmp_path):
    text = (Path(__file__).parents[3] / "docs" / "api.md").read_text()
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 6
    anywhere = settings.model_dump() | {"data_roots": ("/data",)}
    with serve(create_app(Settings(**anywhere))) as url:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", "\n".join(blocks)],
            env={"PATH": os.environ["PATH"], "CUVEE_URL": url},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        job = httpx.get(f"{url}/v1/jobs/first-search").json()
    assert job["state"] == "cancelled"
    assert "event: job.accepted" in done.stdout
