"""Run a script of this project that stops itself (SIGSTOP) where it first touches a file.

    python tests/support/stopping.py os.rename clean.jsonl scripts/dataset_clean.py --sem toy

The words are an audit event (`open`, `os.rename`), the end of the path it is about (of a rename,
the new one), and the script. Continued by SIGCONT, it goes on as if nothing had been. It writes
`stops` on stdout before: whoever waits for it needs no clock.
"""

import os
import runpy
import signal
import sys


def main() -> None:
    event, name, script, *words = sys.argv[1:]
    place = {"open": 0, "os.rename": 1}[event]
    is_stopped = False

    def stop(heard: str, arguments: tuple[object, ...]) -> None:
        nonlocal is_stopped
        if is_stopped or heard != event or not str(arguments[place]).endswith(name):
            return
        is_stopped = True
        os.write(1, b"stops\n")
        os.kill(os.getpid(), signal.SIGSTOP)

    sys.addaudithook(stop)
    sys.path.insert(0, os.path.dirname(os.path.abspath(script)))
    sys.argv = [script, *words]
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
