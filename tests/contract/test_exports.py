"""Exports are deliberate: `__all__` is sorted, complete and true."""

import importlib
import inspect
import pkgutil
from types import ModuleType

import pytest

import cuvee
from cuvee import errors


def modules_with_exports() -> list[ModuleType]:
    found = []
    for info in pkgutil.walk_packages(cuvee.__path__, "cuvee."):
        if not info.name.startswith("cuvee.cli"):
            module = importlib.import_module(info.name)
            if hasattr(module, "__all__"):
                found.append(module)
    return [cuvee, *found]


@pytest.mark.parametrize("module", modules_with_exports(), ids=lambda m: m.__name__)
def test_exports_exist_and_are_unique(module: ModuleType) -> None:
    assert len(set(module.__all__)) == len(module.__all__)
    missing = [name for name in module.__all__ if not hasattr(module, name)]
    assert missing == []


@pytest.mark.parametrize(
    "name", ["errors", "mixture", "spec", "feasible", "records", "states"], ids=str
)
def test_root_modules_export_all_that_they_define(name: str) -> None:
    module = importlib.import_module(f"cuvee.{name}")
    defined = {
        n
        for n, value in vars(module).items()
        if n.isidentifier()  # pydantic leaves generic classes with brackets in the namespace
        and not n.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
    }
    assert defined - set(module.__all__) == set()


def test_every_error_has_its_own_code_and_stands_in_the_drawn_tree() -> None:
    classes = [
        c for _, c in inspect.getmembers(errors, inspect.isclass) if c.__module__ == "cuvee.errors"
    ]
    assert all(issubclass(c, errors.CuveeError) for c in classes)
    assert len({c.code for c in classes}) == len(classes)
    assert set(errors.error_classes().values()) == set(classes)
    assert errors.__doc__ is not None
    assert [c.__name__ for c in classes if c.__name__ not in errors.__doc__] == []
