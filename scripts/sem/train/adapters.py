"""What of a model is trained: a LoRA around it, or every weight; written out and read back.

An adapter folder holds adapter_config.json and adapter_model.safetensors, also after a full
fine-tune: there the file holds every trained weight and the config says `"method": "full"`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sem.core import files, jsonio
from sem.core.errors import SemError
from sem.lm import model as models
from sem.train.recipe import Recipe

# Linear layers by what they do, in the names of each family; all-linear is every one of them.
FAMILIES = {
    "llama": {
        "qv": ("q_proj", "v_proj"),
        "attention": ("q_proj", "k_proj", "v_proj", "o_proj"),
        "all-linear": ("gate_proj", "up_proj", "down_proj"),
    },
    "t5": {
        "qv": ("q", "v"),
        "attention": ("q", "k", "v", "o"),
        "all-linear": ("wi", "wi_0", "wi_1", "wo"),
    },
}


def wrap(model: Any, recipe: Recipe) -> Any:
    """MODEL ready to train as RECIPE says: in a LoRA with fp32 weights, or itself in fp32."""
    if recipe.method == "full":
        model.float()  # bf16 loses updates of 2e-4 on weights near 0.05
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        return model
    from peft import get_peft_model

    return get_peft_model(model, lora_config(recipe, model), autocast_adapter_dtype=True)


def lora_config(recipe: Recipe, model: Any) -> Any:
    """The recipe's adapter in PEFT's words, for MODEL's family."""
    from peft import LoraConfig

    kind = "SEQ_2_SEQ_LM" if model.config.is_encoder_decoder else "CAUSAL_LM"
    return LoraConfig(
        r=recipe.lora.rank,
        lora_alpha=recipe.lora.alpha,
        lora_dropout=recipe.lora.dropout,
        use_rslora=recipe.lora.rslora,
        use_dora=recipe.lora.dora,
        target_modules=targets(model, recipe.lora.targets),
        task_type=kind,
    )


def targets(model: Any, wanted: str) -> list[str]:
    """The names of MODEL's linear layers that WANTED (all-linear, attention, qv) means."""
    import torch

    family = FAMILIES["t5" if model.config.model_type in ("t5", "mt5") else "llama"]
    names = {name.rpartition(".")[2] for name, part in model.named_modules()
             if isinstance(part, torch.nn.Linear)}  # fmt: skip
    means = {*family[wanted], *(family["attention"] if wanted == "all-linear" else ())}
    if not means & names:
        raise SemError(
            f"lora.targets: {wanted} names no layer of a {model.config.model_type} model",
            f"its linear layers are {', '.join(sorted(names))}: use method: full",
        )
    return sorted(means & names)


def save(model: Any, folder: Path, base_model_id: str, recipe: Recipe) -> None:
    """Write what was trained in MODEL into FOLDER; SemError when a weight is not finite."""
    refuse_infinite(model, "after training")
    if recipe.method == "full":
        _save_full(model, folder, base_model_id)
        return
    model.save_pretrained(folder)
    path = folder / "adapter_config.json"
    config = files.read_json(path)
    # PEFT's order changes with the hash seed; unsloth's is one pattern, and PEFT reads a list.
    config["target_modules"] = _adapted(model)
    config["auto_mapping"] = None  # unsloth: its generated module; task_type says the class
    config["base_model_name_or_path"] = base_model_id  # not this machine's path
    files.write(path, jsonio.pretty(config))
    (folder / "README.md").unlink(missing_ok=True)


def load(model: Any, folder: Path, recipe: Recipe) -> None:
    """Put the weights that `save` wrote into FOLDER back into MODEL, which `wrap` made."""
    from safetensors.torch import load_file

    tensors = load_file(folder / "adapter_model.safetensors")
    if recipe.method == "full":
        models.put(model, tensors, folder)
        return
    from peft import set_peft_model_state_dict

    found = set_peft_model_state_dict(model, tensors)
    if found.unexpected_keys:
        raise SemError(f"{folder}: holds {found.unexpected_keys[0]}", "train it again")


def refuse_infinite(model: Any, when: str) -> None:
    """SemError when a trained weight of MODEL is not finite."""
    import torch

    for name, weight in trained(model):
        if not torch.isfinite(weight).all():
            raise SemError(f"{name} is not finite {when}", "lower train.learning_rate")


def trained(model: Any) -> Sequence[tuple[str, Any]]:
    """The names and weights of MODEL that training changes."""
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]


def _adapted(model: Any) -> list[str]:
    """The names of the layers that an adapter stands around in MODEL."""
    names = [name.partition(".lora_")[0] for name, _ in trained(model) if ".lora_" in name]
    return sorted({name.rpartition(".")[2] for name in names})


def _save_full(model: Any, folder: Path, base_model_id: str) -> None:
    import torch
    from safetensors.torch import save_file

    # A head tied to the embeddings is one weight, and stands here once.
    tensors = {name: p.detach().to(torch.float32).contiguous() for name, p in trained(model)}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    facts = {"method": "full", "base_model_name_or_path": base_model_id}
    files.write(folder / "adapter_config.json", jsonio.pretty(facts))
