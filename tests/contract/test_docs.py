"""Documentation is checked: what it names exists, what exists is named."""

import re
from pathlib import Path

import pytest
import yaml

from cuvee.spec import CorpusSpec, JobSpec
from service.settings import Settings

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")])
TEXT = {page.relative_to(ROOT).as_posix(): page.read_text() for page in PAGES}


@pytest.mark.parametrize("name", sorted(TEXT))
def test_relative_links_lead_somewhere(name: str) -> None:
    targets = re.findall(r"\]\((?!https?://|#|mailto:)([^)#\s]+)", TEXT[name])
    missing = [t for t in targets if not ((ROOT / name).parent / t).exists()]
    assert missing == []


@pytest.mark.parametrize("name", sorted(TEXT))
def test_paths_named_in_code_marks_exist(name: str) -> None:
    tops = "cuvee|service|workers|migrations|tests|scripts|docs|benchmarks|examples"
    named = re.findall(rf"`((?:{tops})/[\w./-]+?)(?:::\w+)?`", TEXT[name])
    missing = [path for path in named if not (ROOT / path).exists()]
    assert missing == []


def test_every_setting_is_documented() -> None:
    operations = TEXT["docs/operations.md"]
    names = {f"CUVEE_{field.upper()}" for field in Settings.model_fields}
    assert {n for n in names if f"`{n}`" not in operations} == set()


def test_every_extra_is_explained_in_the_readme() -> None:
    section = (ROOT / "pyproject.toml").read_text().split("[project.optional-dependencies]")[1]
    extras = re.findall(r"^(\w+) = \[", section.split("\n[")[0], re.MULTILINE)
    assert {"engine", "proxy", "service", "dev", "all"} <= set(extras)
    assert [e for e in extras if f"`{e}`" not in TEXT["README.md"]] == []


def test_decisions_are_numbered_without_a_gap() -> None:
    numbers = [int(p.name[:4]) for p in sorted((ROOT / "docs" / "decisions").glob("*.md"))]
    assert numbers == list(range(1, len(numbers) + 1))


def test_the_package_names_what_a_newcomer_types() -> None:
    for command in ("scripts/demo", "scripts/test", "scripts/check"):
        assert command in TEXT["README.md"]
        assert (ROOT / command).stat().st_mode & 0o111, f"{command} is not executable"


def test_the_readme_s_yaml_is_accepted() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", TEXT["README.md"], re.DOTALL)
    corpus, job = (yaml.safe_load(block) for block in blocks)
    domains = {d.name for d in CorpusSpec.model_validate(corpus).domains}
    spec = JobSpec.model_validate(job)
    assert spec.corpus == corpus["name"]
    assert set(spec.objective.weights or {}) <= domains
    assert set(spec.baseline or {}) <= domains
