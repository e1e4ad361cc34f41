"""Break the evaluation on purpose, one small fault at a time, and count what the tests notice.

    python benchmarks/proof/mutants.py stats -- tests/eval/stats/test_paired_stats.py
    python benchmarks/proof/mutants.py slots metrics        (the tests of TESTS below)

A mutant is one changed operator, constant, condition, return value, default or dropped call of
one module. It is killed when pytest fails or passes its time limit, and survives when all tests
pass. Not mutated: docstrings, annotations, decorators, the words of an error and of f-strings.
Everything happens in a copy of sem/ and tests/; the working tree is never touched. Heavy
packages are imported once and each mutant is tried in a fork, so that one costs about a second.

Writes  benchmarks/results/proof_mutants_MODULE.md
"""

import argparse
import ast
import copy
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path("sem/eval")
# A module below sem/eval and the tests that must fail when it is changed.
TESTS = {
    "scoring/slots": ["tests/eval/scoring/test_slots.py"],
    "scoring/metrics": ["tests/eval/scoring/test_metrics.py"],
    "scoring/align": ["tests/eval/scoring/test_align.py"],
    "stats/paired_stats": ["tests/eval/stats/test_paired_stats.py"],
    "stats/clusters": ["tests/eval/stats/test_paired_stats.py"],
    "stats/planning": ["tests/eval/stats/test_planning.py"],
    "gate/margins": ["tests/eval/gate/test_gate.py"],
    "gate/policy": ["tests/eval/gate/test_gate.py"],
    "gate/gate": ["tests/eval/gate/test_gate.py"],
}
# Not `sem`: the fork must import the mutated copy.
WARM = (
    "pytest",
    "hypothesis",
    "numpy",
    "scipy.stats",
    "scipy.optimize",
    "pydantic",
    "yaml",
    "jsonschema",
    "regex",
    "dateutil.parser",
    "statsmodels.stats.api",
    "sklearn.metrics",
)
TARGET = 0.85

SWAPS: dict[type[ast.AST], tuple[type[ast.AST], ...]] = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.GtE),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div,),
    ast.Div: (ast.Mult,),
    ast.FloorDiv: (ast.Div,),
    ast.Mod: (ast.Mult,),
    ast.Pow: (ast.Mult,),
    ast.BitOr: (ast.BitAnd,),
    ast.BitAnd: (ast.BitOr,),
}
CALLS = {
    "min": "max",
    "max": "min",
    "any": "all",
    "all": "any",
    "ceil": "floor",
    "floor": "ceil",
    "sorted": "list",
    "cdf": "sf",
    "sf": "cdf",
}


@dataclass(frozen=True)
class Mutant:
    """One changed module: the line, what was changed, and the whole new source."""

    line: int
    change: str
    source: str


def mutants(source: str) -> Iterator[Mutant]:
    """Return every mutant of `source`, in order of lines; two that read the same are one."""
    tree = ast.parse(source)
    places = _places(tree)
    seen = {ast.unparse(tree)}
    made = []
    for number in range(len(places)):
        for choice in range(_choices(places[number])):
            changed = copy.deepcopy(tree)
            node = _places(changed)[number]
            before = _shown(node)
            _mutate(changed, node, choice)
            text = ast.unparse(ast.fix_missing_locations(changed))
            if text not in seen:
                seen.add(text)
                after = "dropped" if isinstance(node, ast.Expr) else _shown(node)
                made.append(Mutant(places[number].lineno, f"{before}  ->  {after}", text))
    return iter(sorted(made, key=lambda mutant: mutant.line))


def _places(tree: ast.Module) -> list[ast.AST]:
    """Return the nodes of `tree` that can be changed, in one fixed order."""
    found, pending = [], [tree]
    while pending:
        node = pending.pop(0)
        if _choices(node):
            found.append(node)
        pending += _children(node)
    return found


