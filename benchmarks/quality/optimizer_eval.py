"""The prompt optimizer against its untouched base, as Markdown under benchmarks/results/.

    python benchmarks/quality/optimizer_eval.py
    python benchmarks/quality/optimizer_eval.py --rows 60 --pairs pairs.jsonl
    python benchmarks/quality/optimizer_eval.py --questions golden_set.json --answer-with MODEL --judge

Held-out task families always; with --pairs also real prompts, which are measured and not printed;
with --questions also the answers to raw and to rewritten prompts; with --judge its opinions.
Needs a trained optimizer: `fab optimizer.data optimizer.train`.
"""

from pathlib import Path

from sem.core import console, files, projects, provenance

HERE = Path(__file__).resolve().parent


def main() -> None:
    parser = console.make_argument_parser(__doc__)
    parser.add_argument("--name", help="a run (default: the promoted, else the newest)")
    parser.add_argument("--rows", type=int, default=120, help="prompts of a set (default: 120)")
    parser.add_argument("--pairs", type=Path, help="real prompts as JSON lines")
    parser.add_argument("--questions", type=Path, help="prompts and their answers")
    parser.add_argument("--answer-with", help="the model that answers them")
    parser.add_argument("--judge", action="store_true", help="ask the one of configs/judge.yaml")
    args = parser.parse_args()
    from sem.optimizer.eval import trial
    from sem.optimizer.model import rewriter

    root = projects.project_tree()
    folder = rewriter.find_optimizer(root, args.name)
    wanted = trial.TrialOptions(
        args.rows, args.pairs, 42, args.questions, args.answer_with, args.judge
    )
    made = trial.run_trial(root, folder, wanted, provenance.utc_now())
    facts, sealed = (files.read_json(folder / name) for name in ("run.json", "manifest.json"))
    result, training = sealed["result"], facts["training"]
    lines = [
        made.page.read_text("utf-8"),
        "## The run",
        f"{facts['counts']['train']['examples']:,} pairs, {result['steps']} steps of "
        f"{training['recipe']['effective_batch']}, held in {facts['dtype']}; "
        f"{result['trained']:,} of {result['parameters']:,} parameters trained; the base's hash "
        f"is {result['base_sha256_before'][:12]} before and {result['base_sha256_after'][:12]} "
        "after.",
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    console.print_output_path(files.write_file(HERE.parent / "results" / "optimizer.md", text))
    if made.stopped:
        raise made.stopped


if __name__ == "__main__":
    console.run_main(main)
