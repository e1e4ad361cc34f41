"""A model's head: what the model does around it, and cross-entropy without keeping its logits.

What it does around the head is asked of its own forward (`finish_of`). Through a frozen head the
gradient of the hidden states is p·W - W[target], row by row times what comes from above, so it
is made at once and the logits are dropped (as Liger and TRL's chunked loss do).
"""

from dataclasses import dataclass
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

from sem.core.errors import SemError

# Logits at a time: 128 MiB in bf16 for 262k words.
TOKENS = 256
# Of them in fp32 at a time: stays in the cache.
ROWS = 16
# That a model is shown to see what it does around its head.
ASKED_TOKENS = 8
# Powers of ten of the logits it is given: from where a cap changes nothing to where it is all.
GRID = (-3, 4)
# relative; states in bf16 are compared at BF16_CLOSE.
CLOSE = 1e-4
BF16_CLOSE = 2e-2


@dataclass(frozen=True)
class HeadScaling:
    """What a model does around its head: states times `before`, logits times `scale`, a `cap`.

    Granite divides its logits, Cohere multiplies them, Falcon H1 does, Gemma 2 caps them by
    cap * tanh(logits / cap), MiniCPM 3 scales the states.
    """

    before: float = 1.0
    scale: float = 1.0
    cap: float | None = None

    def apply(self, logits: Any) -> Any:
        """Return `logits` (fp32) as the model itself leaves them."""
        import torch

        scaled = logits if self.scale == 1.0 else logits * self.scale
        return scaled if self.cap is None else torch.tanh(scaled / self.cap) * self.cap


_FINISHES: WeakKeyDictionary[Any, HeadScaling] = WeakKeyDictionary()


def finish_of(inner: Any) -> HeadScaling:
    """Return what `inner`, a causal model, does around its head, by asking its own forward once.

    The head is shown a few tokens; its output is exchanged for known numbers, and what the model
    returns says what it does to logits. SemError when that is none of what `Finish` can say.
    """
    if inner.config.is_encoder_decoder:
        # `_decoded` scales states by itself.
        return HeadScaling()
    if inner not in _FINISHES:
        _FINISHES[inner] = _ask_finish(inner)
    return _FINISHES[inner]


def _ask_finish(inner: Any) -> HeadScaling:
    import torch

    capture: dict[str, Any] = {}

    def note(_: Any, args: tuple[Any, ...], output: Any) -> Any:
        half = torch.logspace(*GRID, output.shape[-1] // 2, device=output.device)
        grid = torch.cat([-half, half, half[: output.shape[-1] % 2]])
        capture["states"], capture["grid"] = args[0], grid
        return grid.expand(output.shape)

    was_training = inner.training
    ids = torch.arange(ASKED_TOKENS, device=inner.device)[None] + 1
    hook = inner.get_output_embeddings().register_forward_hook(note)
    try:
        inner.eval()
        with torch.no_grad():
            logits = inner(input_ids=ids, use_cache=False).logits
            hidden = inner.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
    finally:
        hook.remove()
        inner.train(was_training)
    if not capture:
        # Unsloth multiplies by the head's weight itself; its own forward caps by the config.
        return HeadScaling(cap=getattr(inner.config, "final_logit_softcapping", None) or None)
    scale, cap = _scale_and_cap(capture["grid"], logits.flatten(0, 1)[0].float(), inner)
    return HeadScaling(_factor(hidden, capture["states"], inner), scale, cap)


def _scale_and_cap(grid: Any, logits: Any, inner: Any) -> tuple[float, float | None]:
    import torch

    if logits.shape == grid.shape:
        # The smallest above zero.
        first = len(grid) // 2
        scale = _rounded_factor((logits[first] / grid[first]).item(), CLOSE)
        if torch.allclose(logits, grid * scale, rtol=CLOSE):
            return scale, None
        cap = logits.max().item()
        if torch.allclose(logits, torch.tanh(grid * scale / cap) * cap, rtol=CLOSE, atol=1e-6):
            return scale, cap
    raise _unknown(inner, "does something to its logits")


def _factor(hidden: Any, states: Any, inner: Any) -> float:
    import torch

    if hidden.shape == states.shape:
        if torch.equal(hidden, states):
            return 1.0
        ours, theirs = hidden.float(), states.float()
        # Mamba's states are fp32 until its head rounds them.
        is_half = {hidden.dtype, states.dtype} & {torch.bfloat16, torch.float16}
        close = BF16_CLOSE if is_half else CLOSE
        factor = _rounded_factor(((ours * theirs).sum() / (ours * ours).sum()).item(), close)
        if (ours * factor - theirs).norm() <= close * theirs.norm():
            return factor
    raise _unknown(inner, "does something to its states before the head")


def _rounded_factor(factor: float, close: float) -> float:
    return 1.0 if abs(factor - 1.0) < close else factor


def _unknown(inner: Any, what: str) -> SemError:
    return SemError(
        f"a {inner.config.model_type} model {what} that training does not know",
        "use another base model",
    )


def is_supported_head(head: Any, config: Any) -> bool:
    """True where `head` is a frozen linear layer on a CPU whose logits are used as they are."""
    from torch import nn

    is_linear = type(head) is nn.Linear and head.bias is None
    if not is_linear or getattr(config, "final_logit_softcapping", None):
        return False
    return not head.weight.requires_grad and head.weight.device.type == "cpu"


def token_losses(hidden: Any, weight: Any, targets: Any) -> Any:
    """Cross-entropy of each row of `hidden` (tokens, size) in fp32.

    0 where `targets` is below 0.
    """
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


def _losses(hidden: Any, weight: Any, targets: Any, needs_grad: bool) -> tuple[Any, Any]:
    import torch

    wide = torch.empty(ROWS, len(weight), dtype=torch.float32)
    values = torch.empty(len(hidden), dtype=torch.float32)
    change = torch.empty_like(hidden) if needs_grad else None
    goals = targets.clamp(min=0)[:, None]
    for start in range(0, len(hidden), TOKENS):
        logits = hidden[start : start + TOKENS] @ weight.mT
        for row in range(0, len(logits), ROWS):
            at = slice(start + row, start + row + len(logits[row : row + ROWS]))
            values[at] = _row_losses(logits[row : row + ROWS], goals[at], wide, needs_grad)
        if needs_grad:
            change[start : start + TOKENS] = logits @ weight
    shut = targets < 0
    values.masked_fill_(shut, 0.0)
    return values, change.masked_fill_(shut[:, None], 0.0) if needs_grad else None


def _row_losses(logits: Any, goals: Any, wide: Any, needs_grad: bool) -> Any:
    """Return the losses of `logits`, which become softmax minus one-hot where `needs_grad`."""
    wide = wide[: len(logits)].copy_(logits)
    top = wide.amax(-1, keepdim=True)
    target_logits = wide.gather(1, goals)
    total = wide.sub_(top).exp_().sum(-1, keepdim=True)
    if needs_grad:
        wide.div_(total)
        logits.copy_(wide.scatter_add_(1, goals, wide.new_full(goals.shape, -1.0)))
    return (total.log() + top - target_logits)[:, 0]
