"""The elementwise parts of a decoder layer; `torch.compile` makes each one pass over memory.

Written as transformers writes them, so that they run as they stand where nothing compiles them.
"""

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

Function = Callable[..., Any]


def norm(states: Any, weight: Any, eps: float) -> Any:
    """RMSNorm of Llama and Qwen: rounded, then scaled."""
    return weight * _unit(states, eps).to(states.dtype)


def norm_from_one(states: Any, weight: Any, eps: float) -> Any:
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
    """Return `query` and `key` (tokens, heads, size) turned by their positions (Su et al.

    2021).
    """
    return _turned(query, cos, sin), _turned(key, cos, sin)


def norm_turn(query: Any, key: Any, cos: Any, sin: Any, *scale: Any) -> tuple[Any, Any]:
    """Return `turn` after `norm`; `scale`: the weights of both and eps."""
    return rotate_positions(
        norm(query, scale[0], scale[2]), norm(key, scale[1], scale[2]), cos, sin
    )


def norm_from_one_turn(query: Any, key: Any, cos: Any, sin: Any, *scale: Any) -> tuple[Any, Any]:
    """Return `turn` after `norm_from_one`; `scale`: the weights of both and eps."""
    query_states, key_states = (
        norm_from_one(query, scale[0], scale[2]),
        norm_from_one(key, scale[1], scale[2]),
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
def compiled(function: Function) -> Function:
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
        compiled(norm)(states, torch.ones(8, dtype=torch.bfloat16), 1e-6).sum().backward()
    except (BackendCompilerFailed, InductorError, TorchDynamoException, OSError) as error:
        return str(error).strip().splitlines()[0]
    return None
