"""Rewrite vague prompts with the trained network, and say how likely each rewrite is useful.

    python scripts/optimizer_rewrite.py "write a function that parses dates"
    python scripts/optimizer_rewrite.py --temperature 0.7 --seed 3 --json "plan a trip"

Reads   models/optimizer/RUN/
"""

import argparse

from sem.core import console, jsonio, projects


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    from sem.optimizer.model import confidence, rewriter

    root = projects.tree()
    folder = rewriter.find(root, args.name)
    network, worth = rewriter.TorchRewriter.load(folder, root), confidence.load(folder)
    decoding = rewriter.Decoding(
        args.max_tokens, args.temperature, args.beams, args.seed, args.penalty
    )
    said = network.rewrite(args.prompts, decoding)
    for prompt, one in zip(args.prompts, said, strict=True):
        sure = confidence.of(one, prompt, worth)
        if args.json:
            print(jsonio.dumps({"raw_prompt": prompt, "confidence": sure, **vars(one)}))
        else:
            print(f"{one.text}\n")
            console.note(f"confidence {sure:.2f}, {one.tokens} tokens")


def parser() -> argparse.ArgumentParser:
    """The flags of this script."""
    made = console.parser(__doc__)
    made.add_argument("prompts", nargs="+", metavar="PROMPT")
    made.add_argument("--name", help="a run (default: the promoted, else the newest)")
    made.add_argument("--max-tokens", type=int, default=256, help="of a rewrite (default: 256)")
    made.add_argument("--temperature", type=float, default=0.0, help="0: the likeliest (default)")
    made.add_argument("--beams", type=int, default=1, help="of the search; 1: greedy (default)")
    made.add_argument("--seed", type=int, default=0, help="of what is drawn (default: 0)")
    made.add_argument(
        "--penalty",
        type=float,
        default=1.05,
        help="of saying a token again; 1: none (default: 1.05)",
    )
    made.add_argument("--json", action="store_true", help="one JSON object a line")
    return made


if __name__ == "__main__":
    console.run(main)
