"""What `opensem` can do: a verb is one job, and every job is a verb by its own name.

    opensem init                          folders and shared settings
    opensem new NAME                      a project; it becomes the current one
    opensem list-projects                 every project
    opensem set-project NAME              another current project
    opensem add-data FILES…               documents into it
    opensem status [NAME]                 what it has, and the next command
    opensem run-forge                     documents -> examples -> a snapshot
    opensem baseline                      the untouched model's score
    opensem train                         a fine-tuned run
    opensem eval                          baseline against fine-tuned
    opensem report                        where the report lies
    opensem package                       the deliverable, verified
    opensem ask PAGE                      the packaged expert's JSON of one page
    opensem serve                         the packaged expert over HTTP
    opensem mcp                           the packaged expert as tools of an agent
    opensem launch --cloud PROVIDER       the same training on a rented GPU
    opensem delete NAME                   a project with all it has
    opensem GROUP.JOB                     any job of docs/reference/jobs.md
    opensem completion bash|zsh|fish      completion for that shell
    opensem --version

--project NAME (or --sem) works on another than the current project; VERB --help shows the rest.
Exit 0 done, 1 error, 2 usage, 3 not enough evidence.
"""

import sys
from collections.abc import Sequence
from difflib import get_close_matches
from typing import NoReturn

from sem import __version__
from sem.core import console
from sem.jobs import load_jobs
from sem.jobs.completion import completion_script

# A verb and the job that it is; the jobs of sem/jobs/path.py are verbs by their own names.
VERBS = {
    "new": "sem.new",
    "list-projects": "sem.list",
    "set-project": "sem.use",
    "add-data": "sem.add_data",
    "status": "sem.status",
    "run-forge": "forge.run",
    "ask": "package.ask",
    "serve": "package.serve",
    "mcp": "package.mcp",
    "launch": "ops.launch",
    "delete": "sem.delete",
}
# Other spellings of the same verbs.
OLDER_VERBS = {
    "new-project": "new",
    "list": "list-projects",
    "use": "set-project",
    "evaluate": "eval",
}


def start_verb() -> NoReturn:
    """Run the verb on the command line and leave with its exit code."""
    console.run_main(lambda: run_verb(sys.argv[1:]))


def run_verb(argv: Sequence[str]) -> None:
    """Run the verb that `argv` begins with, on the words after it."""
    words = list(argv)
    if not words or words[0] in ("-h", "--help"):
        print((__doc__ or "").rstrip())
        return
    if words[0] in ("-V", "--version"):
        print(f"opensem {__version__}")
        return
    verb, rest = OLDER_VERBS.get(words[0], words[0]), words[1:]
    jobs = load_jobs()
    if verb == "completion":
        print(completion_script(rest[0] if rest else "", jobs, VERBS), end="")
        return
    job = jobs.get(VERBS.get(verb, verb))
    if job is None:
        close = get_close_matches(verb, [*VERBS, *jobs], n=1)
        hint = f"did you mean {close[0]!r}?" if close else "see opensem --help"
        console.exit_with_error(f"no verb {verb!r}\n       {hint}", 2)
    if verb == "status" and rest and not rest[0].startswith("-"):
        rest = ["--sem", *rest]
    end = rest.index("--") if "--" in rest else len(rest)
    if any(parameter.name == "sem" for parameter in job.parameters):
        rest = [*map(_as_sem, rest[:end]), *rest[end:]]
    job.call(rest, f"opensem {words[0]}")


def _as_sem(word: str) -> str:
    name, equals, value = word.partition("=")
    return f"--sem{equals}{value}" if name == "--project" else word
