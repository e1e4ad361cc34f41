"""The floors of the house: who imports whom, through which door, and when.

The rules are in docs/architecture.md. Imports are read from the source, also those inside
functions, so nothing has to run.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from paths import ROOT

SCRIPTS = ROOT / "scripts"
LIBRARY = ROOT / "sem"
FAB = ("fabfile.py", "fabjobs.py")

# A floor imports its own and lower ones. `dataset` and `lm` share a number: blind to each other.
FLOORS = {
    "core": 0,
    "dataset": 1,
    "lm": 1,
    "forge": 2,
    "eval": 2,
    "train": 3,
    "package": 4,
    "ops": 5,
    "preview": 6,
    "optimizer": 6,
    "projects": 6,
    "jobs": 7,
}
# A third-party package enters through these modules only (a name ending in a dot: a whole floor).
DOORS = {
    "accelerate": ("train.",),
    "babel": ("core.locales",),
    "boto3": ("package.publish.places",),
    "botocore": ("package.publish.places",),
    "charset_normalizer": ("dataset.",),
    "cryptography": ("package.publish.signature",),
    "ctranslate2": ("optimizer.model.fast_rewriter",),
    "datasets": ("train.",),
    "dotenv": ("core.console",),
    "duckdb": (
        "dataset.store.utf8_connection",
        "dataset.store.store",
        "dataset.store.store_writer",
        "dataset.ingest.parquet_files",
        "dataset.takedown.erase",
        "dataset.takedown.fresh_store",
    ),
    "fastapi": ("optimizer.server.",),
    "filelock": ("core.files",),
    "gguf": ("lm.weights.gguf_convert", "lm.local.gguf_writer"),
    "httpx": ("lm.api.wire",),
    # The transport below httpx: where a deadline can be kept.
    "httpcore": ("lm.api.wire",),
    "huggingface_hub": ("core.net.hub",),
    "jsonschema": ("core.schema",),
    "jinja2": ("core.pages",),
    "json_repair": ("dataset.html.markup", "eval.report.compare"),
    "llguidance": ("lm.local.constrain",),
    "litellm": ("lm.api.client",),
    "mammoth": ("forge.reading.",),
    "mcp": ("package.serve.mcp_server",),
    "model_signing": ("package.publish.signature",),
    "mlflow": ("train.tracking.trackers",),
    "numpy": ("dataset.", "eval.", "lm.", "optimizer.", "preview.", "train."),
    "onnx": ("lm.weights.onnx_convert",),
    "optuna": ("train.sweep.search",),
    "peft": ("lm.", "package.", "train."),
    "phonenumbers": ("dataset.personal.pii_phones",),
    "publicsuffixlist": ("dataset.",),
    "prometheus_client": ("lm.server.metrics",),
    "py3langid": ("forge.language",),
    "pyarrow": ("dataset.clean.ray_engine",),
    "pydantic": ("core.settings", "core.state", "optimizer.server.app"),
    "pypdf": ("forge.reading.",),
    "ray": ("dataset.clean.ray_engine", "train.parallel.cluster"),
    "referencing": ("core.schema",),
    "regex": ("core.schema",),
    "rensa": ("dataset.clean.near_duplicates",),
    "rich": ("core.console",),
    "safetensors": ("lm.", "optimizer.", "package.", "preview.", "train."),
    "scipy": ("eval.", "optimizer.", "preview."),
    "stdnum": ("dataset.personal.pii_search",),
    "sklearn": ("optimizer.", "preview."),
    "selectolax": ("dataset.html.markup", "dataset.html.walk", "dataset.html.prune"),
    "tenacity": ("lm.api.client", "ops.nightly"),
    "tokenizers": ("dataset.clean.tokens", "lm."),
    "torch": ("eval.scoring.similarity", "lm.", "optimizer.", "package.", "preview.", "train."),
    "transformers": ("eval.scoring.similarity", "lm.", "optimizer.", "package.", "train."),
    "trl": ("train.",),
    # Pydantic reads its TypedDict before Python 3.12.
    "typing_extensions": ("core.state",),
    "unsloth": ("train.engine.backend_unsloth",),
    "starlette": ("lm.server.", "package.serve.http."),
    "uvicorn": ("lm.server.process",),
    "vllm": ("lm.vllm",),
    "wandb": ("train.tracking.trackers",),
    "xllamacpp": ("lm.local.llamacpp",),
    "yaml": ("core.settings",),
}
# 0.2 to 20 s each: inside functions only, so that every --help answers at once.
HEAVY = {
    *("accelerate", "datasets", "gguf", "httpx", "huggingface_hub", "litellm", "numpy", "peft"),
    *("pydantic", "sklearn"),
    *("safetensors", "scipy", "tokenizers", "torch", "transformers", "trl", "unsloth", "vllm"),
    *("ctranslate2", "fastapi", "mlflow", "onnx", "optuna", "py3langid", "pyarrow", "ray"),
    *(
        "boto3",
        "botocore",
        "cryptography",
        "mcp",
        "model_signing",
        "starlette",
        "uvicorn",
        "wandb",
    ),
}


def modules() -> list[Path]:
    return sorted(LIBRARY.rglob("*.py"))


def scripts() -> list[Path]:
    return sorted(SCRIPTS.glob("[a-z]*.py"))


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def imports(tree: ast.AST) -> Iterator[str]:
    """Yield the dotted name of every module `tree` imports, wherever the import stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def name_of(path: Path) -> str:
    """Return `lm.weights` for sem/lm/weights/weights.py."""
    return ".".join(path.relative_to(LIBRARY).with_suffix("").parts)


