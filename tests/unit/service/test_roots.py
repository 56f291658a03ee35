from __future__ import annotations

import pytest

from cuvee.errors import SpecError
from cuvee.spec import CorpusSpec
from service.roots import check_paths
from service.settings import Settings


def spec_with(path: str, tokenizer: str | None = None) -> CorpusSpec:
    document = {
        "domains": [{"name": "a", "paths": [path]}, {"name": "b", "paths": [path]}],
        **({"tokenizer": {"kind": "file", "path": tokenizer}} if tokenizer else {}),
    }
    return CorpusSpec.model_validate(document)


@pytest.fixture
def settings(tmp_path):
    def make(*roots: str, environment: str = "production") -> Settings:
        return Settings(
            database_url="postgresql://cuvee:long-and-odd@localhost/cuvee",
            data_roots=roots,
            environment=environment,
        )

    return make


@pytest.fixture
def root(tmp_path):
    inside = tmp_path / "data"
    inside.mkdir()
    (inside / "a.txt").write_text("text")
    (tmp_path / "secret.txt").write_text("secret")
    (inside / "link.txt").symlink_to(tmp_path / "secret.txt")
    (inside / "out").symlink_to(tmp_path)
    return inside


@pytest.mark.parametrize("path", ["{}", "{}/a.txt", "{}/*.txt", "{}/**/*.jsonl", "file://{}/a.txt"])
def test_paths_inside_a_root_are_allowed(settings, root, path):
    check_paths(spec_with(path.format(root)), settings("/elsewhere", str(root)))


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/etc/passwd", "outside"),
        ("{}-not/a.txt", "outside"),
        ("/*/passwd", "outside"),
        ("{}/../secret.txt", r"contains '\.\.'"),
        ("{}/*/../../secret.txt", r"contains '\.\.'"),
        ("{}/link.txt", "outside"),
        ("{}/out/*.txt", "outside"),
        ("file:///etc/passwd", "outside"),
        ("data/a.txt", "relative"),
        ("s3://bucket/a.txt", "outside"),
        ("http://169.254.169.254/latest", "outside"),
        ("zip://a.txt::file://{}/a.zip", "chained"),
    ],
)
def test_paths_outside_the_roots_are_refused(settings, root, path, why):
    with pytest.raises(SpecError, match=why) as caught:
        check_paths(spec_with(path.format(root)), settings(str(root)))
    assert caught.value.details["pointer"] == "/domains/0/paths/0"


def test_a_tokenizer_is_read_from_the_roots_too(settings, root):
    with pytest.raises(SpecError, match="outside") as caught:
        check_paths(spec_with(f"{root}/a.txt", "/etc/tokenizer.json"), settings(str(root)))
    assert caught.value.details["pointer"] == "/tokenizer/path"


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("s3://bucket/text/a.jsonl", True),
        ("s3://bucket/text", True),
        ("s3://bucket/texts/a.jsonl", False),
        ("s3://bucket/text/../keys", False),
        ("gs://bucket/text/a.jsonl", False),
    ],
)
def test_urls_need_a_listed_prefix(settings, path, allowed):
    roots = settings("s3://bucket/text/")
    if allowed:
        check_paths(spec_with(path), roots)
    else:
        with pytest.raises(SpecError):
            check_paths(spec_with(path), roots)


def test_without_roots_production_reads_nothing(settings):
    with pytest.raises(SpecError, match="CUVEE_DATA_ROOTS"):
        check_paths(spec_with("/data/a.txt"), settings())


@pytest.mark.parametrize("environment", ["development", "embedded"])
def test_without_roots_ones_own_server_reads_anything(settings, environment):
    check_paths(spec_with("s3://bucket/a.txt"), settings(environment=environment))
