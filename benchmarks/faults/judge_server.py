"""The judge server of `benchmarks/faults/judge.py` as a process of its own.

    python benchmarks/faults/judge_server.py honest LOG ADDRESS

Writes a line a request to LOG, time and hash of the prompt, and its address to ADDRESS.
"""

import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT)]
import judges  # noqa: E402
from chatserver import Body, ChatServer  # noqa: E402

from sem.core import files  # noqa: E402

GOOD = '{"pass": true, "nonce": "n"}'


def main(kind: str, log: str, address: str) -> None:
    with open(log, "a", buffering=1) as file:

        def script(body: Body, number: int) -> str:
            file.write(f"{time.time()} {files.sha256_json(body['messages'])}\n")
            return judges.honest(body, number) if kind == "honest" else GOOD

        with ChatServer(script) as server:
            Path(address).write_text(server.url)
            while True:
                time.sleep(60)


if __name__ == "__main__":
    main(*sys.argv[1:])
