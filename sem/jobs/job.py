"""A job: one function, whose signature is its flags wherever it is called.

    @job("dataset.count")
    def count_examples(sem: Sem = None, set: Overrides = ()) -> None:
        \"\"\"Print how many examples the store holds.\"\"\"

From it come `scripts/dataset_count.py`, `fab dataset.count`, `opensem dataset.count`, their help
and a section of docs/reference/jobs.md. `Annotated[type, "help"]` is a flag, with `Positional` in
it a word; a bool is a switch, a tuple is repeatable, a Literal is a choice.
"""

import argparse
import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from sem.core import console

# Flags that many jobs share.
RunId = Annotated[str | None, "training run, 'base' or 'strong' (default: the latest)"]
SnapshotVersion = Annotated[str | None, "version of the splits, as 3 or v3 (default: the latest)"]
Overrides = Annotated[tuple[str, ...], "override one setting, as FILE.KEY=VALUE"]


@dataclass(frozen=True)
class Positional:
    """Marks a parameter that is given as a word, not as a flag; `name` is what help calls it."""

    name: str
    is_flag_of_fab: bool = False  # Fabric takes one word; as a flag it takes several


@dataclass(frozen=True)
class CurrentProject:
    """Marks the sem of a job that works on the current project where none is given."""


@dataclass(frozen=True)
class OlderName:
    """Marks another spelling of a flag, as an older system has it."""

    name: str


@dataclass(frozen=True)
class OlderValues:
    """Marks other spellings of values, from an older system: the older one, and ours."""

    ours: Mapping[str, str]


@dataclass(frozen=True)
class BareValue:
    """Marks a flag that may stand without a value, and the value it then has."""

    value: str


Sem = Annotated[
    str | None, "project under configs/ (default: $SEM, sem.use's, demo)", CurrentProject()
]
Split = Annotated[str, "val, test or golden", OlderValues({"validation": "val"})]


@dataclass(frozen=True)
class Parameter:
    """One parameter of a job, as every door to it needs it."""

    name: str
    type: Any  # str, int, float, Path, bool
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    is_repeatable: bool = False
    is_required: bool = False
    positional: Positional | None = None
    older_name: OlderName | None = None
    bare_value: BareValue | None = None
    older_values: OlderValues | None = None
    is_current_project: bool = False

    @property
    def flag(self) -> str:
        """Return the flag as it is typed."""
        return "--" + self.name.replace("_", "-")

    @property
    def described(self) -> str:
        """Return the help with the choices, the default and whether it may be repeated."""
        notes = []
        if self.choices and not any(choice in self.help for choice in self.choices):
            notes.append(", ".join(self.choices))
        if self.is_repeatable and not self.positional:
            notes.append("repeatable")
        if self.default not in (None, False, ()) and "default:" not in self.help:
            notes.append(f"default: {self.default}")
        return self.help + (f" ({'; '.join(notes)})" if notes else "")


@dataclass(frozen=True)
class Job:
    """One job: its name (`dataset.split`), its function and what is read off it."""

    name: str
    function: Callable[..., Any]
    runs_on_hosts: bool = False

    @property
    def follows_project(self) -> bool:
        """Return True if it works on the current project where no --sem is given."""
        return any(parameter.is_current_project for parameter in self.parameters)

    @property
    def script(self) -> str:
        """Return the name of its script, without the ending."""
        return self.name.replace(".", "_")

    @property
    def summary(self) -> str:
        """Return the first line of its docstring."""
        return self.document.partition("\n")[0]

    @property
    def document(self) -> str:
        """Return the whole docstring."""
        return inspect.getdoc(self.function) or ""

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """Return what the job takes, in the order of its signature."""
        signature = inspect.signature(self.function, eval_str=True)
        return tuple(_parameter(value) for value in signature.parameters.values())

    def parser(self, program: str | None = None) -> argparse.ArgumentParser:
        """Return the parser of its command line."""
        parser = console.make_argument_parser(self.document)
        parser.prog = program or parser.prog
        for parameter in self.parameters:
            _add_argument(parser, parameter)
        return parser

    def call(self, words: Sequence[str] | None = None, program: str | None = None) -> Any:
        """Run the job on the words of a command line; usage errors exit with 2."""
        return self.function(**vars(self.parser(program).parse_args(words)))


