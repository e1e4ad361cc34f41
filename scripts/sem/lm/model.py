"""Load a base model, merge an adapter into it, write it out.

An adapter is always applied by merging: weights are added in fp32 and rounded once to the
base model's own dtype. What is evaluated is therefore, bit for bit, what is packaged.
"""

from pathlib import Path
from typing import Any

from sem.core import files
from sem.core.errors import SemError


def load(folder: Path, dtype: str, device: str = "cpu") -> Any:
    """The causal model in FOLDER in eval mode; safetensors only, no remote code."""
    import torch
    from transformers import AutoModelForCausalLM

    refuse_foreign_code(folder)
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=getattr(torch, dtype),
        use_safetensors=True,
        trust_remote_code=False,
        attn_implementation="sdpa",
    )
    return model.to(device).eval()


def merged(model: Any, adapter: Path) -> Any:
    """MODEL with the LoRA in ADAPTER added to its weights, in place."""
    import torch
    from safetensors import safe_open

    config = files.read_json(adapter / "adapter_config.json")
    modules = dict(model.named_modules())
    with safe_open(adapter / "adapter_model.safetensors", framework="pt") as tensors:
        pairs = _pairs(list(tensors.keys()))
        for name, (a, b) in sorted(pairs.items()):
            weight = modules[name].weight
            delta = tensors.get_tensor(b).float() @ tensors.get_tensor(a).float()
            scaled = delta * scale(config)
            with torch.no_grad():
                weight.copy_((weight.cpu().float() + scaled).to(weight.dtype))
    if not all(torch.isfinite(p).all() for p in model.parameters()):
        raise SemError(f"{adapter}: holds values that are not finite", "train it again")
    return model


def scale(config: dict[str, Any]) -> float:
    """What B·A is multiplied by: alpha/r, or alpha/sqrt(r) for rank-stabilised LoRA."""
    unsupported = [k for k in ("use_dora", "rank_pattern", "alpha_pattern") if config.get(k)]
    if unsupported:
        raise SemError(
            f"adapter_config.json: {unsupported[0]} is not merged here", "retrain plain"
        )
    rank = config["r"]
    return config["lora_alpha"] / (rank**0.5 if config.get("use_rslora") else rank)


def _pairs(keys: list[str]) -> dict[str, tuple[str, str]]:
    found = {}
    for key in keys:
        name, _, rest = key.partition(".lora_A.")
        if rest:
            module = name.removeprefix("base_model.model.")
            found[module] = (key, key.replace(".lora_A.", ".lora_B."))
    if len(found) * 2 != len(keys):
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
