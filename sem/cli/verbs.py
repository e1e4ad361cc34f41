"""What `opensem-cli` can do: a verb is one script, or a few stages in a row.

    opensem-cli init                          folders and shared settings
    opensem-cli new NAME                      a project; it becomes the current one
    opensem-cli list-projects                 every project
    opensem-cli set-project NAME              another current project
    opensem-cli add-data FILES…               documents into it
    opensem-cli status [NAME]                 what it has, and the next command
    opensem-cli run-forge                     documents -> examples -> a snapshot
    opensem-cli baseline                      the untouched model's score
    opensem-cli train                         a fine-tuned run
    opensem-cli eval                          baseline against fine-tuned
    opensem-cli report                        where the report lies
    opensem-cli package                       the deliverable, verified
    opensem-cli launch --cloud PROVIDER       the same training on a rented GPU
    opensem-cli delete NAME                   a project with all it has

--project NAME (or --sem) works on another than the current project; VERB --help shows the rest.
Exit 0 done, 1 error, 2 usage, 3 not enough evidence.
"""

import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import NoReturn

from sem.cli import path
from sem.core import console

# A verb that is one script; its words go there as they are, --project as --sem.
SCRIPTS = {
    "new": "sem_new",
    "list-projects": "sem_list",
    "set-project": "sem_use",
    "add-data": "sem_add_data",
    "status": "sem_status",
    "run-forge": "forge_run",
    "launch": "ops_launch",
    "delete": "sem_delete",
}
STAGES: dict[str, Callable[[list[str]], None]] = {
    "init": path.init,
    "baseline": path.baseline,
    "train": path.train,
    "eval": path.evaluate,
    "report": path.report,
    "package": path.package,
}
# Other spellings of the same verbs.
OLDER = {"new-project": "new", "list": "list-projects", "use": "set-project", "evaluate": "eval"}


def start() -> NoReturn:
    """Run the verb on the command line and leave with its exit code."""
    console.run(lambda: main(sys.argv[1:]))


def main(argv: Sequence[str]) -> None:
    """Run the verb that ARGV begins with, on the words after it."""
    words = list(argv)
    if not words or words[0] in ("-h", "--help"):
        print((__doc__ or "").rstrip())
        return
    verb = OLDER.get(words[0], words[0])
    if verb in STAGES:
        STAGES[verb](words[1:])
    elif verb in SCRIPTS:
        _one_script(verb, words[1:])
    else:
        close = get_close_matches(verb, [*STAGES, *SCRIPTS], n=1)
        hint = f"did you mean {close[0]!r}?" if close else "see opensem-cli --help"
        console.fail(f"no verb {verb!r}\n       {hint}", 2)


def _one_script(verb: str, words: list[str]) -> None:
    if verb == "status" and words and not words[0].startswith("-"):
        words = ["--sem", *words]
    end = words.index("--") if "--" in words else len(words)
    made = [*map(_as_sem, words[:end]), *words[end:]]
    sys.argv = [f"opensem-cli {verb}", *made]  # what its usage line names
    path.script(SCRIPTS[verb], made)


def _as_sem(word: str) -> str:
    name, equals, value = word.partition("=")
    return f"--sem{equals}{value}" if name == "--project" else word
