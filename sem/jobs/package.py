"""The jobs of `package.*`: the deliverable, written, verified, published, asked and served."""

from pathlib import Path
from typing import Annotated, Any

from sem.core import console, jsonio
from sem.core.errors import SemError
from sem.core.project import Project
from sem.core.run import find_run, refuse_tainted
from sem.jobs.job import Overrides, Positional, RunId, Sem, job
from sem.package.parity_record import MARGIN_POINTS, QUANTISED_MARGIN_POINTS

Package = Annotated[Path | None, "a package folder anywhere, not of a sem here"]
SignedBy = Annotated[
    Path | None, "a public key or certificate: its holder must have signed the package"
]
Endpoint = Annotated[
    str | None, "of another S3-compatible store than Amazon's (default: $AWS_ENDPOINT_URL)"
]


@job("package.export")
def export_package(
    sem: Sem = None,
    run: RunId = None,
    target: Annotated[
        tuple[str, ...],
        "transformers, vllm, ollama, llamacpp or llamacpp-q8_0 (default: the first three, "
        "where they can serve it)",
    ] = (),
) -> None:
    """Merge the adapter and write a self-describing package.

        fab package.export --sem shop --run RUN --target vllm

    llamacpp also writes the weights as gguf/model.f16.gguf, llamacpp-q8_0 as 8-bit ones, whose
    score has to be measured anew.

    Reads   models/SEM/adapters/RUN/, reports/SEM/RUN/{report.md, scores.json}
    Writes  models/SEM/packages/RUN/
    """
    from sem.package.export import bundle

    project = Project.load(sem)
    source = find_run(project, run)
    folder = bundle.build_package(project, source, list(target))
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    rows = [(path.relative_to(folder), f"{path.stat().st_size:,}") for path in files]
    console.print_table(f"package of {source.id}", ("file", "bytes"), rows)
    console.print_output_path(folder)


@job("package.verify")
def verify_package(
    sem: Sem = None,
    run: RunId = None,
    path: Annotated[Path | None, "a package folder anywhere, not of a sem here"] = None,
    answers: Annotated[int, "also repeat that many proven prompts"] = 0,
    kit: Annotated[bool, "also let the packaged model answer its own kit.jsonl again"] = False,
    signed_by: SignedBy = None,
    set: Overrides = (),
) -> None:
    """Check that a package is what it says it is, and answers as the run that was proven.

        fab package.verify --sem shop --run RUN --answers 20

    Every hash, and what follows from something else in it: the lineage, the report, what runtimes
    read, the tensors. Exit 1 names each fault. --answers N repeats at least N proven prompts with
    the packaged model and wants the same bytes; the same machine and precision as the evaluation
    are needed for that. --kit does the same with the few prompts in the package itself, and needs
    no project. --signed-by comes first: then nothing in the package is read unless its holder
    signed every file of it.

    Reads   models/SEM/packages/RUN/, reports/SEM/RUN/answers.test.jsonl
    """
    from sem.package import contract
    from sem.package.publish import signature
    from sem.package.verify import verify

    folder = path or _package_of_run(sem, run)
    contract.refuse_older_package(folder)
    if signed_by is not None:
        signature.check_signature(folder, signed_by)
        print(f"every file of {folder.name} is signed by the holder of {signed_by}")
    elif (folder / verify.SIGNATURE).exists():
        console.print_note("it holds a signature: --signed-by KEY says whether it is KEY's")
    faults = verify.package_faults(folder)
    if faults:
        raise SemError(
            f"{folder}: {len(faults)} faults:\n       " + "\n       ".join(faults),
            "do not use it: restore the files or export it again",
        )
    print(f"every file of {folder.name} is as the manifest says")
    if kit:
        _replay_kit(folder)
    if answers:
        _repeat_answers(Project.load(sem, set), folder, answers)
    console.print_output_path(folder)


def _package_of_run(sem: str | None, run: str | None) -> Path:
    """Return the package of the run; raise SemError if a takedown tainted it, or the run."""
    from sem.package.export import bundle

    project = Project.load(sem)
    folder = bundle.latest_package(project, run)
    refuse_tainted(project.adapters / folder.name, f"run {folder.name}")
    return folder


def _replay_kit(folder: Path) -> None:
    """Say how many answers of the kit come back; raise SemError that names those that do not."""
    from sem.package import contract, kit

    rows = kit.read_kit(folder)
    different = kit.replay_kit(folder, contract.read_tasks(folder))
    print(f"{len(rows) - len(different)} of {len(rows)} answers of the kit are byte-equal")
    if different:
        raise SemError(
            f"{folder}: {len(different)} of {len(rows)} answers differ from the kit's: "
            f"{', '.join(different)}",
            "on the machine and in the precision of the evaluation it answers as was proven; "
            "elsewhere the last bits can differ",
        )