def is_inside(module: str, door: str) -> bool:
    return module == door or module.startswith(door if door.endswith(".") else f"{door}.")


def is_start(path: Path) -> bool:
    """Return True for the package itself and for what `python -m` runs: they begin jobs."""
    return path.parent == LIBRARY or path.name == "__main__.py"


def test_there_is_something_to_check():
    assert len(modules()) > 20
    assert len(scripts()) > 1


def test_a_module_imports_only_what_stands_below_it():
    wrong = []
    for path in modules():
        floor = name_of(path).split(".")[0]
        for imported in imports(parsed(path)):
            parts = imported.split(".")
            if parts[0] != "sem" or len(parts) < 2 or is_start(path) or parts[1] == "__version__":
                continue
            if parts[1] != floor and FLOORS[parts[1]] >= FLOORS[floor]:
                wrong.append(f"{name_of(path)} imports {imported}")

    assert not wrong


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Return the groups of more than one name that reach each other along `edges` (Tarjan)."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    waiting: list[str] = []
    groups: list[list[str]] = []

    def visit(name: str) -> None:
        number[name] = lowest[name] = len(number)
        waiting.append(name)
        for other in sorted(edges.get(name, ())):
            if other not in number:
                visit(other)
                lowest[name] = min(lowest[name], lowest[other])
            elif other in waiting:
                lowest[name] = min(lowest[name], number[other])
        if lowest[name] == number[name]:
            group = waiting[waiting.index(name) :]
            del waiting[waiting.index(name) :]
            if len(group) > 1:
                groups.append(sorted(group))

    for name in sorted(edges):
        if name not in number:
            visit(name)
    return groups


def imported_modules() -> dict[str, set[str]]:
    """Return each module of the library with those it imports, wherever the import stands."""
    names = {name_of(path) for path in modules()}
    edges: dict[str, set[str]] = {}
    for path in modules():
        if is_start(path):
            continue
        inner = {name.removeprefix("sem.") for name in imports(parsed(path)) if "." in name}
        # `from sem.core.files import lock` names what is in a module.
        inner |= {name.rpartition(".")[0] for name in inner}
        edges[name_of(path)] = (inner & names) - {name_of(path)}
    return edges


def test_a_circle_is_seen():
    # The check itself must be able to fail.
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert circles({"a": {"b"}, "b": {"c"}, "c": set()}) == []


def test_no_modules_import_each_other_in_a_circle():
    edges = imported_modules()

    assert sum(map(len, edges.values())) > 1_000
    assert circles(edges) == []


def test_no_folders_import_each_other_in_a_circle():
    folders: dict[str, set[str]] = {}
    for module, others in imported_modules().items():
        here = module.rpartition(".")[0]
        folders.setdefault(here, set()).update(other.rpartition(".")[0] for other in others)

    assert circles({name: others - {name} for name, others in folders.items()}) == []


def test_a_third_party_package_enters_through_its_door():
    wrong = []
    for path in modules():
        for imported in imports(parsed(path)):
            package = imported.split(".")[0]
            if package == "sem" or package in sys.stdlib_module_names:
                continue
            doors = DOORS.get(package, ())
            if not any(is_inside(name_of(path), door) for door in doors):
                wrong.append(f"{name_of(path)} imports {package}; its doors: {doors}")

    assert not wrong


def test_scripts_import_what_runs_a_job_and_the_standard_library_only():
    wrong = [
        f"{path.name} imports {imported}"
        for path in scripts()
        for imported in imports(parsed(path))
        if imported.split(".")[0] not in {"_run", *sys.stdlib_module_names}
    ]

    assert not wrong


