"""Put the faster parts into the decoder layers of a model whose layers are known."""

import os
import types
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from sem.train.fast import attention

# The elementwise parts of a decoder layer; `torch.compile` makes each one pass over memory.
#
# Written as transformers writes them, so that they run as they stand where nothing compiles
# them.

Function = Callable[..., Any]


def llama_rms_norm(states: Any, weight: Any, eps: float) -> Any:
    """RMSNorm of Llama and Qwen: rounded, then scaled."""
    return weight * _unit(states, eps).to(states.dtype)


def gemma_rms_norm(states: Any, weight: Any, eps: float) -> Any:
    """RMSNorm of Gemma: scaled by 1 + `weight`, then rounded."""
    return (_unit(states, eps) * (1.0 + weight.float())).to(states.dtype)


def silu_gate(gate: Any, up: Any) -> Any:
    """SwiGLU without its products (Shazeer 2020)."""
    from torch.nn.functional import silu

    return silu(gate) * up


def gelu_gate(gate: Any, up: Any) -> Any:
    """GeGLU without its products (Shazeer 2020)."""
    from torch.nn.functional import gelu

    return gelu(gate, approximate="tanh") * up


def rotate_positions(query: Any, key: Any, cos: Any, sin: Any) -> tuple[Any, Any]:
    """Return `query` and `key` (tokens, heads, size) turned by their positions.

    Source: Su et al. 2021.
    """
    return _turned(query, cos, sin), _turned(key, cos, sin)


def norm_turn(query: Any, key: Any, cos: Any, sin: Any, *scale: Any) -> tuple[Any, Any]:
    """Return `turn` after `norm`; `scale`: the weights of both and eps."""
    return rotate_positions(
        llama_rms_norm(query, scale[0], scale[2]),
        llama_rms_norm(key, scale[1], scale[2]),
        cos,
        sin,
    )


def norm_from_one_turn(query: Any, key: Any, cos: Any, sin: Any, *scale: Any) -> tuple[Any, Any]:
    """Return `turn` after `norm_from_one`; `scale`: the weights of both and eps."""
    query_states, key_states = (
        gemma_rms_norm(query, scale[0], scale[2]),
        gemma_rms_norm(key, scale[1], scale[2]),
    )
    return rotate_positions(query_states, key_states, cos, sin)


def _unit(states: Any, eps: float) -> Any:
    wide = states.float()
    return wide * (wide.pow(2).mean(-1, keepdim=True) + eps).rsqrt()


def _turned(states: Any, cos: Any, sin: Any) -> Any:
    import torch

    first, second = states.chunk(2, dim=-1)
    return states * cos + torch.cat((-second, first), dim=-1) * sin


@cache
def compile_function(function: Function) -> Function:
    """Return `function` compiled for any number of tokens."""
    import torch

    return torch.compile(function, dynamic=True)


@cache
def why_not() -> str | None:
    """Return None where this machine compiles, else the reason.

    Found by compiling one function.
    """
    import torch
    from torch._dynamo.exc import BackendCompilerFailed, TorchDynamoException
    from torch._inductor import config
    from torch._inductor.exc import InductorError

    # Not /tmp, where others may have put a library of that name before.
    home = Path.home() / ".cache" / "sem" / "inductor"
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(home))
    # In this process: a killed run leaves no compiler pool behind.
    config.compile_threads = 1
    states = torch.ones(64, 8, dtype=torch.bfloat16, requires_grad=True)
    try:
        compile_function(llama_rms_norm)(
            states, torch.ones(8, dtype=torch.bfloat16), 1e-6
        ).sum().backward()
    except (BackendCompilerFailed, InductorError, TorchDynamoException, OSError) as error:
        return str(error).strip().splitlines()[0]
    return None


# LoRA over frozen linear layers that share an input, as one node of the graph.
#
# PEFT makes five tensors of a layer's full size: a cast, two products, one times the scaling,
# the sum. Here the low-rank product is added in place to the base product by the product itself,
# the skinny products of layers with one input are joined, and so are their gradients.


def project_together(inputs: Any, layers: list[Any]) -> tuple[Any, ...]:
    """Return what each of `layers` makes of `inputs`.

    Together where they are plain LoRA, else each alone.
    """
    if not all(is_plain(layer) for layer in layers):
        return tuple(layer(inputs) for layer in layers)
    parts: list[Any] = []
    for layer in layers:
        name, base = layer.active_adapters[0], layer.base_layer
        parts += [base.weight, base.bias, layer.lora_A[name].weight, layer.lora_B[name].weight]
    scales = tuple(layer.scaling[layer.active_adapters[0]] for layer in layers)
    flat = inputs.reshape(-1, inputs.shape[-1]).to(parts[0].dtype)
    outputs = _function().apply(flat, scales, *parts)
    return tuple(out.view(*inputs.shape[:-1], -1) for out in outputs)


def is_plain(layer: Any) -> bool:
    """True where `layer` now adds one LoRA to a frozen linear layer, with nothing between."""
    from peft.tuners.lora import Linear
    from torch import nn

    if type(layer) is not Linear or type(layer.base_layer) is not nn.Linear:
        return False
    names = layer.active_adapters
    if len(names) != 1 or names[0] not in layer.lora_A or layer.disable_adapters or layer.merged:
        return False
    # DoRA and its kin are variants; an inactive dropout is an Identity, or not in training.
    has_dropout = layer.training and not isinstance(layer.lora_dropout[names[0]], nn.Identity)
    is_varied = names[0] in layer.lora_variant or layer.lora_bias[names[0]]
    return not (has_dropout or is_varied or layer.base_layer.weight.requires_grad)


