"""Causal attention in blocks of queries: what the mask would hide is not computed.

PyTorch's CPU kernel takes the backward pass in small pieces; here both passes are batched matrix
products with a softmax in fp32 between. Scores are rounded to the model's dtype, as in
transformers' eager attention. Grouped queries meet their key head without copies of it.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any

# Queries at a time: fewer waste less above the diagonal, more multiply faster.
BLOCK = 256
# Scores up to which a layer keeps its probabilities; above, they are made again.
KEPT = 2**23

# First key, first query, end of both.
Block = tuple[int, int, int]


def blocked_attention(query: Any, key: Any, value: Any, scale: float, window: int | None) -> Any:
    """softmax(`scale` · q·k) · v where a query sees itself and the `window` - 1 positions before
    it.

    `query` of shape (rows, heads, width, size), `key` and `value` with as many heads or a divisor
    of them. The result has shape (rows, width, heads, size).
    """
    # Autocast over fp32 weights makes bf16 values; rotation has made the other two fp32.
    query, key = query.to(value.dtype), key.to(value.dtype)
    return _function().apply(query, key, value, scale, window)


@cache
def _function() -> Any:
    import torch

    class Causal(torch.autograd.Function):
        """Forward and backward over the same blocks."""

        @staticmethod
        def forward(ctx: Any, query: Any, key: Any, value: Any, *how: Any) -> Any:
            out, saved_probs = _forward(query, key, value, *how)
            ctx.save_for_backward(query, key, value, *saved_probs)
            ctx.how = how
            return out

        @staticmethod
        def backward(ctx: Any, grad: Any) -> tuple[Any, ...]:
            return (*_backward(grad, ctx.saved_tensors, *ctx.how), None, None)

    return Causal


def _forward(query: Any, key: Any, value: Any, scale: float, window: int | None) -> Any:
    rows, heads, width, size = query.shape
    out = query.new_empty(rows, width, heads, size)
    is_small, saved_probs = rows * heads * width * width <= KEPT, []
    for first, start, stop in _blocks(width, window):
        probs = _probabilities(query, key, scale, window, (first, start, stop))
        context = probs @ value[:, :, first:stop]
        out[:, start:stop] = context.view(rows, heads, stop - start, size).transpose(1, 2)
        saved_probs += [probs] if is_small else []
    return out, saved_probs


def _backward(grad: Any, saved: tuple[Any, ...], scale: float, window: int | None) -> Any:
    import torch

    query, key, value, *saved_probs = saved
    grad, (rows, heads, width, size) = grad.transpose(1, 2), query.shape
    to_query, to_key, to_value = (torch.zeros_like(tensor) for tensor in (query, key, value))
    for number, block in enumerate(_blocks(width, window)):
        first, start, stop = block
        probs = (
            saved_probs[number]
            if saved_probs
            else _probabilities(query, key, scale, window, block)
        )
        above = _grouped(grad, start, stop, key.shape[1])
        to_value[:, :, first:stop].add_(probs.mT @ above)
        change = above @ value[:, :, first:stop].mT
        change = torch._softmax_backward_data(change, probs, -1, probs.dtype)
        queries = _grouped(query, start, stop, key.shape[1]) * scale
        to_key[:, :, first:stop].add_(change.mT @ queries)
        block_grad = (change @ key[:, :, first:stop]) * scale
        to_query[:, :, start:stop] = block_grad.view(rows, heads, stop - start, size)
    return to_query, to_key, to_value


def _probabilities(query: Any, key: Any, scale: float, window: int | None, block: Block) -> Any:
    """Return probabilities of shape (rows, key heads, queries of a group, keys)."""
    first, start, stop = block
    rows, groups = key.shape[:2]
    scores = (_grouped(query, start, stop, groups) * scale) @ key[:, :, first:stop].mT
    hidden = _hidden(stop - start, stop - first, window, scores.dtype)
    split = scores.view(rows, groups, -1, stop - start, stop - first)
    # `+=` would copy the slice onto itself.
    split[..., -hidden.shape[1] :].add_(hidden)
    return scores.softmax(-1)


def _grouped(states: Any, start: int, stop: int, groups: int) -> Any:
    """Return the queries `start` to `stop` of all heads that share a key head, one below the
    other.
    """
    return states[:, :, start:stop].reshape(states.shape[0], groups, -1, states.shape[3])


def _blocks(width: int, window: int | None) -> Iterator[Block]:
    for start in range(0, width, BLOCK):
        # A multiple of 64: few distinct shapes.
        first = max(0, start - window + 1) // 64 * 64 if window else 0
        yield first, start, min(start + BLOCK, width)


@cache
def _hidden(queries: int, keys: int, window: int | None, dtype: Any) -> Any:
    """0 where the last `queries` of `keys` may look, -inf elsewhere.

    Only the columns that vary.
    """
    import torch

    at, to = torch.arange(keys - queries, keys)[:, None], torch.arange(keys)
    shut = to > at
    if window and keys > window:
        shut |= at - to >= window
    else:
        shut = shut[:, -queries:]
    return torch.zeros(shut.shape, dtype=dtype).masked_fill_(shut, float("-inf"))


# Blocked attention under a name that transformers knows, without masks where it needs none.

NAME = "sem_blocks"


def register_blocked_attention() -> str:
    """Return the name under which a model can be told to use blocked attention."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, attend_sequence)
    AttentionMaskInterface.register(NAME, build_attention_mask)
    return NAME


def build_attention_mask(*args: Any, **kwargs: Any) -> Any:
    """Return None where causality alone decides; PyTorch's mask elsewhere.

    Padding on the right needs no mask: what stands before it never sees it, and what is padded
    carries no label.
    """
    from transformers.masking_utils import sdpa_mask

    padding = kwargs.get("attention_mask")
    is_whole = kwargs["q_length"] == kwargs["kv_length"] > 1 and not kwargs.get("q_offset", 0)
    is_right = padding is None or not bool((padding[:, 1:] > padding[:, :-1]).any())
    if kwargs.get("allow_is_causal_skip") and is_whole and is_right:
        return None
    return sdpa_mask(*args, **kwargs)


def attend_sequence(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **kwargs: Any
) -> tuple[Any, None]:
    """Blocked attention over a whole sequence; PyTorch's for masks, caches and dropout."""
    is_plain = attention_mask is None and 1 < query.shape[2] == key.shape[2]
    if not is_plain or kwargs.get("dropout") or not getattr(module, "is_causal", False):
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    scale = kwargs.get("scaling") or query.shape[-1] ** -0.5
    return blocked_attention(query, key, value, scale, kwargs.get("sliding_window")), None
