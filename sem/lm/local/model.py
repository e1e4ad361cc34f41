"""Load a base model, merge an adapter into it, write it out.

An adapter is always applied by merging: weights are added in fp32 and rounded once to the
base model's own dtype. What is evaluated is therefore, bit for bit, what is packaged.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sem.core import files
from sem.core.errors import SemError


def load_model(folder: Path, dtype: str, device: str = "cpu", **options: Any) -> Any:
    """Load the model in `folder` in eval mode; safetensors only, no remote code.

    A causal model, or the sequence-to-sequence one that its config.json says. `options`: further
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


def load_skeleton(folder: Path) -> Any:
    """Return the model in `folder` without its weights: names and shapes, in no time."""
    import torch
    from transformers import AutoConfig

    refuse_foreign_code(folder)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    with torch.device("meta"):
        return _class(folder).from_config(config, trust_remote_code=False)


def import_classes() -> None:
    """Import what loads models: seconds that a forked process then does not take again."""
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401
    from transformers.generation import utils  # noqa: F401


def is_transposed(layer: Any) -> bool:
    """Return True if `layer` is linear and holds its weight as (in, out), as GPT-2's do."""
    from transformers.pytorch_utils import Conv1D

    return isinstance(layer, Conv1D)


def _class(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    return AutoModelForSeq2SeqLM if is_encoder_decoder(folder) else AutoModelForCausalLM


def is_encoder_decoder(folder: Path) -> bool:
    """Return True if the model in `folder` is an encoder-decoder by its config.json."""
    return bool(read_config(folder / "config.json").get("is_encoder_decoder"))


def read_config(path: Path) -> dict[str, Any]:
    """Return the config in `path`, empty where there is none.

    Raise SemError when it is not an object.
    """
    return files.read_object(path, "restore the model's own file") if path.exists() else {}


def _attention(folder: Path) -> str | None:
    # T5 adds a bias to its scores, for which transformers has no fused attention.
    return None if is_encoder_decoder(folder) else "sdpa"


def merge_adapter(model: Any, adapter: Path) -> Any:
    """Return `model` with what was trained in `adapter` (LoRA, DoRA or every weight), in place."""
    import torch
    from safetensors import safe_open

    config = files.read_object(adapter / "adapter_config.json")
    with safe_open(adapter / "adapter_model.safetensors", framework="pt") as tensors:
        if config.get("method") == "full":
            names = list(tensors.keys())
            set_weights(model, {name: tensors.get_tensor(name) for name in names}, adapter)
        else:
            _add(model, tensors, lora_scale(config), bool(config.get("use_dora")))
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
        # DoRA: each output's direction is normed, its length learnt.
        if magnitude:
            whole *= (magnitude[0] / whole.norm(dim=1))[:, None]
        with torch.no_grad():
            weight.copy_((whole.T if turned else whole).to(weight.dtype))


def set_weights(model: Any, tensors: dict[str, Any], folder: Path) -> None:
    """Set `model`'s weights to `tensors`, by name.

    Raise SemError when one is missing or of another shape.

    `folder` is named in the error.
    """
    import torch

    weights = dict(model.named_parameters())
    if weights.keys() != tensors.keys():
        other = sorted(weights.keys() ^ tensors.keys())[0]
        raise SemError(f"{folder}: {other} is not in both models", "train it again on this base")
    for name, weight in weights.items():
        if weight.shape != tensors[name].shape:
            raise SemError(
                f"{folder}: {name} has a different shape", "train it again on this base"
            )
        with torch.no_grad():
            weight.copy_(tensors[name].to(weight.dtype))


def lora_scale(config: dict[str, Any]) -> float:
    """Return what B·A is multiplied by: alpha/r, or alpha/sqrt(r) for rank-stabilised LoRA."""
    unsupported = [k for k in ("rank_pattern", "alpha_pattern") if config.get(k)]
    if unsupported:
        raise SemError(
            f"adapter_config.json: {unsupported[0]} cannot be merged", "train again without it"
        )
    rank = config["r"]
    return config["lora_alpha"] / (rank**0.5 if config.get("use_rslora") else rank)


def _pairs(keys: list[str], dora: bool) -> dict[str, tuple[str, ...]]:
    """Module -> the keys of its A, its B and, with `dora`, its magnitudes."""
    pairs = {}
    for key in keys:
        name, _, rest = key.partition(".lora_A.")
        if rest:
            module = name.removeprefix("base_model.model.")
            magnitude = (f"{name}.lora_magnitude_vector",) if dora else ()
            pairs[module] = (key, key.replace(".lora_A.", ".lora_B."), *magnitude)
    if sorted(key for pair in pairs.values() for key in pair) != sorted(keys):
        raise SemError(
            "the adapter holds tensors that are not a LoRA pair",
            "train it again with method: lora",
        )
    return pairs


CONFIGS = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "adapter_config.json",
    "preprocessor_config.json",
)
# Keys that name code to fetch and run, wherever they stand.
_CODE_KEYS = {
    "auto_map",
    "auto_mapping",
    "custom_generate",
    "custom_pipelines",
    "trust_remote_code",
}


