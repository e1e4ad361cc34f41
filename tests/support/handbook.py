"""A small Q&A project over documents: settings, TaskSpec and a folder of Markdown files."""

from pathlib import Path

from sem.core import files, jsonio

SPEC = {
    "task_id": "qa",
    "task_version": "1.0.0",
    "system_prompt": "Answer the question about the handbook.",
    "instruction_template": "{{input_text}}",
    "io_schema": {
        "type": "object",
        "additionalProperties": False,
        "required": ["answer"],
        "properties": {"answer": {"type": "string"}},
    },
    "rubric": {"slots": {"answer": {"level": "substring", "critical": True}}},
    "eval_split": {"train_ratio": 0.8, "val_ratio": 0.1, "test_ratio": 0.1, "strategy": "random"},
}
FORGE = """teacher:
  calls:
    models:
      - {{model: openai/stub, api_base: "{url}", key_env: STUB_KEY, price: {price}}}
    workers: {workers}
    timeout_s: {timeout_s}
    tries: 2
    max_usd: {max_usd}
    max_requests: {max_requests}
  max_tokens: {max_tokens}
  reasks: 0
params: {{chunks: {{max_chars: 400, overlap_chars: 0}}}}
pairs_per_chunk: 2
"""
TOPICS = (
    "owners",
    "borrowing",
    "slices",
    "traits",
    "errors",
    "threads",
    "macros",
    "cargo",
    "closures",
    "iterators",
)


def make(root: Path, url: str, documents: int = 10, sections: int = 2, **changes: object) -> Path:
    """Write the project `handbook` below `root`, its teacher at URL; `root`."""
    values = {
        "workers": 4,
        "timeout_s": 5.0,
        "max_usd": 5,
        "max_requests": "null",
        "max_tokens": 400,
    }
    values |= {"price": "{input_per_million: 1, output_per_million: 1}", **changes}
    configs = root / "configs" / "handbook"
    spec = SPEC | {"base_model_id": "pip:none"}
    files.write_file(configs / "tasks" / "qa.json", jsonio.pretty_json(spec))
    files.write_file(configs / "forge.yaml", FORGE.format(url=url, **values))
    files.write_file(configs / "dataset.yaml", "split: {group_by: source_id}\n")
    for number in range(documents):
        path = root / "data" / "handbook" / "raw" / f"{number:02}-{TOPICS[number % 10]}.md"
        files.write_file(path, document(number, sections))
    return root


def document(number: int, sections: int) -> str:
    """Return a document of its own words: no question about one part of it fits another."""
    topic = TOPICS[number % 10]
    parts = [f"# The {topic} chapter\n"]
    for section in range(sections):
        a, b, c, d, e, f = (word(number * 600 + section * 6 + n) for n in range(6))
        parts.append(
            f"## About the {a}\n\n"
            f"The {a} {b} keeps its {topic} beside the {c} cabinet number {number + 20}. "
            f"Whoever opens the {d} drawer {section + 40} finds the {e} ledger there. "
            f"An inspector of the {f} visits {a} room {number + 60} every {b} season.\n"
        )
    return "\n".join(parts)


def word(number: int) -> str:
    """Return the NUMBERth invented word; neighbours have little in common."""
    number = (number * 7_919 + 104_729) % 90**3
    syllables = [f"{c}{v}{e}" for c in "bdfgklmnprstvz" for v in "aeiou" for e in ("", "n")][:90]
    return "".join(syllables[number // 90**place % 90] for place in range(3))
