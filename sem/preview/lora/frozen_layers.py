"""The lower layers of a base model, left as they are: every row passes them once.

Where a machine is too slow for LoRA in every layer, a preview trains the last UPPER of them. What
stands below is the same for both trainings and every scoring, so that what it makes of a row is
kept: (tokens, width) in the model's dtype. Layers stay in their places, because some families
give each its own mask and rotation.
"""

import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# Of the layers: 4 of SmolLM2-135M's 30.
UPPER = 0.15


@dataclass
class FrozenLayers:
    """The first `count` of `of` layers, and what they make of rows by their token ids."""

    count: int
    of: int
    states: dict[tuple[int, ...], Any] = field(default_factory=dict)
    # The rows that pass now.
    batch: tuple[tuple[int, ...], ...] = ()
    # Whether what passes now is kept.
    keeps: bool = False

    @property
    def trained(self) -> int:
        """Layers that are trained."""
        return self.of - self.count

    @property
    def knows(self) -> bool:
        """Return whether all rows that pass now have passed before."""
        return bool(self.batch) and all(ids in self.states for ids in self.batch)


def frozen_layers_of(config: Mapping[str, Any]) -> FrozenLayers | None:
    """Return the layers below the last UPPER of a causal model of `config`.

    None where there are none.
    """
    layers = int(config.get("num_hidden_layers") or 0)
    count = layers - max(1, round(layers * UPPER))
    return None if config.get("is_encoder_decoder") or count < 1 else FrozenLayers(count, layers)


def install_frozen_layers(model: Any, lower: FrozenLayers) -> None:
    """Take the adapters out of `model`'s `lower` layers, which then know what they have seen."""
    decoder = _decoder(model)
    decoder.register_forward_pre_hook(_watch(lower), with_kwargs=True)
    for number, layer in enumerate(decoder.layers[: lower.count]):
        for name, part in list(layer.named_modules()):
            if hasattr(part, "base_layer"):
                layer.set_submodule(name, part.base_layer)
        is_last = number == lower.count - 1
        layer.forward = types.MethodType(_forward(layer.forward, lower, is_last), layer)


def run_frozen_layers(model: Any, lower: FrozenLayers, batches: Iterator[dict[str, Any]]) -> None:
    """Let `batches` pass the `lower` layers of `model` alone, and keep what comes out."""
    from torch.nn import ModuleList

    decoder = _decoder(model)
    every = decoder.layers
    decoder.layers, lower.keeps = ModuleList(every[: lower.count]), True
    try:
        for batch in batches:
            decoder(
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                use_cache=False,
            )
    finally:
        decoder.layers, lower.keeps = every, False


def select_unseen_rows(lower: FrozenLayers, rows: Sequence[Any]) -> list[Any]:
    """Return those of `rows` (things with `ids`) that have not passed, each once, the shortest
    first.
    """
    new = {row.ids: row for row in rows if row.ids not in lower.states}
    return sorted(new.values(), key=lambda row: (len(row.ids), row.id))


def _decoder(model: Any) -> Any:
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return inner.get_decoder()


def _watch(lower: FrozenLayers) -> Any:
    """Return a hook that notes which rows come in."""

    def note(_: Any, args: tuple[Any, ...], words: dict[str, Any]) -> None:
        ids, mask = words["input_ids"], words.get("attention_mask")
        sizes = [ids.shape[1]] * len(ids) if mask is None else mask.sum(dim=1).tolist()
        pairs = zip(ids.tolist(), sizes, strict=True)
        lower.batch = tuple(tuple(row[: int(size)]) for row, size in pairs)

    return note


def _forward(plain: Any, lower: FrozenLayers, is_last: bool) -> Any:
    """Return `plain` of a layer, not called for rows that have passed before."""

    def forward(self: Any, hidden_states: Any, *args: Any, **words: Any) -> Any:
        if lower.knows:
            return _filled(hidden_states, lower) if is_last else hidden_states
        outputs = plain(hidden_states, *args, **words)
        if is_last and lower.keeps:
            for ids, states in zip(lower.batch, outputs, strict=True):
                lower.states[ids] = states[: len(ids)].detach().clone()
        return outputs

    return forward


def _filled(hidden: Any, lower: FrozenLayers) -> Any:
    """Return what the rows that pass now left here before; zeros where `hidden` only fills up."""
    import torch

    states = torch.zeros_like(hidden)
    for place, ids in enumerate(lower.batch):
        states[place, : len(ids)] = lower.states[ids]
    return states
