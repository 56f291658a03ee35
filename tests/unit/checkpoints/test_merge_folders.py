"""Averages of model folders: equal to averages in memory, whatever the type, cut and order."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from hashlib import sha256

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from cuvee.checkpoints import merge, open_folder
from cuvee.checkpoints.arithmetic import LARGEST, decode, encode, peak
from cuvee.errors import CheckpointError, SpecError
from tests.unit.checkpoints.model_folders import (
    CONFIG,
    random_tensors,
    read_model,
    same_bits,
    same_models,
    write_model,
)

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that even small tensors are read in several chunks of several blocks, and unequal ones."""
    module = sys.modules[merge.__module__]  # the package's attribute of this name is the function
    monkeypatch.setattr(module, "_CHUNK", 50)
    monkeypatch.setattr("cuvee.checkpoints.worker._BLOCK", 16)


def in_memory(models: Sequence[dict[str, Tensor]], weights: Sequence[float]) -> dict[str, Tensor]:
    """The average in float64, rounded once."""
    merged = {}
    for name, first in models[0].items():
        if first.is_floating_point():
            total = sum(w * m[name].double() for m, w in zip(models, weights, strict=True))
            assert isinstance(total, Tensor)
            merged[name] = total.to(first.dtype)
        else:
            merged[name] = first
    return merged


def unit_in_the_last_place(values: Tensor) -> Tensor:
    info = torch.finfo(values.dtype)
    largest = values.double().abs().clamp_min(info.smallest_normal)
    return torch.exp2(torch.floor(torch.log2(largest))) * info.eps


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_a_stream_gives_what_memory_gives(tmp_path, dtype, shards):
    models = [random_tensors(seed, dtype) for seed in range(3)]
    weights = [0.2, 0.5, 0.3]
    paths = [write_model(tmp_path / str(i), m, shards=1 + i % shards) for i, m in enumerate(models)]
    merged = merge(dict(zip(paths, weights, strict=True)), tmp_path / "out", shard_bytes=700)
    found, expected = read_model(tmp_path / "out"), in_memory(models, weights)
    assert found.keys() == expected.keys()
    assert len(merged.files) > 1
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert found[name].shape == tensor.shape
        if tensor.is_floating_point():
            # Summing in float32 costs as much as its terms are large; storing, one unit.
            terms = sum(w * m[name].double().abs() for m, w in zip(models, weights, strict=True))
            allowed = unit_in_the_last_place(tensor) + 4 * 2.0**-24 * terms
            assert bool(((found[name].double() - tensor.double()).abs() <= allowed).all()), name
        else:
            assert torch.equal(found[name], tensor)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_one_model_of_all_the_weight_comes_out_bit_for_bit(tmp_path, dtype):
    a, b = random_tensors(0, dtype), random_tensors(1, dtype)
    a["model.zeros"] = b["model.zeros"] = torch.tensor([0.0, -0.0], dtype=dtype)
    models = {write_model(tmp_path / "a", a): 1.0, write_model(tmp_path / "b", b): 0.0}
    merge(models, tmp_path / "out")
    assert same_models(read_model(tmp_path / "out"), a)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_equal_models_average_to_themselves_bit_for_bit(tmp_path, dtype):
    tensors = random_tensors(0, dtype) | {"model.zeros": torch.tensor([0.0, -0.0], dtype=dtype)}
    models = {
        write_model(tmp_path / n, tensors): w for n, w in (("a", 0.1), ("b", 0.7), ("c", 0.2))
    }
    merge(models, tmp_path / "out")
    assert same_models(read_model(tmp_path / "out"), tensors)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_neither_order_nor_threads_nor_shards_change_a_bit(tmp_path, dtype):
    weights = {"a": 0.25, "b": 0.25, "c": 0.5}
    for seed, name in enumerate(weights):
        write_model(tmp_path / name, random_tensors(seed, dtype), shards=1 + seed)
    results = []
    for i, (order, threads, size) in enumerate(
        [("abc", 1, 10**9), ("cab", 4, 10**9), ("bca", 3, 600), ("acb", 2, 1)]
    ):
        models = {tmp_path / n: weights[n] for n in order}
        merge(models, tmp_path / f"out{i}", threads=threads, shard_bytes=size)
        results.append(read_model(tmp_path / f"out{i}"))
    assert all(same_models(results[0], other) for other in results[1:])


