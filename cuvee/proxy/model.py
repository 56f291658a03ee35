"""The proxy: transformers' own Llama, sized by ``Shape`` and initialised from a seed.

The model is the one everybody else trains, so a conclusion about data is about data. Only its
initial weights are ours: they are drawn from a ``torch.Generator``, by parameter in order of name,
so they depend on the seed and the shape and on nothing that ran before.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.models.llama.configuration_llama import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaForCausalLM

from cuvee.proxy.config import Shape
from cuvee.proxy.loss import chunked_cross_entropy

__all__ = ["build_model", "count_parameters", "next_token_logits", "training_loss"]


def build_model(shape: Shape, vocab_size: int, context: int, seed: int) -> LlamaForCausalLM:
    """A freshly initialised model on the CPU, in fp32.

    The constructor of transformers draws from PyTorch's global generator. That happens inside
    ``fork_rng``, which puts the generator back, and what was drawn is overwritten.

    Args:
        shape: The dimensions.
        vocab_size: Number of token ids.
        context: Longest sequence.
        seed: Seed of the initial weights.
    """
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=context,
        tie_word_embeddings=shape.tie_embeddings,
        use_cache=False,
        bos_token_id=None,
        eos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        model = LlamaForCausalLM(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, parameter in sorted(model.named_parameters()):
            if parameter.ndim >= 2:
                parameter.normal_(0.0, shape.initial_deviation, generator=generator)
            else:
                parameter.fill_(1.0)
    return model


def next_token_logits(model: torch.nn.Module, ids: Tensor) -> Tensor:
    """Logits of the token after each position, shape (B, T, V), for ids of shape (B, T)."""
    logits: Tensor = model(input_ids=ids, use_cache=False).logits
    return logits


def training_loss(model: LlamaForCausalLM, ids: Tensor, *, bf16: bool) -> Tensor:
    """Mean nats per token of predicting ``ids[:, 1:]``, for ids of shape (B, T + 1).

    Args:
        model: The model.
        ids: Token ids.
        bf16: Run the forward pass under autocast; the loss itself is computed in fp32.
    """
    inputs, targets = ids[:, :-1], ids[:, 1:].flatten()
    if ids.device.type == "cpu":
        hidden = model.model(input_ids=inputs, use_cache=False).last_hidden_state
        return chunked_cross_entropy(hidden.flatten(0, 1), model.lm_head.weight, targets)
    with torch.autocast(ids.device.type, dtype=torch.bfloat16, enabled=bf16):
        logits = next_token_logits(model, inputs)
    return F.cross_entropy(logits.flatten(0, 1).float(), targets)


def count_parameters(model: torch.nn.Module) -> int:
    """Parameters in all, shared ones once."""
    return sum(p.numel() for p in model.parameters())
