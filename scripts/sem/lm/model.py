"""Load a base model, merge an adapter into it, write it out.

An adapter is always applied by merging: weights are added in fp32 and rounded once to the
base model's own dtype. What is evaluated is therefore, bit for bit, what is packaged.
"""

from pathlib import Path
from typing import Any

from sem.core import files
from sem.core.errors import SemError


def load(folder: Path, dtype: str, device: str = "cpu", **options: Any) -> Any:
    """The model in FOLDER in eval mode; safetensors only, no remote code.

    A causal model, or the sequence-to-sequence one that its config.json says. OPTIONS: further
    words for transformers, as quantization_config.
    """
    import torch

    refuse_foreign_code(folder)
    words = {
        "dtype": getattr(torch, dtype),
        "use_safetensors": True,
        "trust_remote_code": False,
        **options,
    }
    kind = _class(folder)
    try:
        model = kind.from_pretrained(folder, attn_implementation=_attention(folder), **words)
    except ValueError as error:
        # An architecture without attention, or with one of its own, has no fused one to ask for.
        if "attention" not in str(error):
            raise
        model = kind.from_pretrained(folder, attn_implementation="eager", **words)
    return (model if options else model.to(device)).eval()


def skeleton(folder: Path) -> Any:
    """The model in FOLDER without its weights: names and shapes, in no time and no memory."""
    import torch
    from transformers import AutoConfig

    refuse_foreign_code(folder)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    with torch.device("meta"):
        return _class(folder).from_config(config, trust_remote_code=False)


def is_transposed(layer: Any) -> bool:
    """Return True if `layer` is linear and holds its weight as (in, out), as GPT-2's do."""
    from transformers.pytorch_utils import Conv1D

    return isinstance(layer, Conv1D)


def _class(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    return AutoModelForSeq2SeqLM if _encodes(folder) else AutoModelForCausalLM


def _encodes(folder: Path) -> bool:
    return bool(files.read_json(folder / "config.json").get("is_encoder_decoder"))


def _attention(folder: Path) -> str | None:
    # T5 adds a bias to its scores, for which transformers has no fused attention.
    return None if _encodes(folder) else "sdpa"


def merged(model: Any, adapter: Path) -> Any:
    """MODEL with what was trained in ADAPTER (LoRA, DoRA or every weight), in place."""
    import torch
    from safetensors import safe_open

    config = files.read_json(adapter / "adapter_config.json")
    with safe_open(adapter / "adapter_model.safetensors", framework="pt") as tensors:
        if config.get("method") == "full":
            put(model, {name: tensors.get_tensor(name) for name in tensors.keys()}, adapter)  # noqa: SIM118
        else:
            _add(model, tensors, scale(config), bool(config.get("use_dora")))
    if not all(torch.isfinite(p).all() for p in model.parameters()):
        raise SemError(f"{adapter}: holds values that are not finite", "train it again")
    return model


def _add(model: Any, tensors: Any, factor: float, dora: bool) -> None:
    import torch

    modules = dict(model.named_modules())
    for name, pair in sorted(_pairs(list(tensors.keys()), dora).items()):
        a, b, *magnitude = (tensors.get_tensor(key).float() for key in pair)
        weight = modules[name].weight
        turned = is_transposed(modules[name])
        whole = (weight.T if turned else weight).cpu().float() + b @ a * factor
        if magnitude:  # DoRA: each output's direction is normed, its length learnt
            whole *= (magnitude[0] / whole.norm(dim=1))[:, None]
        with torch.no_grad():
            weight.copy_((whole.T if turned else whole).to(weight.dtype))


def put(model: Any, tensors: dict[str, Any], folder: Path) -> None:
    """Set MODEL's weights to TENSORS, by name; SemError when one is missing or of another shape.

    FOLDER is named in the error.
    """
    import torch

    weights = dict(model.named_parameters())
    if weights.keys() != tensors.keys():
        other = sorted(weights.keys() ^ tensors.keys())[0]
        raise SemError(f"{folder}: {other} is not in both models", "train it again on this base")
    for name, weight in weights.items():
        if weight.shape != tensors[name].shape:
            raise SemError(f"{folder}: {name} has another shape", "train it again on this base")
        with torch.no_grad():
            weight.copy_(tensors[name].to(weight.dtype))


def scale(config: dict[str, Any]) -> float:
    """What B·A is multiplied by: alpha/r, or alpha/sqrt(r) for rank-stabilised LoRA."""
    unsupported = [k for k in ("rank_pattern", "alpha_pattern") if config.get(k)]
    if unsupported:
        raise SemError(
            f"adapter_config.json: {unsupported[0]} is not merged here", "retrain plain"
        )
    rank = config["r"]
    return config["lora_alpha"] / (rank**0.5 if config.get("use_rslora") else rank)


def _pairs(keys: list[str], dora: bool) -> dict[str, tuple[str, ...]]:
    """Module -> the keys of its A, its B and, with DORA, its magnitudes."""
    found = {}
    for key in keys:
        name, _, rest = key.partition(".lora_A.")
        if rest:
            module = name.removeprefix("base_model.model.")
            magnitude = (f"{name}.lora_magnitude_vector",) if dora else ()
            found[module] = (key, key.replace(".lora_A.", ".lora_B."), *magnitude)
    if sorted(key for pair in found.values() for key in pair) != sorted(keys):
        raise SemError("the adapter holds tensors that are no LoRA pair", "train it with LoRA")
    return found


def refuse_foreign_code(folder: Path) -> None:
    """SemError when FOLDER's config asks for code or kernels from elsewhere."""
    config = files.read_json(folder / "config.json")
    for key, value in config.items():
        foreign = key == "auto_map" or (key.endswith("attn_implementation") and "/" in str(value))
        if foreign:
            raise SemError(f"{folder}/config.json: {key} asks for foreign code", "remove that key")


def save(model: Any, folder: Path) -> None:
    """Write MODEL's weights as one safetensors file with its config into FOLDER."""
    model.save_pretrained(folder, max_shard_size="100GB")
