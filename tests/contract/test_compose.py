"""The production shape: a valid compose file that requires its secrets and matches the scripts."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SECRETS = {"POSTGRES_PASSWORD": "a", "REDIS_PASSWORD": "b", "CUVEE_TEXT_DIR": "/tmp"}

needs_compose = pytest.mark.skipif(
    shutil.which("docker-compose") is None,
    reason="docker-compose is not installed (Debian: apt-get install docker-compose)",
)


def config(environment: dict[str, str], env_file: Path) -> subprocess.CompletedProcess[str]:
    env_file.touch()
    clean = {k: v for k, v in os.environ.items() if k not in SECRETS}
    return subprocess.run(
        [
            "docker-compose",
            "--env-file",
            str(env_file),
            "-f",
            str(ROOT / "docker-compose.yml"),
            "config",
        ],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


@needs_compose
def test_compose_accepts_the_file(tmp_path: Path) -> None:
    done = config(SECRETS, tmp_path / "empty.env")
    assert done.returncode == 0, done.stderr
    services = yaml.safe_load(done.stdout)["services"]
    assert set(services) == {
        "postgres", "redis", "migrate", "api", "worker", "worker-cpu", "reconciler",
    }  # fmt: skip


@needs_compose
@pytest.mark.parametrize("missing", sorted(SECRETS))
def test_compose_refuses_a_missing_secret_by_name(missing: str, tmp_path: Path) -> None:
    others = {k: v for k, v in SECRETS.items() if k != missing}
    done = config(others, tmp_path / "empty.env")
    assert done.returncode != 0
    assert f"set {missing} in .env" in done.stderr


def test_every_lasting_service_has_a_health_check_and_restarts() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    for name, service in services.items():
        if name != "migrate":
            assert "healthcheck" in service, name
            assert service["restart"] == "unless-stopped", name


def test_the_example_environment_names_what_compose_requires() -> None:
    required = set(re.findall(r"\$\{(\w+):\?", (ROOT / "docker-compose.yml").read_text()))
    example = set(re.findall(r"^(\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert required == example == set(SECRETS)


def test_the_image_installs_as_the_scripts_do() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    setup = (ROOT / "scripts" / "setup").read_text()
    assert "-c constraints.txt -e" in setup
    installs = re.findall(r"pip install -c constraints.txt -e '\.\[([\w,]+)\]'", dockerfile)
    assert installs == ["service", "service,engine,proxy"], "api has no torch, worker has"
    assert "USER cuvee" in dockerfile
