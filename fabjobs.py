"""How a job becomes one command line, where it runs, what it is called; fabfile.py holds them."""

import getpass
import os
import shlex
import sys
from functools import cache
from pathlib import Path

from fabric import Connection
from fabric.main import program as fab
from fabric.tasks import Task
from invoke import Collection, Context, Exit
from invoke.parser import ParserContext

ROOT = Path(__file__).resolve().parent
# One argument of a program cannot be longer than this on Linux, and `bash -c` gets one.
LONGEST_COMMAND = 120_000

# Flags that many jobs share.
SEM = {"sem": "project under configs/ (default: $SEM, sem.use's, fabric.yaml's)"}
RUN = {"run": "training run, or `base` for the untouched model (default: the latest)"}
SPLIT = {"split": "val, test or golden (default: test)"}
SNAPSHOT = {"snapshot": "version of the splits, as 3 or v3 (default: the latest)"}
SET = {"set": "override one setting, as FILE.KEY=VALUE (repeatable)"}

# What `fab -H` may be given: these talk to the host themselves, over the user's own ssh.
ON_HOSTS = ("run", "resume", "attach", "status", "cancel", "pull")


def script(c: Context, name: str, *words: str, sem: str | None = None, **flags: object) -> None:
    """Run scripts/NAME.py on this machine for the project SEM."""
    refuse_hosts(c)
    check_line()
    execute(c, _line(c, name, words, sem, flags))


def project_script(c: Context, name: str, /, *words: str, **flags: object) -> None:
    """Run scripts/NAME.py on this machine for the projects WORDS name, not for the current one."""
    execute(c, command(program(name), flags, words))


def script_for_host(
    c: Context, name: str, host: str | None, sem: str | None = None, **flags: object
) -> None:
    """Run scripts/NAME.py on this machine and tell it the HOST, or the one of `fab -H`."""
    check_line()
    there = host or (named_host(c) if isinstance(c, Connection) else None)
    # A Connection's own `run` would connect, trust any host key and hand a shell our line.
    here = Context(c.config) if isinstance(c, Connection) else c
    execute(here, _line(c, name, (), sem, {"host": there, **flags}))


def named_host(c: Connection) -> str:
    """What -H said, as ssh takes it: Fabric has split it and filled in what was not given."""
    user = c.ssh_config.get("user", getpass.getuser())
    port = int(c.ssh_config.get("port", 22))
    who = "" if c.user == user else f"{c.user}@"
    return f"{who}{c.original_host}{'' if c.port == port else f':{c.port}'}"


def _line(
    c: Context, name: str, words: tuple[str, ...], sem: str | None, flags: dict[str, object]
) -> str:
    # With a current project the script itself looks it up: core/projects.py checks its name.
    default = None if _has_current() else c.config.get("sem")
    named = sem if sem is not None else sem_of_line() or os.environ.get("SEM")
    return command(program(name), {"sem": named or default, **flags}, words)


def sem_of_line() -> str | None:
    """Return the sem that any job of this command line names, None where no job does.

    `fab dataset.clean dataset.split --sem shop` works on shop in both jobs: Fabric hands a flag
    to the job in front of it only, and the other would work on the current project.
    """
    return next((value for _, value in values_of_line("sem")), None)


def values_of_line(flag: str) -> list[tuple[str, str]]:
    """Return (job, value) of each job of this command line that was given `flag`, in order."""
    given = [job for job in jobs_of_line() if flag in job.args and job.args[flag].got_value]
    return [(job.name, job.args[flag].value) for job in given if job.args[flag].value]


def jobs_of_line() -> list[ParserContext]:
    """Return the jobs of this command line with what each was given; none before it is read."""
    return list(getattr(fab, "tasks", ()))


# A flag of one job that a reader expects to hold for the jobs around it, too.
OF_ONE_JOB = ("run", "split", "snapshot", "set")