def _children(node: ast.AST) -> list[ast.AST]:
    # Only what stands in the braces.
    if isinstance(node, ast.JoinedStr):
        return [v.value for v in node.values if isinstance(v, ast.FormattedValue)]
    if isinstance(node, ast.Call) and _name(node.func).endswith(("Error", "Insufficient")):
        return []
    found = []
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list", "op", "ops"):
            continue
        values = value if isinstance(value, list) else [value]
        found += [child for child in values if isinstance(child, ast.AST)]
    return [child for child in found if not _is_docstring(child)]


def _is_docstring(node: ast.AST) -> bool:
    constant = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return constant and isinstance(node.value.value, str)


def _choices(node: ast.AST) -> int:
    """In how many ways `node` can be changed."""
    if isinstance(node, ast.Compare):
        return sum(len(SWAPS[type(op)]) for op in node.ops)
    if isinstance(node, ast.BinOp | ast.AugAssign | ast.BoolOp):
        return len(SWAPS.get(type(node.op), ()))
    if isinstance(node, ast.UnaryOp):
        return int(isinstance(node.op, ast.Not | ast.USub))
    if isinstance(node, ast.Constant):
        return int(isinstance(node.value, bool | int | float | str))
    if isinstance(node, ast.Call):
        return int(_name(node.func) in CALLS)
    if isinstance(node, ast.Return):
        is_none = isinstance(node.value, ast.Constant) and node.value.value is None
        return int(node.value is not None and not is_none)
    if isinstance(node, ast.Expr):
        return int(isinstance(node.value, ast.Call))
    return int(isinstance(node, ast.If | ast.IfExp | ast.While | ast.Break | ast.Continue))


def _mutate(tree: ast.Module, node: ast.AST, choice: int) -> None:
    """Change `node` of `tree` in place, in its way number `choice`."""
    if isinstance(node, ast.Compare):
        ways = [(n, new) for n, op in enumerate(node.ops) for new in SWAPS[type(op)]]
        place, new = ways[choice]
        node.ops[place] = new()
    elif isinstance(node, ast.BinOp | ast.AugAssign | ast.BoolOp):
        node.op = SWAPS[type(node.op)][choice]()
    elif isinstance(node, ast.UnaryOp):
        _replace(tree, node, node.operand)
    elif isinstance(node, ast.Constant):
        node.value = _other(node.value)
    elif isinstance(node, ast.Call):
        _rename(node.func, CALLS[_name(node.func)])
    elif isinstance(node, ast.Return):
        node.value = ast.Constant(None)
    elif isinstance(node, ast.If | ast.IfExp | ast.While):
        node.test = ast.UnaryOp(ast.Not(), node.test)
    else:
        other = {ast.Break: ast.Continue, ast.Continue: ast.Break}.get(type(node), ast.Pass)
        _replace(tree, node, other())


def _other(value: bool | int | float | str) -> bool | int | float | str:
    if isinstance(value, bool):
        return not value
    return f"{value}XX" if isinstance(value, str) else value + 1


def _replace(tree: ast.Module, old: ast.AST, new: ast.AST) -> None:
    ast.copy_location(new, old)
    for parent in ast.walk(tree):
        for field, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, field, new)
            elif isinstance(value, list) and any(item is old for item in value):
                setattr(parent, field, [new if item is old else item for item in value])


def _name(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _rename(node: ast.AST, name: str) -> None:
    setattr(node, "attr" if isinstance(node, ast.Attribute) else "id", name)


def _shown(node: ast.AST) -> str:
    return " ".join(ast.unparse(node).split())[:90]


def attempt(folder: Path, tests: list[str], limit_s: float) -> str:
    """Run `tests` in `folder` in a fork: `survived`, `killed` or `timeout`."""
    pid = os.fork()
    if pid == 0:
        _child(folder, tests)
    ends = time.monotonic() + limit_s
    while time.monotonic() < ends:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return "survived" if status == 0 else "killed"
        time.sleep(0.02)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "timeout"


def _child(folder: Path, tests: list[str]) -> None:
    code = 70
    try:
        os.setsid()
        log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1), os.dup2(log, 2)
        os.chdir(folder)
        sys.path[:] = [p for p in sys.path if not Path(p).is_relative_to(ROOT / "sem")]
        import pytest

        fixed = ["-x", "-q", "-p", "no:cacheprovider", "--hypothesis-profile=ci"]
        code = int(pytest.main([*fixed, f"--basetemp={folder / 'tmp'}", *tests]))
    finally:
        os._exit(code)


