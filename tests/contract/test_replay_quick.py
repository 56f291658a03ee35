"""The engine keeps its bars on real run tables: ``python -m benchmarks.replay --quick``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data" / "regmix"


@pytest.mark.e2e
@pytest.mark.timeout(1500)
@pytest.mark.skipif(
    not DATA.is_dir(),
    reason=f"RegMix's public run tables (eight CSV files) are not in {DATA}",
)
def test_the_quick_replay_holds_every_asserted_bar(tmp_path: Path) -> None:
    written = tmp_path / "replay.json"
    command = [sys.executable, "-m", "benchmarks.replay", "--data", str(DATA), "--quick"]
    done = subprocess.run(
        [*command, "--json", str(written), "--jobs", str(min(2, os.cpu_count() or 1))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout
    found = json.loads(written.read_text())
    assert len(found["bars"]) > 30
    assert all(bar["holds"] for bar in found["bars"])
