"""Train runs of the project `toy` with the real unsloth on a CPU; what was seen goes to a file.

    SEM_ROOT=… PYTHON_WITH_UNSLOTH tests/train/unsloth_cpu.py SEEN.json RUN [RUN …]

Unsloth has a mode for a CPU that its own tests use. It leaves out the rewriting of TRL's trainers,
which is done here as on a GPU, and it asks the card four things. Each RUN is trained, then taken
back to its checkpoint before the last one, and resumed.
"""

import json
import os
import shutil
import sys
import types
from pathlib import Path
from typing import Any

os.environ |= {
    "UNSLOTH_ALLOW_CPU": "1",
    "TRITON_INTERPRET": "1",
    "UNSLOTH_ENABLE_FLEX_ATTENTION": "0",
    # What it generates runs uncompiled: minutes less.
    "TORCHDYNAMO_DISABLE": "1",
}


def main(out: Path, names: list[str]) -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from sem.core.project import Project
    from sem.core.run import find_run
    from sem.train.engine import backend_unsloth
    from sem.train.run import plan

    usual, early = backend_unsloth.import_unsloth, []

    def on_a_card(cache: Path | None = None) -> Any:
        early.append(not {"transformers", "trl", "peft"} & set(sys.modules) or bool(early))
        found = usual(cache or Path(os.environ["SEM_ROOT"]))
        if len(early) == 1:
            as_on_a_card(found)
        return found

    backend_unsloth.import_unsloth = on_a_card
    project, seen = Project.load("toy"), {}
    for name in names:
        run = find_run(project, name, finished=False)
        with watching() as watched:
            plan.train_prepared(project, run, resume=False)
        seen[name] = watched | {"imported_first": all(early)}
        if checkpoints(run.folder)[1:]:
            first = (run.adapter / "adapter_model.safetensors").read_bytes()
            back(run.folder)
            resumed = plan.train_prepared(project, run, resume=True)
            seen[name]["resumed_from"] = resumed["resumed_from"]
            again = (run.adapter / "adapter_model.safetensors").read_bytes()
            seen[name]["bit_equal"] = again == first
    out.write_text(json.dumps(seen, indent=1))


def as_on_a_card(unsloth: Any) -> None:
    """Answers for what unsloth asks the card, and TRL's trainers rewritten as there."""
    import torch
    from unsloth.models import llama, rl

    card = types.SimpleNamespace(
        name="CPU", total_memory=8 << 30, major=0, minor=0, multi_processor_count=1
    )
    torch.cuda.get_device_properties = lambda *_, **__: card
    torch.cuda.get_device_capability = lambda *_, **__: (0, 0)
    torch.cuda.mem_get_info = lambda *_, **__: (8 << 30, 8 << 30)
    torch.cuda.synchronize = lambda *_, **__: None
    llama.get_current_device, llama.DEVICE_COUNT = (lambda: "cpu"), OneCard(1)
    del os.environ["UNSLOTH_ALLOW_CPU"]
    rl.PatchFastRL(FastLanguageModel=llama.FastLlamaModel)
    os.environ["UNSLOTH_ALLOW_CPU"] = "1"
    usual = unsloth.FastLanguageModel.from_pretrained

    def here(**words: Any) -> Any:
        return usual(**words, device_map="cpu", attn_implementation="sdpa")

    unsloth.FastLanguageModel.from_pretrained = staticmethod(here)


class OneCard(int):
    """The number of cards; a list of that many is found by a CPU's index, which is None."""

    def __rmul__(self, values: list[Any]) -> list[Any]:
        return ByCard(values)


class ByCard(list):
    """What unsloth keeps for each card; a CPU has no number, and is the first."""

    def __getitem__(self, card: Any) -> Any:
        return super().__getitem__(0)

    def __setitem__(self, card: Any, value: Any) -> None:
        super().__setitem__(0, value)


class watching:
    """Counts what our own loss is asked, and by whom."""

    def __enter__(self) -> dict[str, Any]:
        from sem.train.engine import trainer

        self.usual = usual = trainer.SemTrainerMixin.compute_loss
        seen = {"losses": 0, "trainer": [], "left_in_inference": 0, "model": "", "trained": 0}

        def counted(self: Any, model: Any, *args: Any, **words: Any) -> Any:
            inner = self.accelerator.unwrap_model(model)
            base = inner.get_base_model() if hasattr(inner, "get_base_model") else inner
            seen["losses"] += 1
            seen["trainer"] = [f"{kind.__module__}.{kind.__name__}" for kind in type(self).__mro__]
            seen["left_in_inference"] += any(
                "_flag_for_generation" in vars(part) for part in inner.modules()
            )
            seen["model"] = f"{type(base).__module__}.{type(base).__name__}"
            seen["trained"] = sum(p.numel() for p in inner.parameters() if p.requires_grad)
            return usual(self, model, *args, **words)

        trainer.SemTrainerMixin.compute_loss = counted
        return seen

    def __exit__(self, *error: Any) -> None:
        from sem.train.engine import trainer

        trainer.SemTrainerMixin.compute_loss = self.usual


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in `folder`, by step."""
    return sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))


def back(folder: Path) -> None:
    """Take the run in `folder` back to where its last checkpoint was not written yet."""
    (folder / "manifest.json").unlink()
    shutil.rmtree(folder / "adapter")
    shutil.rmtree(checkpoints(folder)[-1])


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
