"""mT5 as a scorer needs it: the encoder, and the first step of the decoder, for inference alone.

The weights are those of transformers' MT5Model; what is computed with them is equal, but for rounding. What makes it
faster:

- Projections of one input are one matrix product: queries, keys and values; both halves of the gated feed-forward.
- Attention goes through torch's fused kernels, with the position bias, made once for a length, as their mask.
- The decoder reads one token, the same for all: its self-attention has a single position and is a constant.
- Its cross-attention asks one question of the encoder's output E. Instead of making keys and values of every position,
  it moves the question: q·(K e) = (Kᵀq)·e, and the weighted sum of the values is V applied to the weighted sum of E.
  That saves two products of E with a whole matrix in each layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

# gelu_new of transformers, which every mT5 has, is torch's own with the tanh.
_GELU_NEW = ("gelu_new", "gelu_pytorch_tanh")


class FirstStep(nn.Module):
    """The state of the decoder behind its first step.

    model: an MT5Model of transformers, whose weights are taken over: do not use it afterwards.
    Raises ValueError where it is no mT5 as published (gated feed-forward with gelu_new).
    """

    def __init__(self, model: Any, start_token: int = 0) -> None:
        super().__init__()
        config = model.config
        if not config.is_gated_act or config.dense_act_fn not in _GELU_NEW:
            raise ValueError(f"the feed-forward is {config.feed_forward_proj}; an mT5's is gated-gelu")
        self._embedding = model.shared.weight
        self._buckets, self._distance = config.relative_attention_num_buckets, config.relative_attention_max_distance
        first = model.encoder.block[0].layer[0].SelfAttention
        self._bias = first.relative_attention_bias.weight
        self._encoder = nn.ModuleList([_EncoderLayer(block, config) for block in model.encoder.block])
        self._decoder = nn.ModuleList([_DecoderLayer(block, config) for block in model.decoder.block])
        self._encoder_norm = model.encoder.final_layer_norm.weight
        self._decoder_norm = model.decoder.final_layer_norm.weight
        self._epsilon, self._start = config.layer_norm_epsilon, start_token
        self._biases: dict[int, Tensor] = {}

    def forward(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """States (texts, width) of texts, each of which is its token ids, at least one."""
        device = self._embedding.device
        length = max(map(len, texts))
        # Made on the CPU as a whole: each look of the CPU at a number of the GPU's would wait for all before it.
        tokens = torch.zeros(len(texts), length, dtype=torch.long)
        outside = torch.ones(len(texts), length, dtype=torch.bool)
        for row, text in enumerate(texts):
            tokens[row, : len(text)] = torch.tensor(text)
            outside[row, : len(text)] = False
        mask, padded = self._position_bias(length), bool(outside.any())
        tokens, outside = _move(tokens, device), _move(outside, device)
        if padded:
            mask = mask.masked_fill(outside[:, None, None, :], -math.inf)
        states = functional.embedding(tokens, self._embedding)
        for layer in self._encoder:
            states = layer(states, mask)
        states = functional.rms_norm(states, states.shape[-1:], self._encoder_norm, self._epsilon)
        state = self._embedding[self._start].expand(len(tokens), -1)
        for layer in self._decoder:
            state = layer(state, states, outside)
        return functional.rms_norm(state, state.shape[-1:], self._decoder_norm, self._epsilon)

    def _position_bias(self, length: int) -> Tensor:
        """What the distance of two positions adds to their attention, (1, heads, length, length)."""
        if length not in self._biases:
            place = torch.arange(length, device=self._bias.device)
            bucket = relative_bucket(place[None, :] - place[:, None], self._buckets, self._distance)
            # One length mostly comes many times in a row, as texts are sorted by it.
            self._biases = {length: functional.embedding(bucket, self._bias).permute(2, 0, 1)[None].contiguous()}
        return self._biases[length]


def _move(tensor: Tensor, device: torch.device) -> Tensor:
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def relative_bucket(distance: Tensor, buckets: int, longest: int) -> Tensor:
    """The bucket of a distance between two positions, in both directions (Raffel et al. 2020, section 2.1).

    Half of the buckets are for each direction; in each, half are for single distances and half for ranges that grow
    with their logarithm up to `longest`.
    """
    half = buckets // 2
    single = half // 2
    far = distance.abs()
    log_range = torch.log(far.float().clamp(min=1) / single) / math.log(longest / single) * (half - single)
    ranged = (single + log_range.long()).clamp(max=half - 1)
    return half * (distance > 0).long() + torch.where(far < single, far, ranged)


class _FeedForward(nn.Module):
    def __init__(self, layer: Any, config: Any) -> None:
        super().__init__()
        dense = layer.DenseReluDense
        self._in = torch.cat([dense.wi_0.weight, dense.wi_1.weight])
        self._out, self._norm, self._epsilon = dense.wo.weight, layer.layer_norm.weight, config.layer_norm_epsilon

    def forward(self, states: Tensor) -> Tensor:
        inner = functional.linear(functional.rms_norm(states, states.shape[-1:], self._norm, self._epsilon), self._in)
        gate, value = inner.chunk(2, -1)
        return states + functional.linear(functional.gelu(gate, approximate="tanh") * value, self._out)


class _EncoderLayer(nn.Module):
    def __init__(self, block: Any, config: Any) -> None:
        super().__init__()
        attention = block.layer[0].SelfAttention
        self._qkv = torch.cat([attention.q.weight, attention.k.weight, attention.v.weight])
        self._out, self._norm = attention.o.weight, block.layer[0].layer_norm.weight
        self._heads, self._epsilon = config.num_heads, config.layer_norm_epsilon
        self._feed_forward = _FeedForward(block.layer[1], config)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        texts, length, _ = states.shape
        normed = functional.rms_norm(states, states.shape[-1:], self._norm, self._epsilon)
        qkv = functional.linear(normed, self._qkv).view(texts, length, 3, self._heads, -1).permute(2, 0, 3, 1, 4)
        # T5 does not scale: its initialisation does.
        query, key, value = qkv.unbind(0)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=1.0)
        states = states + functional.linear(mixed.transpose(1, 2).reshape(texts, length, -1), self._out)
        return self._feed_forward(states)


class _DecoderLayer(nn.Module):
    def __init__(self, block: Any, config: Any) -> None:
        super().__init__()
        own, cross = block.layer[0].SelfAttention, block.layer[1].EncDecAttention
        self._epsilon = config.layer_norm_epsilon
        self._own_value, self._own_out = own.v.weight, own.o.weight
        self._own_norm, self._norm = block.layer[0].layer_norm.weight, block.layer[1].layer_norm.weight
        heads, width = config.num_heads, config.d_model
        self._query, self._out = cross.q.weight, cross.o.weight
        self._key, self._value = cross.k.weight.view(heads, -1, width), cross.v.weight.view(heads, -1, width)
        self._feed_forward = _FeedForward(block.layer[2], config)

    def forward(self, state: Tensor, encoded: Tensor, outside: Tensor) -> Tensor:
        width = state.shape[-1:]
        # A single position attends to itself alone.
        normed = functional.rms_norm(state, width, self._own_norm, self._epsilon)
        state = state + functional.linear(functional.linear(normed, self._own_value), self._own_out)
        normed = functional.rms_norm(state, width, self._norm, self._epsilon)
        query = functional.linear(normed, self._query).view(len(state), len(self._key), -1)
        moved = torch.einsum("thk,hkw->thw", query, self._key)
        scores = torch.einsum("thw,tlw->thl", moved, encoded).masked_fill(outside[:, None, :], -math.inf)
        weights = scores.float().softmax(-1).to(scores.dtype) if scores.dtype != torch.float64 else scores.softmax(-1)
        summed = torch.einsum("thl,tlw->thw", weights, encoded)
        mixed = torch.einsum("thw,hkw->thk", summed, self._value).reshape(len(state), -1)
        return self._feed_forward(state + functional.linear(mixed, self._out))