@cache
def _function() -> Any:
    import torch

    class LowRank(torch.autograd.Function):
        """y = x·Wᵀ + b + x·Aᵀ·(s·B)ᵀ of several layers; W and b are frozen."""

        @staticmethod
        def forward(ctx: Any, inputs: Any, scales: tuple[float, ...], *parts: Any) -> Any:
            outputs, saved = _forward(inputs, scales, parts)
            ctx.save_for_backward(*saved)
            ctx.scales, ctx.dtype = scales, parts[2].dtype
            return tuple(outputs)

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
            needs_inputs_grad = ctx.needs_input_grad[0]
            return _backward(grads, ctx.saved_tensors, ctx.scales, ctx.dtype, needs_inputs_grad)

    return LowRank


def _forward(inputs: Any, scales: tuple[float, ...], parts: tuple[Any, ...]) -> Any:
    import torch

    weights, biases, downs, ups = (parts[n::4] for n in range(4))
    down = torch.cat(downs).to(inputs.dtype)
    ups = [(up * scale).to(inputs.dtype) for up, scale in zip(ups, scales, strict=True)]
    low = inputs @ down.mT
    lows = low.split([up.shape[1] for up in ups], dim=1)
    outputs = [
        torch.nn.functional.linear(inputs, weight, bias).addmm_(part, up.mT)
        for weight, bias, part, up in zip(weights, biases, lows, ups, strict=True)
    ]
    return outputs, (inputs, low, down, *weights, *ups)


def _backward(
    grads: Any, saved: Any, scales: tuple[float, ...], dtype: Any, needs_inputs_grad: bool
) -> tuple[Any, ...]:
    import torch

    inputs, low, down, *rest = saved
    weights, ups = rest[: len(grads)], rest[len(grads) :]
    ranks = [up.shape[1] for up in ups]
    to_low = torch.cat([grad @ up for grad, up in zip(grads, ups, strict=True)], dim=1)
    to_down = (to_low.mT @ inputs).to(dtype).split(ranks)
    to_inputs = to_low @ down if needs_inputs_grad else None
    gradients = [to_inputs, None]
    for grad, weight, part, scale, change in zip(
        grads, weights, low.split(ranks, dim=1), scales, to_down, strict=True
    ):
        if needs_inputs_grad:
            to_inputs.addmm_(grad, weight)
        gradients += [None, None, change, (grad.mT @ part).to(dtype).mul_(scale)]
    return tuple(gradients)


# Tokens of a run: compiling costs about half a minute, once a machine.
COMPILES_FROM = 100_000


@dataclass(frozen=True)
class LayerFamily:
    """How the layers of one architecture compute what differs; `act`: the activation it needs."""

    prefix: str
    norm: Callable[..., Any]
    gate: Callable[..., Any]
    turn: Callable[..., Any]
    act: str
    eps: str


LLAMA = (llama_rms_norm, silu_gate, rotate_positions, "silu", "variance_epsilon")
FAMILIES = {
    "llama": LayerFamily("Llama", *LLAMA),
    "qwen2": LayerFamily("Qwen2", *LLAMA),
    "qwen3": LayerFamily(
        "Qwen3", llama_rms_norm, silu_gate, norm_turn, "silu", "variance_epsilon"
    ),
    "gemma3_text": LayerFamily(
        "Gemma3",
        gemma_rms_norm,
        gelu_gate,
        norm_from_one_turn,
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
    inner.set_attn_implementation(attention.register_blocked_attention())
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
    reason = why_not()
    if reason:
        return _plainly, f"not compiled: {reason}"
    return _compiled, "norms, gates and rotations compiled"


def _plainly(function: Callable[..., Any], *args: Any) -> Any:
    return function(*args)


def _compiled(function: Callable[..., Any], *args: Any) -> Any:
    # One token is a shape of its own; only generation has it.
    return (function if len(args[0]) == 1 else compile_function(function))(*args)


def _norm(module: Any, family: LayerFamily, run: Callable[..., Any]) -> Callable[..., Any]:
    eps = getattr(module, family.eps)

    def forward(self: Any, hidden_states: Any) -> Any:
        flat = hidden_states.reshape(-1, hidden_states.shape[-1])
        return run(family.norm, flat, self.weight, eps).view(hidden_states.shape)

    return forward


def _mlp(module: Any, family: LayerFamily, run: Callable[..., Any]) -> Callable[..., Any]:
    def forward(self: Any, x: Any) -> Any:
        gate, up = project_together(x, [self.gate_proj, self.up_proj])
        inner = run(family.gate, gate.flatten(0, -2), up.flatten(0, -2)).view(gate.shape)
        return project_together(inner, [self.down_proj])[0]

    return forward


def _attention(module: Any, family: LayerFamily, run: Callable[..., Any]) -> Callable[..., Any]:
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
        projections = project_together(hidden_states, [self.q_proj, self.k_proj, self.v_proj])
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
        out, _ = attention.attend_sequence(
            self,
            *states,
            attention_mask,
            dropout=dropout,
            scaling=self.scaling,
            sliding_window=window,
        )
        return project_together(out.reshape(rows, width, -1), [self.o_proj])[0], None

    return forward


_FORWARDS = {"RMSNorm": _norm, "MLP": _mlp, "Attention": _attention}
