"""What of a model is trained: a LoRA around it, or every weight; written out and read back.

An adapter folder holds adapter_config.json and adapter_model.safetensors, also after a full
fine-tune: there the file holds every trained weight and the config says `"method": "full"`.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sem.core import files, jsonio
from sem.core.errors import SemError
from sem.lm.local import model as models
from sem.train.recipe import Recipe

# The layers that make queries and values, where each has its own, in the names of the families.
QUERIES_AND_VALUES = (("q_proj", "v_proj"), ("q", "v"), ("query", "value"), ("q_lin", "v_lin"))
WAY_OUT = "use lora.targets: attention, or method: full, which trains every weight"


def prepare_trainable_model(model: Any, recipe: Recipe) -> Any:
    """Return `model` ready to train as `recipe` says.

    It is wrapped in a LoRA with fp32 weights, or is itself in fp32.
    """
    if recipe.method == "full":
        # bf16 loses updates of 2e-4 on weights near 0.05.
        model.float()
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        return model
    from peft import get_peft_model

    config = lora_config(recipe, model)
    try:
        return get_peft_model(model, config, autocast_adapter_dtype=True)
    except ValueError as error:
        # PEFT knows layers whose fused kernels would pass an adapter by, as Mamba's out_proj.
        reason = str(error).splitlines()[0]
        raise SemError(f"lora.targets: {recipe.lora.targets}: {reason}", WAY_OUT) from error


def lora_config(recipe: Recipe, model: Any) -> Any:
    """Return the recipe's adapter in PEFT's words, for `model`'s layers."""
    from peft import LoraConfig

    kind = "SEQ_2_SEQ_LM" if model.config.is_encoder_decoder else "CAUSAL_LM"
    names = linear_targets(model, recipe.lora.targets)
    layers = linear_layers(model)
    return LoraConfig(
        r=recipe.lora.rank,
        lora_alpha=recipe.lora.alpha,
        lora_dropout=recipe.lora.dropout,
        use_rslora=recipe.lora.rslora,
        use_dora=recipe.lora.dora,
        target_modules=names,
        fan_in_fan_out=all(models.is_transposed(layer) for layer in layers.values()),
        task_type=kind,
    )


def linear_targets(model: Any, targets: str) -> list[str]:
    """Return the names of the linear layers of `model` that all-linear, attention or qv means.

    The model is asked: all-linear is every linear layer but the head, attention those inside a
    module that is called so. SemError when `targets` names no layer, or when all-linear would
    leave matrices out that no adapter can stand around.
    """
    layers = linear_layers(model)
    kind = model.config.model_type
    if targets == "all-linear":
        _refuse_bare_matrices(model)
        names = set(layers)
    else:
        names = {name for name in layers if _is_in_attention(model, name)}
    if targets == "qv":
        names = _queries_and_values(names, kind)
    if not names:
        raise SemError(
            f"lora.targets: {targets} names no layer of a {kind} model",
            f"its linear layers are {', '.join(sorted(set(map(_last, layers))))}: "
            "use all-linear, or method: full",
        )
    suffixes = {_last(name) for name in names}
    # PEFT takes a name as the end of a path: LFM2's out_proj stands in attention and in the
    # convolution, and a head may be called as a layer is.
    everything = {name for name, _ in model.named_modules() if _last(name) in suffixes}
    return sorted(suffixes if everything == names else names)


def linear_layers(model: Any) -> dict[str, Any]:
    """Return the linear layers of `model` by their path, the head left out."""
    import torch

    head = model.get_output_embeddings()
    return {
        name: layer
        for name, layer in model.named_modules()
        if (isinstance(layer, torch.nn.Linear) or models.is_transposed(layer))
        and layer is not head
    }


def adapted_share(model: Any, targets: str) -> tuple[int, int, float]:
    """Return how many linear layers `targets` adapts, of how many, and its share of weights.

    Matrices that are not layers, as fused experts, count among the weights.
    """
    layers, names = linear_layers(model), linear_targets(model, targets)
    adapted_names = [name for name in layers if name in names or _last(name) in names]
    sizes = {name: layer.weight.numel() for name, layer in layers.items()}
    whole = sum(sizes.values()) + sum(weight.numel() for _, weight in _bare_matrices(model))
    return len(adapted_names), len(layers), sum(sizes[name] for name in adapted_names) / whole


def trained_weights(model: Any, recipe: Recipe) -> int:
    """Return how many weights training `model` as `recipe` says changes."""
    if recipe.method == "full":
        return sum(parameter.numel() for parameter in model.parameters())
    layers, names = linear_layers(model), linear_targets(model, recipe.lora.targets)
    sides = [
        sum(layer.weight.shape)
        for name, layer in layers.items()
        if name in names or _last(name) in names
    ]
    return recipe.lora.rank * sum(sides)