def _repeat_answers(project: Project, folder: Path, count: int) -> None:
    """Say how many proven answers come back byte for byte; raise SemError unless all do."""
    from sem.eval.answers import subject
    from sem.package.verify import verify

    proven = subject.resolve_answered_subject(project, folder.name, "test")
    if not proven.book.path.exists():
        raise SemError(
            f"run {folder.name} has no answers on the test part: the package's hashes are right, "
            "its answers were not compared",
            "answer the test part first: `fab eval.generate`, or `opensem-cli eval`",
        )
    equal, prompt_count = verify.answers_again(proven, folder, count)
    print(f"{equal} of {prompt_count} proven answers are byte-equal")
    if equal < prompt_count:
        raise SemError(
            f"{folder}: {prompt_count - equal} of {prompt_count} answers "
            "differ from the proven ones",
            "if it was evaluated on another machine or precision, evaluate it again here",
        )


@job("package.sign")
def sign_run_package(
    key: Annotated[Path, "a private key in PEM, of the curves P-256, P-384 or P-521"],
    sem: Sem = None,
    run: RunId = None,
    path: Package = None,
) -> None:
    """Sign every file of a package that verifies, with a private key and offline.

        fab package.sign --sem shop --run RUN --key release.key

    The signature is OpenSSF's model signing. The key is a file that nobody else can read; an
    encrypted one is opened with $SEM_KEY_PASSWORD. Export again, and the package is unsigned.

    Reads   models/SEM/packages/RUN/, KEY
    Writes  models/SEM/packages/RUN/model.sig
    """
    from sem.package.publish import signature

    folder = path or _package_of_run(sem, run)
    console.print_output_path(signature.sign_package(folder, key))


@job("package.publish")
def publish_run_package(
    to: Annotated[str, "a folder, s3://BUCKET/PREFIX, or hf://ORG/NAME"],
    sem: Sem = None,
    run: RunId = None,
    path: Package = None,
    endpoint: Endpoint = None,
    signed_by: SignedBy = None,
    reason: Annotated[str | None, "why it is published without a passed gate"] = None,
    set: Overrides = (),
) -> None:
    """Publish a package that verifies and passed its gate: to a folder, a bucket, or the hub.

        fab package.publish --sem shop --run RUN --to s3://models/experts
        fab package.publish --sem shop --run RUN --to hf://org/name

    Readers see the whole package or none: files go first, each by its hash, what lists them last.
    A killed start goes on where it stopped. `signed_by` of publish.yaml asks for a signature
    always. Keys are $AWS_ACCESS_KEY_ID and the others of Amazon's tools, and $HF_TOKEN; a new
    repository of the hub is private.

    Reads   models/SEM/packages/RUN/, configs/SEM/publish.yaml
    Writes  TO/files/SHA256 and TO/packages/RUN.json, or a commit of the hub's repository
    """
    from sem.core import provenance
    from sem.package.publish import places, publish

    folder = path or _package_of_run(sem, run)
    signer = publish.find_signer(None if path else Project.load(sem, set), signed_by)
    place = places.open_place(to, endpoint)
    print(publish.publish_package(folder, place, signer, reason, provenance.utc_now()))


@job("package.fetch")
def fetch_published_package(
    place: Annotated[
        str, "a folder, s3://BUCKET/PREFIX, or hf://ORG/NAME[@REVISION]", Positional("PLACE")
    ],
    sem: Sem = None,
    run: Annotated[str | None, "run (default: the newest one there)"] = None,
    into: Annotated[Path | None, "folder that gets it (default: models/SEM/packages)"] = None,
    endpoint: Endpoint = None,
    signed_by: SignedBy = None,
    set: Overrides = (),
) -> None:
    """Fetch a published package; it takes its name once every file is right and it verifies.

        fab package.fetch s3://models/experts --sem shop --run RUN
        fab package.fetch hf://org/name --into experts --signed-by release.pub

    A killed start goes on with the files that are whole.

    Reads   what package.publish wrote, configs/SEM/publish.yaml
    Writes  INTO/RUN/
    """
    from sem.package.publish import places, publish

    project = Project.load(sem, set) if into is None else None
    signer = publish.find_signer(project, signed_by)
    target = into if into is not None else project.packages if project else Path()
    runs = project.adapters if project else None
    source = places.open_place(place, endpoint)
    folder = publish.fetch_package(source, run, target, signer, runs)
    console.print_output_path(folder)


