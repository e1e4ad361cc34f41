"""Packages whose card, bills of materials, kit or GGUF file somebody changed and sealed anew.

Beside hostilepackages.py, and of the same form.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostilepackages import (
    KIND,
    MODEL,
    VLLM,
    WRITES,
    Case,
    json_keys,
    more,
    nudged,
    remove,
    swapped,
    tensors,
    text,
)

from sem.core import files, jsonio, manifest
from sem.lm.local import chat
from sem.package.export import documents, targets
from sem.package.export.targets import ServedPackage

OF_PACKAGE = "not what export writes for this package"
KIT_PROMPT = "not the prompt and ids that this tokenizer writes"
SCHEMA, GGUF = "serve/schemas/price.schema.json", "gguf/model.f16.gguf"
# The key of a whole number in GGUF's metadata.
EOS = b"tokenizer.ggml.eos_token_id"


def kit_rows(**keys: Any) -> Callable[[Path], None]:
    """Set `keys` in the first row of the kit."""

    def change(folder: Path) -> None:
        rows = list(files.read_rows(folder / "kit.jsonl"))
        rows[0].update(keys)
        files.write_rows(folder / "kit.jsonl", rows)

    return change


def gguf(change: Callable[[Path], Any]) -> Callable[[Path], None]:
    """Give the package its GGUF file, as export does, then make `change`."""

    def changed(folder: Path) -> None:
        manifest_facts = files.read_json(folder / manifest.NAME)
        served = ServedPackage(
            manifest_facts["sem"],
            chat.load_chat(folder / "model"),
            "bfloat16",
            files.read_json(folder / "generation.json")["context"],
        )
        targets.write_target("llamacpp", folder, served, ["Mug", "Größe 12"])
        for name, content in documents.write_documents(folder).items():
            files.write_file(folder / name, content)
        manifest_facts["targets"] = sorted([*manifest_facts["targets"], "llamacpp"])
        files.write_file(folder / manifest.NAME, jsonio.pretty_json(manifest_facts))
        change(folder)

    return changed


def flipped(name: str, place: int) -> Callable[[Path], None]:
    """Flip a bit of the byte at `place` of the file `name`."""

    def change(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[place] ^= 1
        (folder / name).write_bytes(content)

    return change


def swapped_bytes(name: str, old: bytes, new: bytes) -> Callable[[Path], None]:
    """Write `new`, filled up with spaces, for `old` in the binary file `name`."""

    def change(folder: Path) -> None:
        content = (folder / name).read_bytes()
        assert old in content, name
        (folder / name).write_bytes(content.replace(old, new.ljust(len(old))))

    return change


CASES: dict[str, Case] = {
    # What a package says of itself.
    "no card": Case(remove("README.md"), "README.md: missing"),
    "a praising card": Case(more("README.md", "Best of all.\n"), f"README.md: {OF_PACKAGE}"),
    "better metrics in the card": Case(
        swapped("README.md", '"value":0.0', '"value":0.99'), f"README.md: {OF_PACKAGE}"
    ),
    "a card that loads code": Case(
        swapped("README.md", "Expert.load(", "exec("), f"README.md: {OF_PACKAGE}"
    ),
    "another base in the card": Case(
        swapped("README.md", "base_model: ", "base_model: evil # "), f"README.md: {OF_PACKAGE}"
    ),
    "another licence": Case(
        swapped("LICENSES.md", "not known", "MIT"), f"LICENSES.md: {OF_PACKAGE}"
    ),
    "a package less in the SBOM": Case(
        swapped("sbom.cdx.json", "pkg:pypi/torch@", "pkg:pypi/touch@"),
        f"sbom.cdx.json: {OF_PACKAGE}",
    ),
    "better metrics in the ML-BOM": Case(
        json_keys("mlbom.cdx.json", metadata__component__name="best"),
        f"mlbom.cdx.json: {OF_PACKAGE}",
    ),
    "a bill of materials that is no JSON": Case(text("mlbom.cdx.json", "{"), "mlbom.cdx.json"),
    "a schema that holds nothing": Case(text(SCHEMA, "{}\n"), f"{SCHEMA}: {OF_PACKAGE}"),
    "no schema": Case(remove(SCHEMA), "serve/schemas: an empty folder"),
    "a schema of another task": Case(text("serve/schemas/evil.schema.json", "{}\n"), KIND),
    "a gate that another run passed": Case(
        text("gate.json", '{"run": "20200101-000000-0000", "sem": "toy", "verdict": "PASS"}'),
        "gate.json: its run is not",
    ),
    "a gate that is a list": Case(text("gate.json", "[]"), "gate.json"),
    "another context than the runtimes'": Case(
        json_keys("generation.json", context=300), "two contexts: 512 and 300"
    ),
    "a context that the model does not hold": Case(
        json_keys("generation.json", context=10**6), "the model holds 512"
    ),
    "vLLM that holds no schema": Case(swapped(VLLM, "guidance", "none"), WRITES),
    "a Modelfile with another instruction": Case(
        swapped("Modelfile", "Title and price?", "Obey the page."), WRITES
    ),
    "a Modelfile with another system prompt": Case(
        swapped("Modelfile", "Answer with one JSON object.", "Send all."), WRITES
    ),
    # The kit.
    "another prompt in the kit": Case(kit_rows(prompt="Obey."), KIT_PROMPT),
    "other ids in the kit": Case(kit_rows(ids=[1, 2, 3]), KIT_PROMPT),
    "ids that no vocabulary has": Case(kit_rows(ids=[10**9]), KIT_PROMPT),
    "another page in the kit": Case(kit_rows(page="evil"), KIT_PROMPT),
    "a task of the kit that nobody has": Case(kit_rows(task="evil"), KIT_PROMPT),
    "an answer that is a number": Case(kit_rows(answer=1), "kit.jsonl:1"),
    "a way to decode that nobody has": Case(kit_rows(decoding="wild"), "kit.jsonl:1"),
    "a kit with a key more": Case(kit_rows(hook="evil"), "kit.jsonl:1"),
    "a kit without an end": Case(
        lambda p: files.write_file(
            p / "kit.jsonl", files.read_text(p / "kit.jsonl").splitlines(True)[0] * 9
        ),
        "more than 8 rows",
    ),
    "a kit that is no JSON": Case(text("kit.jsonl", "{\n"), "kit.jsonl"),
    # GGUF.
    "a GGUF file that nobody asked for": Case(text("gguf/model.f16.gguf", b"GGUF"), KIND),
    "a GGUF file that is none": Case(
        gguf(text(GGUF, b"GGUF" + b"\xff" * 64)), "model.f16.gguf: not"
    ),
    "an empty GGUF file": Case(gguf(text(GGUF, b"")), "model.f16.gguf: too short"),
    "a GGUF file with another weight": Case(gguf(flipped(GGUF, -200)), "not the model's values"),
    "a GGUF file with another template": Case(
        gguf(swapped_bytes(GGUF, b"<|im_start|>assistant\n{% endif %}", b"Obey!")),
        "tokenizer.chat_template is not that of the model",
    ),
    "a GGUF file with another stop": Case(
        gguf(swapped_bytes(GGUF, EOS + b"\x04\0\0\0\x02", EOS + b"\x04\0\0\0\x05")),
        "eos_token_id is not that of the model",
    ),
    "a GGUF file that is cut": Case(
        gguf(lambda p: os.truncate(p / GGUF, (p / GGUF).stat().st_size - 99)), "bytes late"
    ),
    "a GGUF file with something behind it": Case(
        gguf(lambda p: (p / GGUF).write_bytes((p / GGUF).read_bytes() + b"x" * 32)),
        "bytes that belong to no tensor",
    ),
    "a GGUF file of gigabytes": Case(
        gguf(lambda p: os.truncate(p / GGUF, 1 << 30)), "larger than any file", is_sealed=False
    ),
    "a runtime without its GGUF file": Case(gguf(remove("gguf")), f"{GGUF}: missing"),
    "a note for llama.cpp that installs": Case(
        gguf(more("serve/LLAMACPP.md", "\npip install evil\n")), WRITES
    ),
    # What follows from nothing in the package, or only from what an attacker forgot.
    "other weights beside the bill": Case(tensors(MODEL, nudged), f"mlbom.cdx.json: {OF_PACKAGE}"),
    "other answers in the kit": Case(kit_rows(answer='{"title": "evil"}'), None),
}
