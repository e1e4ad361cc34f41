"""What a run needs on a host, and nothing else: tracked code, its snapshot, run.json, weights.

Every list is made here with sha256 of each file; the host answers what it lacks, and gives a
folder its name only when every hash is right. Never sent: .env, keys, the raw store, other runs.
"""

import re
import subprocess
from pathlib import Path
from typing import Any

from sem.core import console, files, jsonio
from sem.core.errors import SemError
from sem.core.project import ROOT, Project
from sem.core.projects import IS_CHECKOUT
from sem.core.run import Run
from sem.lm.weights import pinned_base
from sem.train.engine import checkpoints
from sem.train.remote.agent import Agent
from sem.train.remote.far import parcel
from sem.train.remote.far.disk import HostRefusalError
from sem.train.remote.hosts import Host

CODE = ("sem", "scripts", "pyproject.toml", "README.md", "LICENSE", ".env.example")
SHARED = re.compile(r"requirements[\w.-]*\.lock|configs/[\w.-]+\.yaml|configs/schemas/.+")
SETTINGS = (".yaml", ".yml", ".json", ".jsonl")
# By name: what stands beside settings and is nobody's to send.
SECRET = re.compile(r"(^|/)(\.env($|\.)|id_[a-z0-9]+$|[^/]*\.(pem|key|p12|pfx)$)")
OPEN = ".env.example"
# What a begun run's run.json may differ in.
CHANGED = ("recipe", "updates")
Json = dict[str, Any]


def push_run(agent: Agent, host: Host, project: Project, run: Run) -> str:
    """Bring to the host what `run` needs there; the name of its folder of code."""
    named = {"sem": project.sem, "run": run.id}
    host_state = agent.ask("has", named)
    replaced = _replaced(run, host_state["run_json"], agent)
    code = hash_files(ROOT, code_files())
    name = files.sha256_json(code)[:16]
    sent = agent.push({"kind": "code", "name": name, "listed": code}, ROOT, "code")
    sent += _weights(agent, host, project, run)
    paths = [*run_files(project, run), *run_progress(project, run, host_state["rows"])]
    request = {
        "kind": "run",
        "listed": hash_files(project.root, paths),
        "replaces": replaced,
        **named,
    }
    sent += agent.push(request, project.root, f"run {run.id}")
    console.print_note(f"{agent.far.host}: everything is there ({sent:,} bytes were sent)")
    return name


def hash_files(root: Path, paths: list[str]) -> list[Json]:
    """Return `paths` below `root` with size and sha256.

    Raise SemError for one that is not sent.
    """
    secret = [path for path in paths if SECRET.search(path) and path != OPEN]
    if secret:
        raise SemError(f"{secret[0]!r} looks like a secret and is not sent", "move it away")
    try:
        return parcel.list_entries(root, paths)
    except HostRefusalError as refusal:
        raise SemError(f"{root}: {refusal.message}", refusal.hint) from refusal


def code_files() -> list[str]:
    """Return the files of this program that training needs: tracked ones, where git knows them.

    SemError for an installed package, which has neither locks nor set-up for a host.
    """
    if not IS_CHECKOUT:
        raise SemError(
            "a host is set up from a checkout, and this opensem is an installed package",
            "clone the project and train from there, or install opensem on the host itself",
        )
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached"], cwd=ROOT, capture_output=True, check=False
    )
    tracked = (
        listing.stdout.decode("utf-8", "replace").split("\0") if not listing.returncode else []
    )
    if not tracked:
        tracked = parcel.paths_below(ROOT, "__pycache__", ".venv", ".git")
    names = [name for name in tracked if name and _is_code(name) and (ROOT / name).exists()]
    return sorted({*names, *_new_modules()})


def _is_code(name: str) -> bool:
    return name.split("/")[0] in CODE or bool(SHARED.fullmatch(name))


def _new_modules() -> list[str]:
    # A module that is not added to git yet is imported all the same.
    return [path.relative_to(ROOT).as_posix() for path in (ROOT / "sem").rglob("*.py")]