@job("package.diff")
def compare_packages(
    before: Annotated[str, "a run, or a package folder", Positional("BEFORE")],
    after: Annotated[str, "another run, or package folder", Positional("AFTER")],
    sem: Sem = None,
    json: Annotated[bool, "print it as JSON"] = False,
) -> None:
    """Show what differs between two packages, what a person asks first at the top.

        fab package.diff --before RUN --after RUN --sem shop

    Run, base, tasks and schemas, snapshot, the gate and each slot's figures, cleaner, generation,
    then weights (which tensors, and by how much) and files.

    Reads   models/SEM/packages/RUN/
    """
    from sem.package.publish import diff

    folders = [_named_package(sem, name) for name in (before, after)]
    differences = diff.diff_packages(*folders)
    if json:
        document = [difference.as_json() for difference in differences]
        print(jsonio.pretty_json({"format": "package_diff.v1", "differences": document}), end="")
        return
    columns = ("", *(folder.name for folder in folders))
    for section, entries in diff.by_section(differences):
        rows = [(entry.name, entry.shown_before, entry.shown_after) for entry in entries]
        console.print_table(section, columns, rows)
    if not differences:
        console.print_note("the packages hold the same")


def _named_package(sem: str | None, name: str) -> Path:
    """Return the package folder `name`, or the package of the run of that name."""
    path = Path(name)
    if "/" in name or (path / "manifest.json").is_file():
        return path
    from sem.package.export import bundle

    return bundle.latest_package(Project.load(sem), name)


@job("package.parity")
def check_package_parity(
    sem: Sem = None,
    run: RunId = None,
    targets: Annotated[
        str, "runtimes, separated by commas: transformers, adapter, llamacpp, llamacpp-q8_0, vllm"
    ] = "transformers,adapter,llamacpp,llamacpp-q8_0,vllm",
    rows: Annotated[
        int | None, "proven rows that are asked, a seeded sample; default: all"
    ] = None,
    margin: Annotated[
        float, "points of slots that may differ, and of accuracy lost"
    ] = MARGIN_POINTS,
    quantised_margin: Annotated[float, "the same of quantised weights"] = QUANTISED_MARGIN_POINTS,
    address: Annotated[tuple[str, ...], "a server that runs: vllm=http://HOST:PORT"] = (),
    set: Overrides = (),
) -> None:
    """Ask the package in each runtime, and compare with what was proven.

        fab package.parity --sem shop
        fab package.parity --sem shop --targets llamacpp --rows 20
        fab package.parity --sem shop --targets vllm --address vllm=http://127.0.0.1:8000

    Every prompt must be the proven one by the runtime's own template, byte for byte, and its own
    tokenizer, id for id; the answers' values must be the proven ones but for a margin. A runtime
    that is not here is NOT CHECKED: vLLM is started where $SEM_VLLM_PYTHON names an interpreter
    that has it. One request at a time is timed. Exit 1: a runtime differs. `ops.promote` asks for
    a PASS of the runtime that will serve, on every proven row and by these margins.

    Reads   models/SEM/packages/RUN/, reports/SEM/RUN/answers.test*.jsonl, $SEM_VLLM_PYTHON
    Writes  reports/SEM/RUN/parity.json
    """
    from sem.eval.answers import subject
    from sem.package import parity_record as record
    from sem.package.export import bundle
    from sem.package.parity import parity, runtimes

    project = Project.load(sem, set)
    folder = bundle.latest_package(project, run)
    refuse_tainted(project.adapters / folder.name, f"run {folder.name}")
    proven = subject.resolve_answered_subject(project, folder.name, "test")
    addresses = runtimes.parse_addresses(address)
    options = parity.ParityOptions(rows, margin, quantised_margin, addresses)
    names = [name.strip() for name in targets.split(",") if name.strip()]
    checks = []
    for check in parity.check_targets(proven, folder, names, options):
        # What was checked stays, whatever ends the rest.
        path = record.write_parity(project, proven.run, folder, [check])
        checks.append(check)
    if not checks:
        raise SemError("--targets names no runtime", "name one, as --targets llamacpp")
    _print_parity(checks)
    console.print_output_path(path)
    failed = [check.target for check in checks if check.verdict == record.FAIL]
    if failed:
        raise SemError(
            f"{folder.name} does not answer as it was proven in {', '.join(failed)}",
            "export it again; if it stays so, do not serve it there",
        )


def _print_parity(checks: Any) -> None:
    columns = (
        "runtime",
        "verdict",
        "prompts",
        "ids",
        "slots",
        "accuracy",
        "MB",
        "tok/s",
        "p50/p95",
    )
    lines = []
    for check in checks:
        counts = [f"{n} of {m}" if m else "-" for n, m in (check.prompts, check.ids, check.slots)]
        known = check.difference
        change = (
            f"{known['points']:+.1f} [{known['low']:+.1f}, {known['high']:+.1f}]" if known else "-"
        )
        speed = (f"{check.tokens_per_second:.1f}", f"{check.p50_ms}/{check.p95_ms} ms")
        size = f"{check.weight_bytes / 1e6:.0f}"
        rest = (change, size, *speed) if known else ("-",) * 4
        lines.append((check.target, check.verdict, *counts, *rest))
    console.print_table("parity with what was proven", columns, lines)
    for check in checks:
        if check.reason:
            console.print_note(f"{check.target}: {check.verdict}: {check.reason}")