JOBS: dict[str, Job] = {}


Function = TypeVar("Function", bound=Callable[..., Any])


def job(name: str, *, runs_on_hosts: bool = False) -> Callable[[Function], Function]:
    """Register the function below as the job `name`."""

    def register(function: Function) -> Function:
        if name in JOBS:
            raise ValueError(f"two jobs are called {name!r}")
        JOBS[name] = Job(name, function, runs_on_hosts)
        return function

    return register


def add_shared_flags(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add the flags of jobs called `names`, `sem` or `set`, to the parser of another script."""
    hints = {"sem": (Sem, None), "set": (Overrides, ())}
    for name in names:
        hint, default = hints[name]
        kind = inspect.Parameter.KEYWORD_ONLY
        value = inspect.Parameter(name, kind, default=default, annotation=hint)
        _add_argument(parser, _parameter(value))


def _parameter(value: inspect.Parameter) -> Parameter:
    if get_origin(value.annotation) is not Annotated:
        raise TypeError(f"{value.name}: write Annotated[type, help]")
    hint, text, *marks = get_args(value.annotation)
    hint, is_repeatable, choices = _read_type(hint)
    by_type = {type(mark): mark for mark in marks}
    return Parameter(
        value.name,
        hint,
        None if value.default is value.empty else value.default,
        text,
        choices,
        is_repeatable,
        value.default is value.empty,
        by_type.get(Positional),
        by_type.get(OlderName),
        by_type.get(BareValue),
        by_type.get(OlderValues),
        CurrentProject in by_type,
    )


def _read_type(hint: Any) -> tuple[Any, bool, tuple[str, ...]]:
    """Return the type of one value, whether there may be several, and the choices there are."""
    if get_origin(hint) in (Union, types.UnionType):
        (hint,) = (part for part in get_args(hint) if part is not types.NoneType)
    if get_origin(hint) is tuple:
        value, _, choices = _read_type(get_args(hint)[0])
        return value, True, choices
    if get_origin(hint) is Literal:
        return str, False, get_args(hint)
    return hint, False, ()


def _add_argument(parser: argparse.ArgumentParser, parameter: Parameter) -> None:
    settings: dict[str, Any] = {"help": parameter.described.replace("%", "%%")}
    if parameter.positional:
        settings |= {"metavar": parameter.positional.name, "type": parameter.type}
        if parameter.is_repeatable:
            settings["nargs"] = "+" if parameter.is_required else "*"
        elif not parameter.is_required:
            settings["nargs"] = "?"
        if not parameter.is_required:
            settings["default"] = parameter.default
        parser.add_argument(parameter.name, **settings)
        return
    settings["dest"] = parameter.name
    if parameter.type is bool:
        settings["action"] = "store_true"
    else:
        settings |= {"type": parameter.type, "default": parameter.default}
        if parameter.older_values:
            ours = parameter.older_values.ours
            settings["type"] = lambda text: ours.get(text, text)
        settings["required"] = parameter.is_required
        if parameter.bare_value:
            settings |= {"nargs": "?", "const": parameter.bare_value.value}
        if parameter.is_repeatable:
            settings |= {"action": "append", "default": []}
        if parameter.choices:
            settings["choices"] = parameter.choices
    flags = [parameter.flag]
    if parameter.older_name:
        name = parameter.older_name.name
        flags += dict.fromkeys([f"--{name}", f"--{name.replace('_', '-')}"])
    parser.add_argument(*flags, **settings)
