"""Serve the prompt optimizer on this machine: an HTTP API and a page, until Ctrl-C or SIGTERM.

    python scripts/optimizer_serve.py
    python scripts/optimizer_serve.py --name RUN --set serve.port=8001

It answers 503 until a trained optimizer is loaded, and loads one as soon as there is one.

Reads   configs/optimizer/serve.yaml, models/optimizer/RUN/, $SEM_API_KEY
Writes  models/optimizer/RUN/fast/ (once), data/optimizer/feedback.jsonl, JSON lines on stderr
"""

from sem.core import console, projects


def main(argv: list[str] | None = None) -> None:
    parser = console.parser(__doc__, "set")
    parser.add_argument("--name", help="a run (default: the promoted, else the newest)")
    args = parser.parse_args(argv)
    from sem.optimizer.server import config, serve

    root = projects.tree()
    settings = config.load(root, tuple(args.set))
    serve.serve(settings, root, args.name, lambda address: print(address, flush=True))


if __name__ == "__main__":
    console.run(main)
