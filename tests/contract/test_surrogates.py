"""Every surrogate of the registry passes the one suite."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from cuvee.engine.surrogates.registry import SURROGATES

_spec = importlib.util.spec_from_file_location(
    "surrogate_suite", Path(__file__).with_name("surrogate_suite.py")
)
assert _spec is not None
assert _spec.loader is not None
_suite = importlib.util.module_from_spec(_spec)
sys.modules["surrogate_suite"] = _suite
_spec.loader.exec_module(_suite)


@pytest.mark.parametrize("surrogate", sorted(SURROGATES))
class TestEverySurrogate(_suite.SurrogateSuite):
    pass