def measure(name: str, tests: list[str], options: argparse.Namespace) -> list[tuple[Mutant, str]]:
    """Return each mutant of the module `name` with its fate.

    Stops when the tests fail without one.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        skip = shutil.ignore_patterns("__pycache__", ".*")
        for part in ("sem", "tests"):
            shutil.copytree(ROOT / part, folder / part, ignore=skip)
        for path in (
            *ROOT.glob("*.toml"),
            *ROOT.glob("*.yaml"),
            ROOT / "fabfile.py",
            ROOT / "fabjobs.py",
        ):
            shutil.copy(path, folder)
        shutil.copytree(ROOT / "configs", folder / "configs")
        path = folder / FOLDER / f"{name}.py"
        made = list(mutants(path.read_text("utf-8")))[:: options.every]
        began = time.monotonic()
        if attempt(folder, tests, 600) != "survived":
            sys.exit(f"error: {tests} fail on the unchanged {name}\n{_tail(folder)}")
        limit_s = 5 + 4 * (time.monotonic() - began)
        print(f"{name}: {len(made)} mutants, at most {limit_s:.0f} s each", file=sys.stderr)
        found = []
        for mutant in made:
            path.write_text(mutant.source, "utf-8")
            found.append((mutant, attempt(folder, tests, limit_s)))
            if found[-1][1] == "survived":
                print(f"  survived, line {mutant.line}: {mutant.change}", file=sys.stderr)
        return found


def _tail(folder: Path) -> str:
    return (folder / "log").read_text("utf-8", "replace")[-2000:]


def report(name: str, tests: list[str], found: list[tuple[Mutant, str]], every: int) -> str:
    """Return the result of the module `name` as Markdown."""
    fates = [fate for _, fate in found]
    alive = [mutant for mutant, fate in found if fate == "survived"]
    share = 1 - len(alive) / len(found)
    lines = [
        f"# Mutants of `{FOLDER / name}.py`",
        f"Command: `python benchmarks/proof/mutants.py {name} --every {every} -- "
        f"{' '.join(tests)}`",
        "",
        "| mutants | killed | of these by time-out | survived | killed, share |",
        "|---|---|---|---|---|",
        f"| {len(found)} | {len(found) - len(alive)} | {fates.count('timeout')} | {len(alive)} "
        f"| {share:.1%} |",
        "",
        f"Target: at least {TARGET:.0%}. Survivors, by line of the module:",
        "",
        *(f"- {mutant.line}: `{mutant.change.replace('`', chr(39))}`" for mutant in alive),
    ]
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("modules", nargs="+", help="modules of sem/eval, e.g. stats")
    parser.add_argument("--every", type=int, default=1, help="try each n-th mutant only")
    words = list(sys.argv[1:] if argv is None else argv)
    cut = words.index("--") if "--" in words else len(words)
    options = parser.parse_args(words[:cut])
    os.environ |= {
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    # a mutant of equal size and time would run the old bytecode.
    sys.dont_write_bytecode = True
    for package in WARM:
        import_module(package)
    low = []
    for name in options.modules:
        tests = words[cut + 1 :] or TESTS[name]
        found = measure(name, tests, options)
        text = report(name, tests, found, options.every)
        path = ROOT / "benchmarks" / "results" / f"proof_mutants_{Path(name).name}.md"
        path.write_text(text, "utf-8")
        print(text)
        if sum(fate == "survived" for _, fate in found) > (1 - TARGET) * len(found):
            low.append(name)
    sys.exit(f"below {TARGET:.0%}: {', '.join(low)}" if low else 0)


if __name__ == "__main__":
    main()