def test_the_base_takes_the_weight_that_is_left(tmp_path):
    seed, branch = random_tensors(0), random_tensors(1)
    base, model = write_model(tmp_path / "base", seed), write_model(tmp_path / "branch", branch)
    merged = merge({model: 0.3}, tmp_path / "out", base=base)
    merge({model: 0.3, base: 0.7}, tmp_path / "both")
    assert same_models(read_model(tmp_path / "out"), read_model(tmp_path / "both"))
    assert merged.weights == {model: 0.3, base: 0.7}
    merge({model: 1.0}, tmp_path / "all", base=base)
    assert same_models(read_model(tmp_path / "all"), branch)


def test_differences_far_below_the_weights_survive_in_float32(tmp_path):
    """Summing 0.3 x + 0.7 y directly rounds at the size of x; the difference form does not."""
    x = torch.full((1000,), 1.0)
    y = x + 2.0**-23
    a = write_model(tmp_path / "a", {"w": x})
    b = write_model(tmp_path / "b", {"w": y})
    merge({a: 0.3, b: 0.7}, tmp_path / "out")
    assert torch.equal(read_model(tmp_path / "out")["w"], y)


@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16"])
def test_the_stored_type_can_be_chosen(tmp_path, name):
    tensors = [random_tensors(seed, torch.bfloat16) for seed in (0, 1)]
    config = CONFIG | {"torch_dtype": "bfloat16"}
    models = {write_model(tmp_path / str(i), t, config=config): 0.5 for i, t in enumerate(tensors)}
    merge(models, tmp_path / "out", dtype=name)
    found = read_model(tmp_path / "out")
    for key, tensor in tensors[0].items():
        if tensor.is_floating_point():
            exact = (tensor.float() + tensors[1][key].float()) / 2  # exact: 8 bits and one more
            assert same_bits(found[key], exact.to(getattr(torch, name)))
        else:
            assert same_bits(found[key], tensor)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["torch_dtype"] == name


def test_an_average_that_the_type_cannot_hold_is_refused(tmp_path):
    model = write_model(tmp_path / "a", {"w": torch.tensor([1e5], dtype=torch.bfloat16)})
    with pytest.raises(SpecError, match="does not fit into F16"):
        merge({model: 1.0}, tmp_path / "out", dtype="float16")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a"]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_a_model_that_is_not_finite_is_named(tmp_path, dtype, bad):
    tensors = {"w": torch.zeros(40_000, dtype=dtype)}
    good = write_model(tmp_path / "good", tensors)
    tensors["w"][39_999] = bad
    broken = write_model(tmp_path / "broken", tensors)
    with pytest.raises(CheckpointError, match=r"'w' of .*broken holds numbers that are not finite"):
        merge({good: 0.9, broken: 0.1}, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["broken", "good"]


@pytest.mark.parametrize("name", ["model.positions", "model.mask"])
def test_integers_that_differ_are_refused_by_name(tmp_path, name):
    a, b = random_tensors(0), random_tensors(1)
    b[name] = b[name].clone()
    b[name][-1] = 0
    a[name][-1] = 1
    models = {write_model(tmp_path / "a", a): 0.5, write_model(tmp_path / "b", b): 0.5}
    with pytest.raises(SpecError, match=f"{name}.* differs between"):
        merge(models, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        ([0.3, 0.6], "sum to 0.9, not 1: correct them, or name the base"),
        ([0.8, 0.4], "sum to 1.2, not 1"),
        ([1.2, -0.2], "weights are between 0 and 1"),
        ([math.nan, 1.0], "weights are between 0 and 1"),
    ],
)
def test_weights_that_do_not_sum_to_one_are_refused(tmp_path, weights, says):
    models = {
        write_model(tmp_path / str(i), {"w": torch.ones(2)}): w for i, w in enumerate(weights)
    }
    with pytest.raises(SpecError, match=says):
        merge(models, tmp_path / "out")


def test_six_decimals_are_near_enough_and_are_scaled_to_one(tmp_path):
    models = {write_model(tmp_path / n, random_tensors(0)): 0.333333 for n in "abc"}
    merged = merge(models, tmp_path / "out")
    assert math.fsum(merged.weights.values()) == pytest.approx(1, abs=1e-15)


def test_one_folder_under_two_names_is_refused(tmp_path):
    model = write_model(tmp_path / "a", random_tensors(0))
    (tmp_path / "alias").symlink_to(model)
    with pytest.raises(SpecError, match="given twice"):
        merge({model: 0.5, tmp_path / "alias": 0.5}, tmp_path / "out")
    with pytest.raises(SpecError, match="both the base and a model"):
        merge({model: 0.5}, tmp_path / "out", base=model)


