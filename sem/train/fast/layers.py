"""Put the faster parts into the decoder layers of a model whose layers are known."""

import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sem.train.fast import fused, interface, lowrank

# Tokens of a run: compiling costs about half a minute, once a machine.
COMPILES_FROM = 100_000


@dataclass(frozen=True)
class Family:
    """How the layers of one architecture compute what differs; `act`: the activation it needs."""

    prefix: str
    norm: Callable[..., Any]
    gate: Callable[..., Any]
    turn: Callable[..., Any]
    act: str
    eps: str


LLAMA = (fused.norm, fused.silu_gate, fused.rotate_positions, "silu", "variance_epsilon")
FAMILIES = {
    "llama": Family("Llama", *LLAMA),
    "qwen2": Family("Qwen2", *LLAMA),
    "qwen3": Family(
        "Qwen3", fused.norm, fused.silu_gate, fused.norm_turn, "silu", "variance_epsilon"
    ),
    "gemma3_text": Family(
        "Gemma3",
        fused.norm_from_one,
        fused.gelu_gate,
        fused.norm_from_one_turn,
        "gelu_pytorch_tanh",
        "eps",
    ),
}


def speed_up(model: Any, tokens: int) -> list[str]:
    """Make `model`, which will be trained on `tokens`, faster in place; what was done, in words.

    Modules, names and weights stay as they are. `model`: a causal model or a PeftModel over one,
    on a CPU. Differences to the plain path are of rounding in the model's dtype.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    family = FAMILIES.get(inner.config.model_type)
    if inner.device.type != "cpu":
        return [f"layers as they are: made for CPUs, this is {inner.device.type}"]
    if family is None or _activation(inner.config) != family.act:
        return [f"layers as they are: {inner.config.model_type} is not known here"]
    notes = ["attention in blocks", "low-rank products in place"]
    run, note = _runner(tokens)
    inner.set_attn_implementation(interface.register_blocked_attention())
    for module in inner.modules():
        name = type(module).__name__.removeprefix(family.prefix)
        if type(module).__name__.startswith(family.prefix) and name in _FORWARDS:
            forward = _FORWARDS[name](module, family, run)
            module.forward = types.MethodType(forward, module)
    return [*notes, note]


def _activation(config: Any) -> str:
    return getattr(config, "hidden_activation", None) or getattr(config, "hidden_act", "")


def _runner(tokens: int) -> tuple[Callable[..., Any], str]:
    """Return what calls the functions of `fused`, compiled where that pays and works."""
    if tokens < COMPILES_FROM:
        return _plainly, f"not compiled: fewer than {COMPILES_FROM:,} tokens"
    reason = fused.why_not()
    if reason:
        return _plainly, f"not compiled: {reason}"
    return _compiled, "norms, gates and rotations compiled"


def _plainly(function: Callable[..., Any], *args: Any) -> Any:
    return function(*args)


def _compiled(function: Callable[..., Any], *args: Any) -> Any:
    # One token is a shape of its own; only generation has it.
    return (function if len(args[0]) == 1 else fused.compiled(function))(*args)


def _norm(module: Any, family: Family, run: Callable[..., Any]) -> Callable[..., Any]:
    eps = getattr(module, family.eps)

    def forward(self: Any, hidden_states: Any) -> Any:
        flat = hidden_states.reshape(-1, hidden_states.shape[-1])
        return run(family.norm, flat, self.weight, eps).view(hidden_states.shape)

    return forward


def _mlp(module: Any, family: Family, run: Callable[..., Any]) -> Callable[..., Any]:
    def forward(self: Any, x: Any) -> Any:
        gate, up = lowrank.project_together(x, [self.gate_proj, self.up_proj])
        inner = run(family.gate, gate.flatten(0, -2), up.flatten(0, -2)).view(gate.shape)
        return lowrank.project_together(inner, [self.down_proj])[0]

    return forward


def _attention(module: Any, family: Family, run: Callable[..., Any]) -> Callable[..., Any]:
    plain, scale = type(module).forward, ()
    if hasattr(module, "q_norm"):
        scale = (module.q_norm.weight, module.k_norm.weight, getattr(module.q_norm, family.eps))

    def forward(
        self: Any,
        hidden_states: Any,
        position_embeddings: Any,
        attention_mask: Any = None,
        past_key_values: Any = None,
        **kwargs: Any,
    ) -> tuple[Any, None]:
        if past_key_values is not None:  # generation
            return plain(
                self, hidden_states, position_embeddings, attention_mask, past_key_values, **kwargs
            )
        rows, width, _ = hidden_states.shape
        projections = lowrank.project_together(
            hidden_states, [self.q_proj, self.k_proj, self.v_proj]
        )
        query, key, value = (
            tensor.view(rows * width, -1, self.head_dim) for tensor in projections
        )
        cos, sin = (
            tensor.expand(rows, -1, -1).reshape(rows * width, 1, -1)
            for tensor in position_embeddings
        )
        query, key = run(family.turn, query, key, cos, sin, *scale)
        states = (
            tensor.view(rows, width, -1, self.head_dim).transpose(1, 2)
            for tensor in (query, key, value)
        )
        dropout = self.attention_dropout if self.training else 0.0
        window = getattr(self, "sliding_window", None)
        out, _ = interface.attend_sequence(
            self,
            *states,
            attention_mask,
            dropout=dropout,
            scaling=self.scaling,
            sliding_window=window,
        )
        return lowrank.project_together(out.reshape(rows, width, -1), [self.o_proj])[0], None

    return forward


_FORWARDS = {"RMSNorm": _norm, "MLP": _mlp, "Attention": _attention}
