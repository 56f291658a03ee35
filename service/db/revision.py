"""Migrating, and comparing the database's revision with the code's."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

__all__ = ["RevisionStatus", "alembic_config", "revision_status", "upgrade"]

RevisionStatus = Literal["current", "behind", "ahead"]

_ROOT = Path(__file__).resolve().parents[2]


def alembic_config(database_url: str | None = None) -> Config:
    """Alembic's configuration; without a URL, ``Settings`` is asked."""
    config = Config(toml_file=_ROOT / "pyproject.toml")
    config.set_main_option("script_location", str(_ROOT / "migrations").replace("%", "%%"))
    if database_url is not None:
        config.attributes["database_url"] = database_url
    return config


def upgrade(database_url: str) -> None:
    """Bring a database to this code's revision; safe when several processes do it at once."""
    command.upgrade(alembic_config(database_url), "head")


def revision_status(connection: Connection) -> RevisionStatus:
    """Whether the database fits this code.

    ``behind``: migrate it. ``ahead``: it was migrated by a newer release, so update this process.
    """
    heads, known = _own_revisions()
    current = set(MigrationContext.configure(connection).get_current_heads())
    if current == heads:
        return "current"
    return "ahead" if current - known else "behind"


@cache
def _own_revisions() -> tuple[frozenset[str], frozenset[str]]:
    """Heads and all revisions of this code; they do not change while it runs."""
    scripts = ScriptDirectory.from_config(alembic_config())
    known = frozenset(script.revision for script in scripts.walk_revisions())
    return frozenset(scripts.get_heads()), known
