"""``cuvee merge``: what it is given, what it prints, and what it ends with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from cuvee.cli.merge import parse_size, parse_weighted
from cuvee.errors import SpecError
from tests.unit.checkpoints.model_folders import random_tensors, read_model, write_model


@pytest.fixture
def models(tmp_path: Path) -> list[Path]:
    return [write_model(tmp_path / f"m={i}", random_tensors(i)) for i in range(2)]


def test_two_models_are_merged(cuvee, models, tmp_path):
    out = tmp_path / "out"
    result = cuvee("merge", "--model", f"{models[0]}=1/4", "-m", f"{models[1]}=0.75", "-o", out)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"Merged 2 models into {out}: 7 tensors, ")
    assert result.stdout.endswith(" bytes in 1 file.\n")
    assert result.stderr == ""
    expected = 0.25 * random_tensors(0)["model.scale"] + 0.75 * random_tensors(1)["model.scale"]
    torch.testing.assert_close(read_model(out)["model.scale"], expected)


def test_a_terminal_sees_a_bar(cuvee, models, tmp_path, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    result = cuvee("merge", "-m", f"{models[0]}=1", "-o", tmp_path / "out")
    assert result.exit_code == 0
    assert "Merging" in result.stderr
    assert "100%" in result.stderr or "kB" in result.stderr
    assert "Merging" not in result.stdout


def test_json_names_files_and_weights(cuvee, models, tmp_path):
    out = tmp_path / "out"
    result = cuvee(
        "merge", "-m", f"{models[0]}=0.3", "--base", models[1], "-o", out, "--json",
        "--shard-size", "300B", "--dtype", "bfloat16",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["path"] == str(out)
    assert said["weights"] == {str(models[0]): 0.3, str(models[1]): 0.7}
    assert [f["name"] for f in said["files"]] == sorted(p.name for p in out.glob("*.safetensors"))
    assert len(said["files"]) > 1
    assert read_model(out)["model.scale"].dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-m", "{0}=0.3", "-m", "{1}=0.6"], "the weights sum to 0.9, not 1"),
        (["-m", "{0}=0.5", "-m", "{0}=0.5"], "is given twice"),
        (["-m", "{0}=half"], "is not a folder and a weight"),
        (["-m", "{0}=1", "--shard-size", "big"], "'big' is not a size: write 5GB"),
        (["-m", "{0}=1", "--dtype", "int8"], "dtype is 'int8': one of float32, float16, bfloat16"),
        (["-m", "{0}/nowhere=1"], "is not a folder"),
    ],
)
def test_wrong_input_ends_with_two_and_one_line(cuvee, models, tmp_path, arguments, says):
    filled = [argument.format(*models) for argument in arguments]
    result = cuvee("merge", *filled, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert says in result.stderr
    assert result.stderr.startswith("Error: ")
    assert result.stdout == ""
    assert not (tmp_path / "out").exists()


def test_a_damaged_model_ends_with_one(cuvee, models, tmp_path):
    with (models[0] / "model.safetensors").open("r+b") as file:
        file.truncate(100)
    result = cuvee("merge", "-m", f"{models[0]}=1", "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "cut short" in result.stderr


@pytest.mark.parametrize(
    ("text", "path", "weight"),
    [
        ("a=0.3", "a", 0.3),
        ("a=1/3", "a", 1 / 3),
        ("x=y=1", "x=y", 1.0),
        ("a=.5", "a", 0.5),
        ("a=-1", "a", -1.0),
    ],
)
def test_a_model_and_its_weight(text, path, weight):
    assert parse_weighted(text) == (Path(path), weight)


@pytest.mark.parametrize("text", ["a", "=0.3", "a=", "a=1e9", "a=1/0", "a=1.2.3", "a=nan", "a=."])
def test_what_is_no_model_and_weight(text):
    with pytest.raises(SpecError):
        parse_weighted(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("5GB", 5 * 10**9), ("500 mb", 5 * 10**8), ("1.5KB", 1500), ("7", 7), ("7b", 7)],
)
def test_a_size(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "0", "5GiB", "1e9", "0.2B"])
def test_what_is_no_size(text):
    with pytest.raises(SpecError):
        parse_size(text)
