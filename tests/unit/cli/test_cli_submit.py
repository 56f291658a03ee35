"""Files of specifications: what is sent, and how mistakes in them are told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cuvee.cli.specs import load_corpus
from cuvee.states import CorpusState, JobState
from tests.unit.cli.fake_server import a_corpus, a_job, a_problem

JOB = """\
corpus: books
rungs:
  - kind: ngram
    runs: 8
"""
CORPUS = """\
name: mine
domains:
  - name: plays
    paths: [plays, "~/more", "s3://bucket/plays", /srv/plays]
  - {name: code, paths: ["code/*.py"]}
tokenizer: {kind: file, path: tokenizer.json}
"""


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str, name: str = "job.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_a_job_is_submitted_with_overrides(cuvee, server, write):
    server.add_corpus(a_corpus())
    result = cuvee("submit", write(JOB), "--set", "seed=7", "--set", "rungs.0.runs=12", "--set",
                   "objective.weights.plays=2")  # fmt: skip
    assert result.exit_code == 0
    assert "Submitted job job-1." in result.stdout
    spec = server.jobs["job-1"].spec
    assert (spec.seed, spec.rungs[0].runs, spec.objective.weights) == (7, 12, {"plays": 2.0})


def test_json_is_read_and_written(cuvee, server, write):
    server.add_corpus(a_corpus())
    path = write(json.dumps({"corpus": "books", "rungs": [{"kind": "ngram"}]}), "job.json")
    assert json.loads(cuvee("submit", path, "--json").stdout)["id"] == "job-1"


def test_a_corpus_is_registered_with_the_job(cuvee, server, write):
    job, corpus = write("rungs: [{kind: ngram}]"), write(CORPUS, "corpus.yaml")
    result = cuvee("submit", job, "--corpus", corpus)
    assert result.exit_code == 0, result.output
    assert server.jobs["job-1"].spec.corpus == "corpus-1"


def test_the_same_corpus_is_used_again_and_that_is_said(cuvee, server, write):
    job, corpus = write("rungs: [{kind: ngram}]"), write(CORPUS, "corpus.yaml")
    first, second = (cuvee("submit", job, "--corpus", corpus) for _ in range(2))
    assert "registered already" not in first.stderr
    assert "Corpus mine is registered already" in second.stderr
    assert server.jobs["job-2"].spec.corpus == "corpus-1"


def test_a_name_that_belongs_to_another_corpus_or_a_failed_one_is_refused(cuvee, server, write):
    job, corpus = write("rungs: [{kind: ngram}]"), write(CORPUS, "corpus.yaml")
    other = a_corpus()
    server.add_corpus(other.model_copy(update={"name": "mine"}))
    assert cuvee("submit", job, "--corpus", corpus).exit_code == 1
    failed = a_corpus(spec=load_corpus(corpus), state=CorpusState.FAILED, manifest=None)
    server.add_corpus(failed)
    assert cuvee("submit", job, "--corpus", corpus).exit_code == 1
    assert not server.jobs


def test_a_job_that_asks_for_another_corpus_registers_nothing(cuvee, server, write):
    result = cuvee("submit", write(JOB), "--corpus", write(CORPUS, "corpus.yaml"))
    assert result.exit_code == 2
    assert "asks for the corpus 'books', but the corpus file registers 'mine'" in result.stderr
    assert not server.corpora


def test_paths_start_at_the_folder_of_the_corpus_file(write, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.chdir("/")
    spec = load_corpus(write(CORPUS, "corpus.yaml"))
    assert spec.domains[0].paths == (
        str(tmp_path / "plays"), "/home/me/more", "s3://bucket/plays", "/srv/plays",
    )  # fmt: skip
    assert spec.domains[1].paths == (str(tmp_path / "code/*.py"),)
    assert spec.tokenizer.path == str(tmp_path / "tokenizer.json")


def test_every_mistake_is_told_with_line_field_and_remedy(cuvee, write):
    path = write("""\
name: a b
rungs:
  - kind: ngram
    runs: lots
  - {kind: proxi, tokens: 3}
  - kind: proxy
    parameters: 100000
    tokns: 2e5
  - runs: 3
baseline: {a: 0.5}
seed: 1099511627776
budget:
verification: {references: [base], seeds: -1}
constraints:
  groups: {a: 1}
  bounds:
    a: {min: 0.5, max: 0.2}
