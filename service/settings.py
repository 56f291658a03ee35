"""One typed settings object, read from ``CUVEE_*`` environment variables.

Every process (API, worker, reconciler, migration) reads the same object, so two processes that
disagree about a setting is a deployment error and not a bug to look for in the code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["Settings"]

_PLACEHOLDERS = frozenset(
    {"changeme", "change-me", "cuvee", "password", "postgres", "redis", "secret", "example"}
)
_MISSED_RENEWALS = 4
"""A lease outlives this many renewals: a busy host must not lose work to one late renewal."""


class Settings(BaseSettings):
    """Configuration of the service and its workers.

    Raises:
        pydantic.ValidationError: A setting is missing, malformed or a placeholder.
    """

    model_config = SettingsConfigDict(env_prefix="CUVEE_", frozen=True, extra="ignore")

    database_url: str = Field(description="PostgreSQL, e.g. postgresql://user:secret@host/cuvee.")
    broker_url: str | None = Field(
        None, description="Redis or Valkey. Without one, workers find work by polling the database."
    )
    data_dir: Path = Field(
        Path("cuvee-data"), description="Prepared corpora and checkpoints; shared by all workers."
    )
    data_roots: tuple[str, ...] = Field(
        (),
        description="JSON list of folders and URL prefixes that corpora may read from. Empty: none "
        "in production, any elsewhere.",
    )
    host: str = Field("127.0.0.1", description="Address that the API listens on.")
    port: int = Field(8321, ge=0, le=65535, description="Port that the API listens on.")
    environment: Literal["production", "development", "embedded"] = Field(
        "production", description="Production refuses placeholder secrets."
    )
    lease_seconds: float = Field(
        60, gt=0, description="A worker that is silent for this long has lost its run."
    )
    renew_seconds: float = Field(15, gt=0, description="How often a worker renews its lease.")
    sweep_seconds: float = Field(5, gt=0, description="How often the reconciler looks for work.")
    max_attempts: int = Field(
        3, ge=1, le=100, description="Attempts of a run that is lost to machine trouble."
    )
    device: str = Field("auto", description="Where proxies train: auto, cpu, cuda, cuda:0 ...")
    threads: int | None = Field(None, ge=1, description="Threads of a training process.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Least severe level that is logged."
    )
    log_format: Literal["json", "console"] = Field(
        "json", description="One JSON object per line, or lines for people."
    )

    @field_validator("database_url")
    @classmethod
    def _postgres(cls, url: str) -> str:
        scheme, separator, rest = url.partition("://")
        if not separator or scheme not in {"postgresql", "postgres", "postgresql+psycopg"}:
            raise ValueError(
                "CUVEE_DATABASE_URL must start with postgresql:// (it is the one database that "
                f"Cuvée speaks), got scheme {scheme!r}"
            )
        return f"postgresql+psycopg://{rest}"

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        if self.lease_seconds < _MISSED_RENEWALS * self.renew_seconds:
            raise ValueError(
                f"lease_seconds ({self.lease_seconds:g}) must be at least {_MISSED_RENEWALS} x "
                f"renew_seconds ({self.renew_seconds:g}), or a busy host loses its runs"
            )
        if self.environment == "production":
            for name, url in (("database_url", self.database_url), ("broker_url", self.broker_url)):
                password = urlsplit(url).password if url else None
                if password is not None and password.lower() in _PLACEHOLDERS:
                    raise ValueError(
                        f"the password in {name} is a placeholder: set a real one, or "
                        "CUVEE_ENVIRONMENT=development on a machine that nobody else reaches"
                    )
        return self

    @property
    def readable_roots(self) -> tuple[str, ...] | None:
        """Roots that corpora may be read from; None when everything may be."""
        return self.data_roots if self.data_roots or self.environment == "production" else None

    @property
    def corpora_dir(self) -> Path:
        """Prepared corpora, one folder per digest."""
        return self.data_dir / "corpora"

    @property
    def runs_dir(self) -> Path:
        """Checkpoints, one folder per run."""
        return self.data_dir / "runs"
