"""Cross-entropy through a frozen head whose logits are not kept for the backward pass.

The gradient of the hidden states is p·W - W[target], row by row times what comes from above, so it
is made at once and the logits are dropped (as Liger and TRL's chunked loss do).
"""

from functools import cache
from typing import Any

TOKENS = 256  # logits at a time: 128 MiB in bf16 for 262k words
ROWS = 16  # of them in fp32 at a time: stays in the cache


def fits(head: Any, config: Any) -> bool:
    """True where HEAD is a frozen linear layer on a CPU whose logits are used as they are."""
    from torch import nn

    is_linear = type(head) is nn.Linear and head.bias is None
    if not is_linear or getattr(config, "final_logit_softcapping", None):
        return False
    return not head.weight.requires_grad and head.weight.device.type == "cpu"


def token_losses(hidden: Any, weight: Any, targets: Any) -> Any:
    """Cross-entropy of each row of HIDDEN (tokens, size) in fp32; 0 where TARGETS is below 0."""
    return _function().apply(hidden.to(weight.dtype), weight, targets)


@cache
def _function() -> Any:
    import torch

    class Head(torch.autograd.Function):
        """Losses and their gradient in one pass."""

        @staticmethod
        def forward(ctx: Any, hidden: Any, weight: Any, targets: Any) -> Any:
            values, change = _losses(hidden, weight, targets, ctx.needs_input_grad[0])
            ctx.save_for_backward(change)
            return values

        @staticmethod
        def backward(ctx: Any, grad: Any) -> tuple[Any, None, None]:
            (change,) = ctx.saved_tensors
            return (change.float() * grad[:, None]).to(change.dtype), None, None

    return Head


def _losses(hidden: Any, weight: Any, targets: Any, wanted: bool) -> tuple[Any, Any]:
    import torch

    wide = torch.empty(ROWS, len(weight), dtype=torch.float32)
    values = torch.empty(len(hidden), dtype=torch.float32)
    change = torch.empty_like(hidden) if wanted else None
    goals = targets.clamp(min=0)[:, None]
    for start in range(0, len(hidden), TOKENS):
        logits = hidden[start : start + TOKENS] @ weight.mT
        for row in range(0, len(logits), ROWS):
            at = slice(start + row, start + row + len(logits[row : row + ROWS]))
            values[at] = _row_losses(logits[row : row + ROWS], goals[at], wide, wanted)
        if wanted:
            change[start : start + TOKENS] = logits @ weight
    shut = targets < 0
    values.masked_fill_(shut, 0.0)
    return values, change.masked_fill_(shut[:, None], 0.0) if wanted else None


def _row_losses(logits: Any, goals: Any, wide: Any, wanted: bool) -> Any:
    """The losses of LOGITS, which become softmax minus one-hot where that is WANTED."""
    wide = wide[: len(logits)].copy_(logits)
    top = wide.amax(-1, keepdim=True)
    chosen = wide.gather(1, goals)
    total = wide.sub_(top).exp_().sum(-1, keepdim=True)
    if wanted:
        wide.div_(total)
        logits.copy_(wide.scatter_add_(1, goals, wide.new_full(goals.shape, -1.0)))
    return (total.log() + top - chosen)[:, 0]
