from __future__ import annotations

import pytest

from cuvee.errors import CuveeError, error_classes
from service.errors import _TITLES, STATUS, status_of

CLASSES = sorted(error_classes().values(), key=lambda cls: cls.code)


def every_class(cls: type[CuveeError] = CuveeError) -> list[type[CuveeError]]:
    return [cls] + [c for child in cls.__subclasses__() for c in every_class(child)]


def test_every_error_has_a_code_of_its_own():
    assert len({cls.code for cls in every_class()}) == len(set(every_class()))


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.code)
def test_every_error_is_in_the_table_itself(cls):
    assert cls in STATUS
    assert cls in _TITLES
    assert status_of(cls("said")) == STATUS[cls]


def test_the_table_has_no_error_that_is_gone():
    assert set(STATUS) == set(CLASSES)


def test_what_a_user_can_put_right_is_never_a_server_error():
    for cls in CLASSES:
        if issubclass(cls, ValueError | LookupError):
            assert 400 <= STATUS[cls] < 500
