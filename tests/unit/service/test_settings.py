"""Settings: read from the environment, refused when they cannot be meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from service.settings import Settings

URL = "postgresql://user:6YHn2@host/cuvee"


def make(**fields: Any) -> Settings:
    return Settings(**({"database_url": URL} | fields))


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUVEE_DATABASE_URL", URL)
    monkeypatch.setenv("CUVEE_DATA_DIR", "/srv/cuvee")
    monkeypatch.setenv("CUVEE_PORT", "9000")
    settings = Settings()
    assert settings.port == 9000
    assert settings.corpora_dir == Path("/srv/cuvee/corpora")
    assert settings.runs_dir == Path("/srv/cuvee/runs")


def test_the_driver_is_ours_whatever_the_url_says() -> None:
    for scheme in ("postgresql", "postgres", "postgresql+psycopg"):
        made = make(database_url=f"{scheme}://user@host/cuvee")
        assert made.database_url == "postgresql+psycopg://user@host/cuvee"


@pytest.mark.parametrize("url", ["sqlite:///x.db", "host/cuvee", "mysql://host/cuvee"])
def test_another_database_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="postgresql://"):
        make(database_url=url)


@pytest.mark.parametrize("password", ["changeme", "postgres", "Secret"])
def test_production_refuses_placeholder_secrets(password: str) -> None:
    url = f"postgresql://cuvee:{password}@host/cuvee"
    with pytest.raises(ValidationError, match="placeholder"):
        make(database_url=url)
    with pytest.raises(ValidationError, match="broker_url is a placeholder"):
        make(broker_url=f"redis://:{password}@host/0")
    assert make(database_url=url, environment="development").environment == "development"


def test_a_lease_must_outlive_several_renewals() -> None:
    with pytest.raises(ValidationError, match="renew_seconds"):
        make(lease_seconds=30, renew_seconds=15)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        make().port = 1
