"""LoRA over frozen linear layers that share an input, as one node of the graph.

PEFT makes five tensors of a layer's full size: a cast, two products, one times the scaling, the
sum. Here the low-rank product is added in place to the base product by the product itself, the
skinny products of layers with one input are joined, and so are their gradients.
"""

from functools import cache
from typing import Any


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