def test_the_fabfile_imports_fabric_invoke_the_jobs_and_the_standard_library_only():
    parts = [parsed(ROOT / name) for name in FAB]
    found = {name.split(".")[0] for tree in parts for name in imports(tree)}

    assert found - {Path(name).stem for name in FAB} <= {
        "fabric",
        "invoke",
        "sem",
        *sys.stdlib_module_names,
    }


def at_module_level(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield the nodes of `tree` that run when it is imported."""
    pending: list[ast.AST] = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        # `if TYPE_CHECKING:` never runs.
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        yield node
        pending.extend(ast.iter_child_nodes(node))


def test_heavy_packages_are_imported_inside_functions():
    wrong = []
    for path in [*modules(), *scripts()]:
        for node in at_module_level(parsed(path)):
            names = list(imports(node)) if isinstance(node, ast.Import | ast.ImportFrom) else []
            wrong += [f"{path}: {name}" for name in names if name.split(".")[0] in HEAVY]

    assert not wrong


@pytest.mark.parametrize("path", scripts(), ids=lambda path: path.name)
def test_help_loads_nothing_heavy_and_shows_the_docstring(path):
    code = (
        "import runpy, sys\n"
        f"sys.argv = [{path.name!r}, '--help']\n"
        # As `python scripts/x.py` does.
        f"sys.path[:0] = [{str(SCRIPTS)!r}, {str(ROOT)!r}]\n"
        "try:\n"
        f"    runpy.run_path({str(path)!r}, run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    heavy = sorted(set(sys.modules) & set(sys.stdin.read().split()))\n"
        "    print('HEAVY', heavy, 'EXIT', end.code or 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=" ".join(HEAVY), capture_output=True, text=True
    )

    assert "HEAVY [] EXIT 0" in done.stdout, done.stdout[-300:] + done.stderr[-300:]
    assert (ast.get_docstring(parsed(path)) or "?").splitlines()[0] in done.stdout


@pytest.mark.parametrize("path", [*scripts(), *modules()], ids=lambda path: path.name)
def test_no_script_or_package_shadows_the_standard_library(path):
    # scripts/ is first on the path: scripts/json.py would break every import of json.
    top = path.stem if path.parent == SCRIPTS else "sem"

    assert top not in sys.stdlib_module_names
    assert top not in DOORS


def calls(tree: ast.AST, names: set[str]) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if name in names:
                yield node


def error_classes() -> set[str]:
    """SemError and every class of the library that derives from one."""
    found = {"SemError"}
    nodes = [node for path in modules() for node in ast.walk(parsed(path))]
    classes = [node for node in nodes if isinstance(node, ast.ClassDef)]
    for _ in classes:
        found |= {c.name for c in classes if any(getattr(b, "id", "") in found for b in c.bases)}
    return found


def test_every_error_says_what_happened_and_what_to_do():
    names, wrong, seen = error_classes(), [], 0
    for path in [*modules(), *scripts()]:
        for call in calls(parsed(path), names):
            seen += 1
            given = [*call.args, *(keyword.value for keyword in call.keywords)]
            empty = [v for v in given if isinstance(v, ast.Constant) and not str(v.value).strip()]
            if len(given) != 2 or empty:
                wrong.append(f"{path.relative_to(ROOT)}:{call.lineno}")

    assert seen > 50
    assert not wrong


def test_no_error_is_swallowed():
    wrong = []
    for path in [*modules(), *scripts(), *(ROOT / name for name in FAB)]:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ExceptHandler):
                broad = node.type is None or getattr(node.type, "id", "") in (
                    "Exception",
                    "BaseException",
                )
                silent = all(isinstance(statement, ast.Pass) for statement in node.body)
                if broad and silent:
                    wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}")

    assert not wrong


LONGEST_FILE = 550
LONGEST_FUNCTION = 60


def test_files_and_functions_stay_short():
    wrong = []
    for path in [*modules(), *scripts()]:
        lines = len(path.read_text("utf-8").splitlines())
        if lines > LONGEST_FILE:
            wrong.append(f"{path.relative_to(ROOT)}: {lines} lines")
        for node in ast.walk(parsed(path)):
            is_function = isinstance(node, ast.FunctionDef)
            if is_function and node.end_lineno - node.lineno >= LONGEST_FUNCTION:
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}")

    assert not wrong


def test_no_two_files_of_tests_have_one_name():
    # pytest imports them by their bare names: the second one is an error of the whole run.
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]

    assert sorted({name for name in names if names.count(name) > 1}) == []