def run_files(project: Project, run: Run) -> list[str]:
    """Return the settings of the sem, the snapshot of `run` with what was made from it,
    run.json.
    """
    assert run.folder is not None
    plan = run.plan()
    version = plan["snapshot"]["version"]
    data = project.processed.parent
    settings = [p for p in project.configs.rglob("*") if p.suffix in SETTINGS and p.is_file()]
    frozen = [p for p in project.processed.glob(f"*.v{version}.json*") if p.is_file()]
    frozen.append(project.processed / f"v{version}.json")
    texts = [data / text["name"] for text in plan.get("texts", [])]
    paths = [*settings, *frozen, *texts, run.folder / "run.json"]
    return [path.relative_to(project.root).as_posix() for path in paths]


def run_progress(project: Project, run: Run, rows_there: int) -> list[str]:
    """Return the whole checkpoints of `run` here and its metrics, when the host has fewer
    `rows_there`.
    """
    assert run.folder is not None
    metrics = run.folder / "metrics.jsonl"
    rows = metrics.read_bytes().count(b"\n") if metrics.exists() else 0
    if rows <= rows_there:
        if rows:
            console.print_note(
                f"the host is as far along ({rows_there} rows of metrics): its own files are used"
            )
        return []
    home, paths = run.folder.relative_to(project.root).as_posix(), []
    for name in parcel.paths_below(run.folder, "host"):
        parts = name.split("/")
        is_left_out = any(part.startswith((".", "quarantine-")) for part in parts)
        if not is_left_out and name != "run.json" and _is_whole(run.folder, parts):
            paths.append(f"{home}/{name}")
    return paths


def _is_whole(folder: Path, parts: list[str]) -> bool:
    """Return whether the file at `parts` is outside any checkpoint, or in one that is complete."""
    at = next((n for n, part in enumerate(parts) if part.startswith("checkpoint-")), None)
    if at is None:
        return True
    return checkpoints.is_complete(folder.joinpath(*parts[: at + 1]))


def _replaced(run: Run, remote_plan: Json | None, agent: Agent) -> Json | None:
    """Return the run.json `remote_plan` when it is the same run, changed since by `--set`.

    Otherwise raise SemError.
    """
    ours = run.plan()
    if remote_plan is None or remote_plan == ours:
        return remote_plan
    fixed = [{k: v for k, v in plan.items() if k not in CHANGED} for plan in (ours, remote_plan)]
    before, now = (plan.get("updates", []) for plan in (remote_plan, ours))
    if fixed[0] != fixed[1] or now[: len(before)] != before:
        raise SemError(
            f"run {run.id}: run.json on {agent.far.host} is of a different run",
            "prepare a new run, or remove that one there",
        )
    return remote_plan


def _weights(agent: Agent, host: Host, project: Project, run: Run) -> int:
    """Send the base weights when the host has none of that revision; the bytes that went over."""
    named = run.plan()["base_model"]
    model = named["base_model_id"]
    if Path(model).is_absolute():
        if agent.ask("has", {"path": f"{model}/config.json"})["file"]:
            return 0
        raise SemError(
            f"{agent.far.host}: no base model at {model}, and none is created at that path",
            "move the folder below models/base/, name it so in the TaskSpec, prepare a new run",
        )
    if host.weights == "fetch":
        console.print_note(f"{model}: the host fetches it (weights: fetch)")
        return 0
    folder = pinned_base.resolve_pinned_base(named, project.root).folder
    paths = [name for name in parcel.paths_below(folder, ".git") if not name.startswith(".")]
    request = {"kind": "weights", "name": folder.name, "listed": hash_files(folder, paths)}
    if folder.parent.resolve() != project.base_models.resolve():
        raise SemError(
            f"base model {model}: not below models/base/",
            "move its folder there, then prepare a new run",
        )
    return agent.push(request, folder, f"base model {folder.name}")


def lock_hash() -> str:
    """Return what decides the environment there: the locks and how they are installed."""
    paths = [*sorted(ROOT.glob("requirements*.lock")), ROOT / "scripts" / "setup_env.sh"]
    return files.sha256_text(jsonio.canonical_json([files.sha256_file(path) for path in paths]))[
        :16
    ]
