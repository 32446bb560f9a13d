"""mT5 as a scorer needs it: the encoder, and the first step of the decoder, for inference alone.

The weights are those of transformers' MT5Model; what is computed with them is equal, but for rounding. What makes it
faster:

- Projections of one input are one matrix product: queries, keys and values; both halves of the gated feed-forward.
- Attention goes through torch's fused kernels, with the position bias, made once for a length, as their mask.
- The decoder reads one token, the same for all: its self-attention has a single position and is a constant.
- Its cross-attention asks one question of the encoder's output E. Instead of making keys and values of every position,
  it moves the question: q·(K e) = (Kᵀq)·e, and the weighted sum of the values is V applied to the weighted sum of E.
  That saves two products of E with a whole matrix in each layer.
- Compiled, what lies between the products is a few kernels instead of many.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from corpusmith.batching import moved

# gelu_new of transformers, which every mT5 has, is torch's own with the tanh.
_GELU_NEW = ("gelu_new", "gelu_pytorch_tanh")
# Kernels of GPUs want rows of a mask to begin at multiples of 16 bytes, or copy it.
_ALIGNED_LENGTH = 8


class FirstStep:
    """The state of the decoder behind its first step.

    model: an MT5Model of transformers on a CPU, whose layers are taken out of it. devices: those that share the layers,
    in equal parts one behind the other; batches that follow each other keep all of them busy. compiled: whether torch
    compiles a layer, which takes most of a minute at the first batches.
    Raises ValueError where the model is no mT5 as published (gated feed-forward with gelu_new).
    """

    def __init__(
        self,
        model: Any,
        devices: Sequence[torch.device] = (torch.device("cpu"),),
        *,
        compiled: bool = False,
        start_token: int = 0,
    ) -> None:
        config = model.config
        if not config.is_gated_act or config.dense_act_fn not in _GELU_NEW:
            raise ValueError(f"the feed-forward is {config.feed_forward_proj}; an mT5's is gated-gelu")
        self._buckets, self._distance = config.relative_attention_num_buckets, config.relative_attention_max_distance
        self._heads, self._epsilon = config.num_heads, config.layer_norm_epsilon
        self._encode = _compile(_encode) if compiled else _encode
        self._decode = _compile(_decode) if compiled else _decode
        first, last = devices[0], devices[-1]
        with torch.no_grad():
            self._embedding = model.shared.weight.detach().to(first)
            bias = model.encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight
            self._bias = bias.detach().to(first)
            self._encoder_norm = model.encoder.final_layer_norm.weight.detach().to(last)
            self._decoder_norm = model.decoder.final_layer_norm.weight.detach().to(last)
            self._encoder = list(_spread(model.encoder.block, _encoder_layer, devices))
            self._decoder = list(_spread(model.decoder.block, _decoder_layer, devices))
        self._start = start_token
        self._biases: dict[int, Tensor] = {}

    def __call__(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """States (texts, width) of texts: their token ids (texts, length), and how many of them count (texts,).

        Both on the CPU: each look of the CPU at a number of the GPU's would wait for all before it.
        """
        device = self._embedding.device
        padded = bool((lengths < tokens.shape[1]).any())
        if device.type == "cuda" and tokens.shape[1] % _ALIGNED_LENGTH:
            tokens, padded = functional.pad(tokens, (0, -tokens.shape[1] % _ALIGNED_LENGTH)), True
        length = tokens.shape[1]
        tokens, lengths = moved(tokens, device), moved(lengths, device)
        outside = torch.arange(length, device=device)[None, :] >= lengths[:, None]
        mask = self._position_bias(length)
        if padded:
            mask = mask.masked_fill(outside[:, None, None, :], -math.inf)
        states = functional.embedding(tokens, self._embedding)
        for layer in self._encoder:
            states, mask = _beside(layer, states), _beside(layer, mask)
            states = self._encode(states, mask, layer, self._heads, self._epsilon)
        states = functional.rms_norm(states, states.shape[-1:], self._encoder_norm, self._epsilon)
        state = self._embedding[self._start].expand(len(tokens), -1)
        for layer in self._decoder:
            state, states, outside = _beside(layer, state), _beside(layer, states), _beside(layer, outside)
            state = self._decode(state, states, outside, layer, self._heads, self._epsilon)
        return functional.rms_norm(state, state.shape[-1:], self._decoder_norm, self._epsilon)

    def _position_bias(self, length: int) -> Tensor:
        """What the distance of two positions adds to their attention, (1, heads, length, length)."""
        if length not in self._biases:
            place = torch.arange(length, device=self._bias.device)
            bucket = relative_bucket(place[None, :] - place[:, None], self._buckets, self._distance)
            # One length mostly comes many times in a row, as texts are sorted by it.
            self._biases = {length: functional.embedding(bucket, self._bias).permute(2, 0, 1)[None].contiguous()}
        return self._biases[length]


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


class _FeedForward(NamedTuple):
    """norm (width,), inner (2 · inner width, width): gate and value, out (width, inner width)."""

    norm: Tensor
    inner: Tensor
    out: Tensor


class _EncoderLayer(NamedTuple):
    """norm (width,), qkv (3 · heads · head width, width), out (width, heads · head width)."""

    norm: Tensor
    qkv: Tensor
    out: Tensor
    feed_forward: _FeedForward


class _DecoderLayer(NamedTuple):
    """Self-attention: norm, value, out; cross-attention: norm, query, key and value (heads, head width, width), out."""

    own_norm: Tensor
    own_value: Tensor
    own_out: Tensor
    norm: Tensor
    query: Tensor
    key: Tensor
    value: Tensor
    out: Tensor
    feed_forward: _FeedForward


_Layer = _EncoderLayer | _DecoderLayer


def _spread(blocks: Any, make: Callable[[Any], Any], devices: Sequence[torch.device]) -> Iterator[Any]:
    """The layers of some blocks, each on its device; a block is let go as soon as its layer is made."""
    count = len(blocks)
    for number in range(count):
        layer = make(blocks[0])
        del blocks[0]
        yield _on(layer, devices[number * len(devices) // count])


def _on(weights: Any, device: torch.device) -> Any:
    if isinstance(weights, Tensor):
        return weights.detach().to(device)
    return type(weights)(*(_on(part, device) for part in weights))


def _beside(layer: _Layer, tensor: Tensor) -> Tensor:
    return tensor if tensor.device == layer.out.device else tensor.to(layer.out.device, non_blocking=True)


def _compile(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    # Sizes change from batch to batch; all layers are alike, so that one compilation serves them all.
    return torch.compile(function, dynamic=True)


def _feed_forward_of(layer: Any) -> _FeedForward:
    dense = layer.DenseReluDense
    return _FeedForward(layer.layer_norm.weight, torch.cat([dense.wi_0.weight, dense.wi_1.weight]), dense.wo.weight)


def _encoder_layer(block: Any) -> _EncoderLayer:
    attention = block.layer[0].SelfAttention
    qkv = torch.cat([attention.q.weight, attention.k.weight, attention.v.weight])
    norm = block.layer[0].layer_norm.weight
    return _EncoderLayer(norm, qkv, attention.o.weight, _feed_forward_of(block.layer[1]))


def _decoder_layer(block: Any) -> _DecoderLayer:
    own, cross = block.layer[0].SelfAttention, block.layer[1].EncDecAttention
    return _DecoderLayer(
        block.layer[0].layer_norm.weight,
        own.v.weight,
        own.o.weight,
        block.layer[1].layer_norm.weight,
        cross.q.weight,
        cross.k.weight.unflatten(0, (cross.n_heads, -1)),
        cross.v.weight.unflatten(0, (cross.n_heads, -1)),
        cross.o.weight,
        _feed_forward_of(block.layer[2]),
    )


def _encode(states: Tensor, mask: Tensor, layer: _EncoderLayer, heads: int, epsilon: float) -> Tensor:
    texts, length, width = states.shape
    normed = functional.rms_norm(states, (width,), layer.norm, epsilon)
    qkv = functional.linear(normed, layer.qkv).view(texts, length, 3, heads, -1).permute(2, 0, 3, 1, 4)
    # T5 does not scale: its initialisation does.
    query, key, value = qkv.unbind(0)
    mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=1.0)
    states = states + functional.linear(mixed.transpose(1, 2).reshape(texts, length, -1), layer.out)
    return _feed_forward(states, layer.feed_forward, epsilon)


def _decode(
    state: Tensor, encoded: Tensor, outside: Tensor, layer: _DecoderLayer, heads: int, epsilon: float
) -> Tensor:
    width = state.shape[-1:]
    # A single position attends to itself alone.
    normed = functional.rms_norm(state, width, layer.own_norm, epsilon)
    state = state + functional.linear(functional.linear(normed, layer.own_value), layer.own_out)
    normed = functional.rms_norm(state, width, layer.norm, epsilon)
    query = functional.linear(normed, layer.query).view(len(state), heads, -1)
    moved = torch.einsum("thk,hkw->thw", query, layer.key)
    scores = torch.einsum("thw,tlw->thl", moved, encoded).masked_fill(outside[:, None, :], -math.inf)
    weights = scores.float().softmax(-1).to(scores.dtype) if scores.dtype != torch.float64 else scores.softmax(-1)
    summed = torch.einsum("thl,tlw->thw", weights, encoded)
    mixed = torch.einsum("thw,hkw->thk", summed, layer.value).reshape(len(state), -1)
    return _feed_forward(state + functional.linear(mixed, layer.out), layer.feed_forward, epsilon)


def _feed_forward(states: Tensor, layer: _FeedForward, epsilon: float) -> Tensor:
    inner = functional.linear(functional.rms_norm(states, states.shape[-1:], layer.norm, epsilon), layer.inner)
    gate, value = inner.chunk(2, -1)
    return states + functional.linear(functional.gelu(gate, approximate="tanh") * value, layer.out)
