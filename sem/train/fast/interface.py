"""Blocked attention under a name that transformers knows, without masks where it needs none."""

from typing import Any

from sem.train.fast import attention

NAME = "sem_blocks"


def register_blocked_attention() -> str:
    """Return the name under which a model can be told to use blocked attention."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, attend_sequence)
    AttentionMaskInterface.register(NAME, mask)
    return NAME


def mask(*args: Any, **kwargs: Any) -> Any:
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
    return attention.blocked_attention(
        query, key, value, scale, kwargs.get("sliding_window")
    ), None