""")
    result = cuvee("submit", path)
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert lines[0] == f"Error: {path} has 14 problems:"
    assert set(lines[1:]) == {
        "  line 1, name: 'a b' is not a valid name: at most 128 letters, digits, '_', '.', '-', "
        "the first a letter or a digit",
        "  corpus: is missing; add it (Id or name of a registered corpus)",
        "  line 4, rungs[0].runs: is 'lots' (text); it needs a whole number in digits, such as "
        "200000 or 200_000",
        "  line 5, rungs[1]: kind is 'proxi'; use one of 'ngram', 'proxy'",
        "  line 6, rungs[2].tokens: is missing; add it (Tokens trained per run)",
        "  line 8, rungs[2].tokns: there is no such field; did you mean `tokens`?",
        "  line 9, rungs[3]: has no `kind`; add one of kind: ngram, proxy",
        "  line 10, baseline: shares sum to 0.5, not 1: correct them, or use Mixture.from_weights",
        "  line 11, seed: is 1099511627776 (a whole number); it must be less than 2147483648",
        "  line 12, budget: is empty; leave it out, or give it fields of its own: `name: value` "
        "lines, indented below it",
        "  line 13, verification.references[0]: is 'base' (text); use 'baseline', 'natural' or "
        "'uniform'",
        "  line 13, verification.seeds: is -1 (a whole number); it must be at least 0",
        "  line 15, constraints.groups: is a group of fields; it needs a list: [a, b], or one "
        "`- entry` per line",
        "  line 17, constraints.bounds.a: min 0.5 is greater than max 0.2",
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds nothing"),
        ("- a\n- b\n", "holds a list"),
        ("corpus: [a\nrungs: 3", "is not YAML: line 2"),
        ("corpus: a\ncorpus: b\n", "gives a field twice: corpus again on line 2"),
        ("corpus: &a [*a]", "is not YAML"),
        ("corpus: !!python/object/apply:os.system [true]", "is not YAML: line 1"),
        ("corpus: a\nrungs: []\n", "rungs: has 0 entries, needs at least 1"),
        (
            "corpus: a\nrungs: [{kind: ngram}]\ncolour: red\n",
            "line 3, colour: there is no such field",
        ),
    ],
)
def test_a_file_that_is_no_specification_is_refused(cuvee, write, text, said):
    result = cuvee("submit", write(text))
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_json_file_with_a_slip_is_told_with_its_place(cuvee, write):
    result = cuvee("submit", write('{"corpus": "a",\n "rungs": [}', "job.json"))
    assert "is not JSON: line 2, column 12" in result.stderr


def test_a_file_that_is_not_there_or_not_text_is_told(cuvee, tmp_path: Path):
    assert "does not exist" in cuvee("submit", tmp_path / "no.yaml").stderr
    (tmp_path / "b.yaml").write_bytes(b"corpus: \xff")
    assert "is not UTF-8 text" in cuvee("submit", tmp_path / "b.yaml").stderr
    assert "cannot be read: Is a directory" in cuvee("submit", tmp_path).stderr


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("seed", "write it as path=value"),
        ("rungs.1.runs=3", "rungs is a list of 1"),
        ("corpus.name=3", "corpus has no fields of its own"),
        ("seed=[", "is not a YAML value"),
    ],
)
def test_an_override_that_leads_nowhere_is_refused(cuvee, write, setting, said):
    result = cuvee("submit", write(JOB), "--set", setting)
    assert result.exit_code == 2
    assert said in result.stderr


def test_submit_and_watch_ends_as_the_job_ends(cuvee, server, write, monkeypatch):
    server.add_corpus(a_corpus())
    monkeypatch.setattr(
        server,
        "_submit",
        lambda spec: server.add_job(a_job(spec=spec), a_job(state=JobState.CANCELLED)),
    )
    assert cuvee("submit", write(JOB), "--watch").exit_code == 3


def test_corpus_add_waits_and_fails_with_the_reason(cuvee, server, write, monkeypatch):
    failed = a_corpus(state=CorpusState.FAILED, manifest=None, error=a_problem("plays is empty"))
    monkeypatch.setattr(server, "_register", lambda spec: server.add_corpus(failed))
    result = cuvee("corpus", "add", write(CORPUS, "corpus.yaml"), "--wait")
    assert result.exit_code == 1
    assert "plays is empty" in result.output
