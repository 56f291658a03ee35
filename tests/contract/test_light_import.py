"""The base install is light, and each process loads only what it may.

Import contracts are static and do not look inside other packages; a fresh interpreter does.
"""

import json
import os
import subprocess
import sys

import pytest

HEAVY = {"torch", "numpy", "scipy", "sqlalchemy", "fastapi", "celery", "transformers", "pyarrow"}

NOWHERE = {
    "CUVEE_DATABASE_URL": "postgresql://127.0.0.1/nowhere",
    "CUVEE_BROKER_URL": "redis://127.0.0.1:1/0",
}


def loaded_by(module: str) -> set[str]:
    program = (
        f"import json, sys, importlib; importlib.import_module({module!r}); "
        "print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env={**os.environ, **NOWHERE},
    )
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("module", ["cuvee", "cuvee.client", "cuvee.cli"])
def test_the_base_install_loads_nothing_heavy(module: str) -> None:
    assert loaded_by(module) & HEAVY == set()


def test_the_root_does_not_load_the_http_client() -> None:
    assert "httpx" not in loaded_by("cuvee")


def test_the_api_process_loads_neither_torch_nor_the_numerics() -> None:
    modules = loaded_by("service.app")
    assert "fastapi" in modules, "the probe does not see what is loaded"
    assert modules & {"torch", "transformers", "botorch", "gpytorch", "scipy", "numpy"} == set()


def test_the_ngram_rung_needs_no_torch() -> None:
    modules = loaded_by("cuvee.proxy.ngram")
    assert "numpy" in modules
    assert "torch" not in modules


def test_the_celery_parent_does_not_load_torch() -> None:
    modules = loaded_by("workers.app")
    assert "celery" in modules
    assert "torch" not in modules