def _refuse_bare_matrices(model: Any) -> None:
    """Raise SemError when `model` multiplies by matrices that are not layers, as fused experts
    are.
    """
    for name, _ in _bare_matrices(model):
        raise SemError(
            f"lora.targets: all-linear would leave out {name}: a matrix of a "
            f"{model.config.model_type} model that is not a layer of its own",
            WAY_OUT,
        )


def _bare_matrices(model: Any) -> Iterator[tuple[str, Any]]:
    import torch

    layer_types = (torch.nn.Linear, torch.nn.Embedding, torch.nn.modules.conv._ConvNd)
    for path, module in model.named_modules():
        # Cohere's is (heads, width).
        is_norm = "norm" in type(module).__name__.lower()
        if isinstance(module, layer_types) or models.is_transposed(module) or is_norm:
            continue
        for name, weight in module.named_parameters(recurse=False):
            # Mamba's A_log has two sides as a router's weight has, but multiplies nothing.
            if weight.ndim == 3 or (weight.ndim == 2 and name == "weight"):
                yield f"{path}.{name}", weight


def _is_in_attention(model: Any, name: str) -> bool:
    path = name.split(".")
    parents = [model.get_submodule(".".join(path[:depth])) for depth in range(1, len(path))]
    return any("attention" in type(parent).__name__.lower() for parent in parents)


def _queries_and_values(attention: set[str], kind: str) -> set[str]:
    for pair in QUERIES_AND_VALUES:
        names = {name for name in attention if _last(name) in pair}
        if {_last(name) for name in names} == set(pair):
            return names
    raise SemError(
        f"lora.targets: qv: a {kind} model has no layers of its own for queries and values",
        "use lora.targets: attention or all-linear",
    )


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def save_trained_weights(model: Any, folder: Path, base_model_id: str, recipe: Recipe) -> None:
    """Write what was trained in `model` into `folder`.

    Raise SemError when a weight is not finite.
    """
    refuse_infinite(model, "after training")
    if recipe.method == "full":
        _save_full(model, folder, base_model_id)
        return
    model.save_pretrained(folder)
    path = folder / "adapter_config.json"
    config = files.read_object(path)
    # PEFT's order changes with the hash seed; unsloth's is one pattern, and PEFT reads a list.
    config["target_modules"] = _adapted(model)
    # unsloth: its generated module; task_type says the class.
    config["auto_mapping"] = None
    # Not this machine's path.
    config["base_model_name_or_path"] = base_model_id
    files.write_file(path, jsonio.pretty_json(config))
    (folder / "README.md").unlink(missing_ok=True)


def load_trained_weights(model: Any, folder: Path, recipe: Recipe) -> None:
    """Put the weights that `save` wrote into `folder` back into `model`, which `wrap` made."""
    from safetensors.torch import load_file

    tensors = load_file(folder / "adapter_model.safetensors")
    if recipe.method == "full":
        models.set_weights(model, tensors, folder)
        return
    from peft import set_peft_model_state_dict

    result = set_peft_model_state_dict(model, tensors)
    if result.unexpected_keys:
        raise SemError(
            f"{folder}: unexpected tensor {result.unexpected_keys[0]}", "train it again"
        )


def refuse_infinite(model: Any, when: str) -> None:
    """Raise SemError when a trained weight of `model` is not finite."""
    import torch

    for name, weight in trained_tensors(model):
        if not torch.isfinite(weight).all():
            raise SemError(f"{name} is not finite {when}", "lower train.learning_rate")


def trained_tensors(model: Any) -> Sequence[tuple[str, Any]]:
    """Return the names and weights of `model` that training changes."""
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]


def _adapted(model: Any) -> list[str]:
    """Return the names of the layers that an adapter stands around in `model`, as PEFT reads
    them.
    """
    base = model.get_base_model()
    around = {
        name for name, _ in base.named_modules() if hasattr(base.get_submodule(name), "lora_A")
    }
    suffixes = {_last(name) for name in around}
    # Inside an adapted layer stands the layer itself, as `base_layer`.
    everything = {name for name, _ in base.named_modules() if _last(name) in suffixes}
    return sorted(suffixes if everything == around else around)


def _save_full(model: Any, folder: Path, base_model_id: str) -> None:
    import torch
    from safetensors.torch import save_file

    # A head tied to the embeddings is one weight, and stands here once.
    tensors = {
        name: p.detach().to(torch.float32).contiguous() for name, p in trained_tensors(model)
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    facts = {"method": "full", "base_model_name_or_path": base_model_id}
    files.write_file(folder / "adapter_config.json", jsonio.pretty_json(facts))