def refuse_foreign_code(folder: Path) -> None:
    """Check that no config in `folder` asks for foreign code or kernels, at any depth."""
    for name in CONFIGS:
        if (folder / name).exists():
            for key, value in _nested(files.read_json(folder / name)):
                if _is_foreign(key, value):
                    raise SemError(
                        f"{folder}/{name}: {key} asks for foreign code", "remove that key"
                    )


def _nested(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every (key, value) in `value`, parsed JSON; a key of a key as `key.inner`."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield f"{key}.{name}" if key else name, inner
            yield from _nested(inner, f"{key}.{name}" if key else name)
    elif isinstance(value, list):
        for inner in value:
            yield from _nested(inner, key)


def _is_foreign(key: str, value: Any) -> bool:
    names = key.split(".")
    if names[-1] in _CODE_KEYS:
        return bool(value)
    # `attn_implementation: org/kernel@rev:function` fetches a kernel; also one for each part of a
    # model, as {text_config: org/kernel}.
    asks = any(name.endswith("implementation") or "kernel" in name for name in names)
    # `org/repo--module.Class` is how a config names a class of another repository.
    names_class = names[-1].endswith("_class") and "--" in str(value)
    return isinstance(value, str) and (names_class or (asks and bool(set(value) & set("/:"))))


def find_misfit_tensors(folder: Path) -> dict[str, set[str]]:
    """Return which tensors in `folder` do not fit its config.json, by kind; reads no weights."""
    refuse_foreign_code(folder)
    _, facts = _class(folder).from_pretrained(
        folder,
        device_map="meta",
        output_loading_info=True,
        ignore_mismatched_sizes=True,
        use_safetensors=True,
        trust_remote_code=False,
    )
    kinds = {
        "missing": facts["missing_keys"],
        "unknown to this architecture": facts["unexpected_keys"],
        "of another shape": {mismatch[0] for mismatch in facts["mismatched_keys"]},
        "cannot be read": set(facts.get("error_msgs") or ()),
    }
    return {kind: {str(key) for key in keys} for kind, keys in kinds.items() if keys}


def adapter_misfit(model: Any, adapter: Path) -> str:
    """Return what in `adapter` does not fit `model`, in words; empty when everything does."""
    from safetensors import safe_open

    config = files.read_object(adapter / "adapter_config.json")
    with safe_open(adapter / "adapter_model.safetensors", framework="pt") as tensors:
        shapes = {key: list(tensors.get_slice(key).get_shape()) for key in tensors.keys()}  # noqa: SIM118
    if config.get("method") == "full":
        expected = {name: list(weight.shape) for name, weight in model.named_parameters()}
    else:
        modules, expected = dict(model.named_modules()), {}
        for name, keys in _pairs(list(shapes), bool(config.get("use_dora"))).items():
            if name not in modules or not hasattr(modules[name], "weight"):
                return f"{name} is not a layer of this model"
            sides = list(modules[name].weight.shape)
            out, into = reversed(sides) if is_transposed(modules[name]) else sides
            a, b, *magnitude = keys
            expected |= {a: [config["r"], into], b: [out, config["r"]]}
            expected |= {key: [out] for key in magnitude}
    other = sorted(
        key for key in shapes.keys() | expected.keys() if shapes.get(key) != expected.get(key)
    )
    return f"{other[0]} does not fit this model" if other else ""


def save_weights(model: Any, folder: Path) -> None:
    """Write `model`'s weights as one safetensors file with its config into `folder`."""
    model.save_pretrained(folder, max_shard_size="100GB")
