"""What all tables share: the base class, column types, ids and the names of constraints."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, ClassVar

import uuid_utils
from sqlalchemy import (
    ARRAY,
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    Double,
    MetaData,
    Text,
    Uuid,
)
from sqlalchemy.orm import DeclarativeBase

__all__ = [
    "DEFAULT_TENANT",
    "Base",
    "Doubles",
    "Id",
    "Longs",
    "new_id",
    "one_of",
]

DEFAULT_TENANT = "00000000-0000-7000-8000-000000000001"
"""The tenant of a server without keys; the first migration inserts it."""

Id = Uuid(as_uuid=False)
Doubles = ARRAY(Double)
Longs = ARRAY(BigInteger)


def new_id() -> str:
    """A UUIDv7: unique, and sorted by the time it was made."""
    return str(uuid_utils.uuid7())


def one_of(column: str, values: Iterable[str]) -> CheckConstraint:
    """A check constraint that follows the table of states in the code."""
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: Text,
        int: BigInteger,
        float: Double,
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSON(none_as_null=True),
    }