def test_the_folder_says_where_it_comes_from(tmp_path):
    a = write_model(tmp_path / "a", random_tensors(0))
    b = write_model(tmp_path / "b", random_tensors(1), shards=2)
    merged = merge({a: 0.25, b: 0.75}, tmp_path / "ab", shard_bytes=1000)
    lineage = json.loads((tmp_path / "ab" / "cuvee_merge.json").read_text())
    assert [(m["path"], m["weight"]) for m in lineage["models"]] == [(str(a), 0.25), (str(b), 0.75)]
    for written, stated in zip(merged.files, lineage["files"], strict=True):
        data = (tmp_path / "ab" / written.name).read_bytes()
        assert stated == {
            "name": written.name, "bytes": len(data), "sha256": sha256(data).hexdigest(),
        }  # fmt: skip
    metadata = open_folder(merged.path).shards[0].header.metadata
    assert metadata["format"] == "pt"
    assert json.loads(metadata["cuvee_merge"])[1] == {"model": "b", "weight": 0.75}
    # A merge of a merge knows both, and what the first was made of.
    merge({merged.path: 0.5, a: 0.5}, tmp_path / "again")
    origin = json.loads((tmp_path / "again" / "cuvee_merge.json").read_text())["models"][0]
    assert origin["lineage"] == lineage
    assert [f["sha256"] for f in origin["files"]] == [f.sha256 for f in merged.files]


def test_small_files_of_the_first_model_are_taken_over_and_code_is_not(tmp_path):
    a, b = (write_model(tmp_path / n, random_tensors(0)) for n in "ab")
    (a / "chat_template.jinja").write_text("first")
    (b / "chat_template.jinja").write_text("second")
    (a / "modeling_custom.py").write_text("raise SystemExit")
    (a / "pytorch_model.bin").write_bytes(b"\x80")
    merge({a: 0.5, b: 0.5}, tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "chat_template.jinja", "config.json", "cuvee_merge.json", "model.safetensors",
        "tokenizer.json",
    ]  # fmt: skip
    assert (tmp_path / "out" / "chat_template.jinja").read_text() == "first"
    assert (tmp_path / "out" / "config.json").read_bytes() == (a / "config.json").read_bytes()


def test_progress_grows_to_the_size_of_the_files(tmp_path):
    models = {write_model(tmp_path / n, random_tensors(0)): 0.5 for n in "ab"}
    seen: list[tuple[int, int]] = []
    merged = merge(models, tmp_path / "out", progress=lambda done, of: seen.append((done, of)))
    assert seen == sorted(seen)
    assert seen[-1] == (merged.bytes, merged.bytes)
    assert {of for _, of in seen} == {merged.bytes}


def test_tied_heads_stay_tied_in_transformers(tmp_path):
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, tie_word_embeddings=True,
    )  # fmt: skip
    models = [LlamaForCausalLM(config).to(torch.float32) for _ in range(2)]
    for i, model in enumerate(models):
        for parameter in model.parameters():
            with torch.no_grad():
                parameter.normal_(generator=torch.Generator().manual_seed(7 + i))
        model.save_pretrained(tmp_path / str(i))
    merge({tmp_path / "0": 0.4, tmp_path / "1": 0.6}, tmp_path / "out")
    merged, info = LlamaForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert merged.lm_head.weight.data_ptr() == merged.model.embed_tokens.weight.data_ptr()
    for (name, found), *inputs in zip(
        merged.named_parameters(), *(m.parameters() for m in models), strict=True
    ):
        expected = 0.4 * inputs[0] + 0.6 * inputs[1]
        torch.testing.assert_close(found, expected, msg=name)


@given(
    st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=50), st.sampled_from(["F16", "BF16"])
)
def test_rounding_is_that_of_torch(bits, dtype):
    values = np.array(bits, np.uint32).view(np.float32)
    with np.errstate(invalid="ignore"):
        values = values[np.abs(values) <= LARGEST[dtype]]
    assume(len(values) > 0)
    raw, scratch = np.empty(2 * len(values), np.uint8), np.empty_like(values)
    encode(dtype, values.copy(), raw, scratch)
    torch_dtype = DTYPES[dtype]
    expected = torch.from_numpy(values.copy()).to(torch_dtype)
    assert same_bits(torch.from_numpy(raw.copy()).view(torch_dtype), expected)
    np.testing.assert_array_equal(
        decode(dtype, raw, np.empty_like(values)), expected.float().numpy()
    )


@pytest.mark.parametrize("bad", [math.nan, -math.nan, math.inf, -math.inf])
def test_one_bad_number_makes_the_peak_bad(bad):
    values = np.zeros(100, np.float32)
    values[37] = bad
    assert not peak(values) <= LARGEST["F32"]