@cache
def check_line() -> None:
    """Refuse a line that leaves a job's sem open; say which flags do not hold for every job."""
    for flag in ("sem", *OF_ONE_JOB):
        given = dict(values_of_line(flag))
        without = [
            job.name for job in jobs_of_line() if flag in job.args and job.name not in given
        ]
        if not given or not without:
            continue
        if flag != "sem":
            text = ", ".join(f"{name} --{flag}" for name in given)
            print(f"note: {text} does not hold for {', '.join(without)}", file=sys.stderr)
        elif len(set(given.values())) > 1:
            raise Exit(
                f"error: {', '.join(without)}: no --sem, and the line names several: "
                f"{', '.join(sorted(set(given.values())))}\n       give each job its own",
                2,
            )


def answer_help(jobs: Collection) -> None:
    """Let `fab JOB … --help` show the help of JOB, also of a job with a positional argument.

    Such a job would take `--help` for its argument and run. This is called while Fabric loads the
    jobs, between its reading of its own flags and of the words behind them.
    """
    if not getattr(fab, "core", None):
        return
    words = fab.core.unparsed
    asked = next((n for n, word in enumerate(words) if word in ("--help", "-h")), None)
    names = {name for job in jobs.to_contexts() for name in (job.name, *job.aliases)}
    before = [word for word in words[:asked] if word in names]
    if asked is not None and before and "--" not in words[:asked]:
        fab.args.help.value = before[-1]
        words.clear()


def _has_current() -> bool:
    tree = Path(os.environ.get("SEM_ROOT") or ROOT)
    return any((tree / name).is_file() for name in (".opensem_project", ".openssme_project"))


def program(name: str) -> list[str]:
    """The words that start scripts/NAME.py, from any working directory."""
    return [sys.executable, str(ROOT / "scripts" / f"{name}.py")]


def command(start: list[str], flags: dict[str, object], words: tuple[str, ...] = ()) -> str:
    """One shell line: True is a bare flag, a list repeats it, None and False drop it.

    `--flag=value` in one piece and `--` before plain words, so that a value that starts with a
    dash stays a value.
    """
    arguments = list(start)
    for flag, value in flags.items():
        option = "--" + flag.replace("_", "-")
        if value is True:
            arguments.append(option)
            continue
        values = value if isinstance(value, list | tuple) else [value]
        arguments += [f"{option}={item}" for item in values if item not in (None, False)]
    arguments += ["--", *words] if words else []
    if any("\0" in argument or not _is_text(argument) for argument in arguments):
        raise Exit("error: an argument holds a NUL or is not text\n       leave it out", 2)
    line = shlex.join(arguments)
    if len(line.encode("utf-8", "surrogateescape")) > LONGEST_COMMAND:
        raise Exit("error: the arguments are too long for a shell\n       put them in a file", 2)
    return line


def _is_text(argument: str) -> bool:
    # Bytes of a file name that are not UTF-8 arrive as surrogate escapes and go out the same.
    try:
        argument.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def execute(c: Context, line: str) -> None:
    """Run LINE here and stop with its exit code when that is not 0."""
    refuse_hosts(c)
    # in_stream=False: with stdin closed (cron, CI) a job would otherwise hang.
    result = c.run(line, warn=True, pty=sys.stdout.isatty(), in_stream=False)
    if result.exited:
        raise Exit(code=result.exited if result.exited > 0 else 128 - result.exited)


def refuse_hosts(c: Context) -> None:
    """Stop a job under `fab -H` before anything is connected or sent."""
    if isinstance(c, Connection):
        raise Exit(
            f"error: -H {c.original_host}: this job runs on this machine only\n"
            f"       on a host run: train.{', train.'.join(ON_HOSTS)}; log in there for others",
            2,
        )


def older(split: str) -> str:
    """SPLIT, also where an older system's flags spell it."""
    return "val" if split == "validation" else split


def collect(group: str, doc: str, jobs: dict[str, object]) -> Collection:
    """Those of JOBS called GROUP_*, as one namespace; `run` of demo is what `fab demo` does."""
    found = Collection(group, auto_dash_names=False)
    found.__doc__ = doc
    for name, job in jobs.items():
        if isinstance(job, Task) and name.startswith(f"{group}_"):
            found.add_task(job, name=name.removeprefix(f"{group}_"), default=name == "demo_run")
    return found
