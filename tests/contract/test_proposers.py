"""Every strategy of the engine passes the one suite."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from cuvee.engine.strategies import STRATEGIES

_spec = importlib.util.spec_from_file_location(
    "proposer_suite", Path(__file__).with_name("proposer_suite.py")
)
assert _spec is not None
assert _spec.loader is not None
_suite = importlib.util.module_from_spec(_spec)
sys.modules["proposer_suite"] = _suite
_spec.loader.exec_module(_suite)


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
class TestEveryStrategy(_suite.ProposerSuite):
    pass
