"""How a job becomes a task of Fabric: its flags, its command line, where it runs."""

import getpass
import inspect
import os
import shlex
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

from fabric import Connection
from fabric.main import program as fab
from fabric.tasks import Task
from invoke import Collection, Context, Exit
from invoke.parser import Argument, ParserContext

ROOT = Path(__file__).resolve().parent
# Also when fabfile.py is loaded by path.
sys.path.insert(0, str(ROOT))
from sem.jobs.job import JOBS, Job, Parameter  # noqa: E402

# One argument of a program cannot be longer than this on Linux, and `bash -c` gets one.
MAX_COMMAND_BYTES = 120_000


class JobTask(Task):
    """A task whose help can be asked for more than once: Invoke takes it out as it reads it."""

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        """Return the arguments with their help."""
        described = dict(self.help)
        arguments = super().get_arguments(ignore_unknown_help)
        self.help = described
        return arguments


def task_of(job: Job) -> Task:
    """Return the task that runs the job's script with the flags that Fabric was given."""

    def body(c: Context, **values: object) -> None:
        run_script(c, job, values)

    parameters = [_fab_parameter(job, parameter) for parameter in job.parameters]
    older = {p.older_name.name: p for p in job.parameters if p.older_name}
    parameters += [_keyword(name) for name in older]
    context = inspect.Parameter("c", inspect.Parameter.POSITIONAL_ONLY)
    # Fabric wants those without a default first.
    parameters.sort(key=lambda parameter: parameter.default is not parameter.empty)
    body.__signature__ = inspect.Signature([context, *parameters])  # type: ignore[attr-defined]
    body.__doc__ = job.document
    body.__name__ = job.name.rpartition(".")[2]
    return JobTask(
        body,
        help={parameter.name: parameter.described for parameter in job.parameters}
        | {name: f"older spelling of {parameter.flag}" for name, parameter in older.items()},
        iterable=[p.name for p in job.parameters if _is_list(p)],
        optional=[p.name for p in job.parameters if p.bare_value],
    )


def _is_list(parameter: Parameter) -> bool:
    as_word = parameter.positional and not parameter.positional.is_flag_of_fab
    return parameter.is_repeatable and not as_word


def _fab_parameter(job: Job, parameter: Parameter) -> inspect.Parameter:
    default: object = None
    if parameter.type is bool:
        default = False
    elif parameter.is_required and not _is_list(parameter) and not _is_host(job, parameter):
        default = inspect.Parameter.empty
    return _keyword(parameter.name, default)


def _keyword(name: str, default: object = None) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default)


def _is_host(job: Job, parameter: Parameter) -> bool:
    return job.runs_on_hosts and parameter.name == "host"


def run_script(c: Context, job: Job, values: dict[str, object]) -> None:
    """Run the job's script on this machine, for its project, and on the host of `fab -H`."""
    if job.runs_on_hosts:
        if not values.get("host") and isinstance(c, Connection):
            values = values | {"host": named_host(c)}
        # A Connection's own `run` would connect, trust any host key and hand a shell our line.
        c = Context(c.config) if isinstance(c, Connection) else c
    refuse_hosts(c)
    if job.follows_project:
        check_line()
        values = values | {"sem": values["sem"] or _default_sem(c)}
    flags, words = {}, []
    for parameter in job.parameters:
        value = values[parameter.name]
        if parameter.older_name and not value:
            value = values[parameter.older_name.name]
        if not parameter.positional:
            flags[parameter.name] = value
        elif value is not None:
            words += value if isinstance(value, list) else [str(value)]
    execute(c, command(script_words(job.script), flags, tuple(words)))


def named_host(c: Connection) -> str:
    """Return what -H said, as ssh takes it: Fabric has split it and filled in the rest."""
    user = c.ssh_config.get("user", getpass.getuser())
    port = int(c.ssh_config.get("port", 22))
    who = "" if c.user == user else f"{c.user}@"
    return f"{who}{c.original_host}{'' if c.port == port else f':{c.port}'}"


def _default_sem(c: Context) -> str | None:
    # With a current project the script itself looks it up: core/projects.py checks its name.
    default = None if _has_current() else c.config.get("sem")
    return sem_of_line() or os.environ.get("SEM") or default


def sem_of_line() -> str | None:
    """Return the sem that any job of this command line names, None where no job does.

    `fab dataset.clean dataset.split --sem shop` works on shop in both jobs: Fabric hands a flag
    to the job in front of it only, and the other would work on the current project.
    """
    return next((value for _, value in values_of_line("sem")), None)


def values_of_line(flag: str) -> list[tuple[str, str]]:
    """Return (job, value) of each job of this command line that was given `flag`, in order."""
    jobs = [job for job in jobs_of_line() if flag in job.args and job.args[flag].got_value]
    return [(job.name, job.args[flag].value) for job in jobs if job.args[flag].value]


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


def script_words(name: str) -> list[str]:
    """Return the words that start scripts/NAME.py, from any working directory."""
    return [sys.executable, str(ROOT / "scripts" / f"{name}.py")]


def command(start: list[str], flags: dict[str, object], words: tuple[str, ...] = ()) -> str:
    """Return one shell line: True is a bare flag, a list repeats it, None and False drop it.

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
    if len(line.encode("utf-8", "surrogateescape")) > MAX_COMMAND_BYTES:
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
    """Run `line` here and stop with its exit code when that is not 0."""
    refuse_hosts(c)
    # in_stream=False: with stdin closed (cron, CI) a job would otherwise hang.
    result = c.run(line, warn=True, pty=sys.stdout.isatty(), in_stream=False)
    if result.exited:
        raise Exit(code=result.exited if result.exited > 0 else 128 - result.exited)


def refuse_hosts(c: Context) -> None:
    """Stop a job under `fab -H` before anything is connected or sent."""
    if isinstance(c, Connection):
        names = ", ".join(job.name for job in JOBS.values() if job.runs_on_hosts)
        raise Exit(
            f"error: -H {c.original_host}: this job runs on this machine only\n"
            f"       on a host run: {names}; log in there for others",
            2,
        )


def collect(jobs: dict[str, Job], groups: dict[str, str]) -> Collection:
    """Return the jobs as one namespace: `GROUP.JOB`, and those without a group beside them."""
    namespace = Collection(auto_dash_names=False)
    for group, summary in groups.items():
        collection = Collection(group, auto_dash_names=False)
        collection.__doc__ = summary
        for job in jobs.values():
            if job.name.startswith(f"{group}."):
                name = job.name.removeprefix(f"{group}.")
                collection.add_task(task_of(job), name=name, default=job.name == "demo.run")
        namespace.add_collection(collection)
    return namespace


def answer_list(namespace: Collection, groups: dict[str, str]) -> None:
    """Let `fab --list` show the jobs by group, in the order in which a user meets them."""
    arguments = getattr(fab, "args", None)
    if (
        not arguments
        or arguments["list"].value is not True
        or arguments["list-format"].value != "flat"
    ):
        return
    width = 2 + max(map(len, namespace.task_names))
    lines = [f"  {task.name:{width}}{_summary(task)}" for task in namespace.tasks.values()]
    for group in groups:
        lines.append(f"\n{group}: {namespace.collections[group].__doc__}")
        for name, task in namespace.collections[group].tasks.items():
            lines.append(f"  {group}.{name:{width - len(group) - 1}}{_summary(task)}")
    with suppress(BrokenPipeError):
        print("\n".join(lines), flush=True)
    raise Exit(code=0)


def _summary(task: Task) -> str:
    return (task.__doc__ or "").partition("\n")[0]
