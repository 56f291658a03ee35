"""What a model folder must be, and which models may be averaged: refused otherwise, by name."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from cuvee.checkpoints import check_compatible, merge, open_folder
from cuvee.checkpoints.blocks import BlockReader
from cuvee.errors import CheckpointError, SpecError
from tests.unit.checkpoints.model_folders import (
    CONFIG,
    TOKENIZER,
    random_tensors,
    read_model,
    same_models,
    write_model,
)

INDEX = "model.safetensors.index.json"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model", random_tensors(0))


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    return write_model(tmp_path / "sharded", random_tensors(0), shards=2)


def test_a_sharded_folder_holds_the_same_tensors(model, sharded):
    one, many = open_folder(model), open_folder(sharded)
    assert one.tensors.keys() == many.tensors.keys() == random_tensors(0).keys()
    assert one.bytes == many.bytes
    check_compatible([one, many])


def test_only_pickles_are_refused_and_not_opened(model):
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    os.chmod(model / "pytorch_model.bin", 0)
    with pytest.raises(SpecError, match=r"only pickled weights \(pytorch_model\.bin\)"):
        open_folder(model)


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("adapter_config.json", "{}", "LoRA"),
        ("config.json", '{"quantization_config": {"bits": 4}}', "is quantised"),
        ("config.json", '{"a": 1, "a": 2}', "'a' appears twice"),
        ("config.json", "[]", "not a JSON object"),
        (INDEX, '{"weight_map": {}}', "holds both"),
    ],
)
def test_folders_that_are_no_plain_model(model, file, content, says):
    (model / file).write_text(content)
    with pytest.raises((SpecError, CheckpointError), match=says):
        open_folder(model)


def test_a_folder_without_a_model_says_what_is_missing(tmp_path):
    with pytest.raises(SpecError, match="is not a folder"):
        open_folder(tmp_path / "nothing")
    with pytest.raises(SpecError, match=r"has no config\.json"):
        open_folder(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(SpecError, match=r"holds no model\.safetensors"):
        open_folder(tmp_path)


SECOND = "model-00002-of-00002.safetensors"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"weight_map": ["a"]}, "no weight_map"),
        ({"weight_map": {"w": 1}}, "no weight_map"),
        ({"w": "../model/model.safetensors"}, "not the plain name"),
        ({"w": "/etc/passwd"}, "not the plain name"),
        ({"w": "..safetensors\n"}, "not the plain name"),
        ({"w": "pytorch_model.bin"}, "not the plain name"),
        ({"w": "absent.safetensors"}, "is not there"),
        ({"w": SECOND}, "disagree .* on tensor 'w': the index lists it there"),
        ({"model.scale": None}, "'model.scale': the index does not list it"),
    ],
)
def test_an_index_that_does_not_fit_its_files_is_refused(sharded, change, says):
    index = json.loads((sharded / INDEX).read_text())
    if "weight_map" in change:
        index = change
    else:
        index["weight_map"] |= change
        index["weight_map"] = {k: v for k, v in index["weight_map"].items() if v is not None}
    (sharded / INDEX).write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=says):
        open_folder(sharded)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_link_out_of_the_folder_is_refused(model, tmp_path, name):
    (model / name).rename(tmp_path / "elsewhere")
    (model / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match=r"is a link.*cp -rL"):
        open_folder(model)


def test_a_pipe_is_refused_and_not_waited_for(model):
    (model / "model.safetensors").unlink()
    os.mkfifo(model / "model.safetensors")
    with pytest.raises(CheckpointError, match="not a regular file"):
        open_folder(model)


def test_links_of_the_hugging_face_cache_are_followed(model, tmp_path):
    cache = tmp_path / "models--team--model"
    snapshot = cache / "snapshots" / "0123abc"
    snapshot.mkdir(parents=True)
    (cache / "blobs").mkdir()
    digests = {}
    for file in model.iterdir():
        digests[file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
        file.rename(cache / "blobs" / digests[file.name])
        (snapshot / file.name).symlink_to(f"../../blobs/{digests[file.name]}")
    merge({snapshot: 1.0}, tmp_path / "out")
    assert same_models(read_model(tmp_path / "out"), random_tensors(0))
    assert not (tmp_path / "out" / "tokenizer.json").is_symlink()
    lineage = json.loads((tmp_path / "out" / "cuvee_merge.json").read_text())
    assert lineage["models"][0]["files"][0]["sha256"] == digests["model.safetensors"]


def test_a_file_that_changes_after_it_was_looked_at_is_refused(model):
    opened = open_folder(model)
    with (model / "model.safetensors").open("r+b") as file:
        file.write((8).to_bytes(8, "little"))
    with pytest.raises(CheckpointError, match="changed during the merge"):
        opened.shards[0].open()


def test_a_file_that_is_cut_while_it_is_read_is_refused(model):
    reader = BlockReader(open_folder(model), forget=True)
    buffer = memoryview(bytearray(8))
    reader.announce("model.positions", 0, 8)
    reader.read("model.positions", 8, buffer)
    assert buffer.tobytes() == (1).to_bytes(8, "little")
    reader.done("model.positions", 0, 8)
    os.truncate(model / "model.safetensors", 100)
    with pytest.raises(CheckpointError, match="cut short during the merge"):
        reader.read("model.positions", 0, buffer)
    reader.close()


def test_a_lineage_that_cannot_be_read_is_found_before_the_work(model, tmp_path):
    (model / "cuvee_merge.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"cuvee_merge\.json is not valid JSON"):
        merge({model: 1.0}, tmp_path / "out", progress=lambda done, total: pytest.fail("begun"))


def pair(tmp_path: Path, **second: Any) -> list[Path]:
    """Two models; the second as the keywords of ``write_model`` say."""
    tensors = second.pop("tensors", random_tensors(1))
    return [
        write_model(tmp_path / "one", random_tensors(0)),
        write_model(tmp_path / "two", tensors, **second),
    ]


def reason(tmp_path: Path, folders: list[Path]) -> str:
    with pytest.raises(SpecError) as raised:
        merge(dict.fromkeys(folders, 0.5), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    return str(raised.value)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({**CONFIG, "hidden_size": 16}, "hidden_size of config.json is 8 in the first and 16"),
        ({**CONFIG, "tie_word_embeddings": False}, "tie_word_embeddings of config.json is True"),
        ({**CONFIG, "rope": {"kind": {"factor": 2}}}, "rope.kind.factor of config.json is absent"),
    ],
)
def test_configurations_that_differ_are_refused_by_key(tmp_path, config, says):
    assert says in reason(tmp_path, pair(tmp_path, config=config))


def test_keys_that_say_nothing_of_structure_may_differ(tmp_path):
    config = {
        **CONFIG, "_name_or_path": "x", "transformers_version": "9", "pruned_heads": None,
        "text": {"use_cache": False},
    }  # fmt: skip
    check_compatible([open_folder(path) for path in pair(tmp_path, config=config)])


def test_tokenizers_that_differ_are_refused_by_part(tmp_path):
    other = {**TOKENIZER, "model": {"type": "BPE", "vocab": {"a": 1, "b": 0}}}
    assert "'model' of tokenizer.json" in reason(tmp_path, pair(tmp_path, tokenizer=other))


def test_a_tokenizer_on_one_side_only_is_refused(tmp_path):
    says = reason(tmp_path, pair(tmp_path, tokenizer=None))
    assert "the tokenizer is 'tokenizer.json' in the first and absent in the second" in says


def test_a_vocabulary_in_another_file_is_compared_too(tmp_path):
    folders = pair(tmp_path)
    for i, folder in enumerate(folders):
        (folder / "tokenizer.json").unlink()
        (folder / "merges.txt").write_text(f"a {i}")
    assert "the sha256 of merges.txt" in reason(tmp_path, folders)


def test_a_tokenizer_written_otherwise_or_cut_otherwise_is_the_same(tmp_path):
    folders = pair(tmp_path, tokenizer={**TOKENIZER, "truncation": {"max_length": 9}})
    text = json.dumps(TOKENIZER, indent=4, sort_keys=True)
    (folders[0] / "tokenizer.json").write_text(text)
    check_compatible([open_folder(path) for path in folders])


def test_a_head_in_one_model_only_is_explained(tmp_path):
    tensors = random_tensors(1) | {"lm_head.weight": torch.ones(11, 8)}
    says = reason(tmp_path, pair(tmp_path, tensors=tensors))
    assert "'lm_head.weight' of two is not in one" in says
    assert "shares it with the embedding" in says


@pytest.mark.parametrize(
    ("name", "tensor", "says"),
    [
        ("model.embed.weight", torch.ones(12, 8), "is [11, 8] in the first and [12, 8]"),
        ("model.scale", torch.ones(1), "the shape of tensor 'model.scale' is [] in the first"),
        (
            "model.scale",
            torch.tensor(1.0, dtype=torch.bfloat16),
            "is 'F32' in the first and 'BF16'",
        ),
        ("model.more", torch.ones(1), "tensor 'model.more' of two is not in one"),
    ],
)
def test_tensors_that_differ_are_refused_by_name(tmp_path, name, tensor, says):
    assert says in reason(tmp_path, pair(tmp_path, tensors=random_tensors(1) | {name: tensor}))


def test_running_statistics_are_refused(tmp_path):
    tensors = random_tensors(0) | {"norm.running_mean": torch.ones(3)}
    assert "running statistics" in reason(
        tmp_path, [write_model(tmp_path / name, tensors) for name in "ab"]
    )
