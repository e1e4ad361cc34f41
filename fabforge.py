"""The jobs of sem.*, forge.* and golden.*: projects and what is made of documents."""

from fabjobs import SEM, project_script, script
from fabric import task

NEW = {
    "template": "qa or extraction (default: qa)",
    "base_model": "as env_weights.py --list names it (default: SmolLM2-135M-Instruct)",
    "from_older": "complete an older layout in place; its files stay",
}


@task(help=NEW)
def sem_new(c, name, template=None, base_model=None, from_older=False):
    """Make a project: settings, and folders for its data and models."""
    chosen = {"template": template, "base_model": base_model, "from_older": from_older}
    project_script(c, "sem_new", name, **chosen)


@task
def sem_list(c):
    """Show every project, and which one is current."""
    project_script(c, "sem_list")


@task(help=SEM)
def sem_status(c, sem=None):
    """Show what a project has, and the next command to type."""
    script(c, "sem_status", sem=sem)


@task
def sem_use(c, name):
    """Make a project the current one: jobs work on it without --sem."""
    project_script(c, "sem_use", name)


@task(help=SEM | {"files": "a file to add (repeatable)", "replace": "also over one of its name"},
      iterable=["files"])  # fmt: skip
def sem_add_data(c, files, sem=None, replace=False):
    """Copy documents into a project."""
    script(c, "sem_add_data", *files, sem=sem, replace=replace)


@task(help={"yes": "without asking; fab itself cannot ask"})
def sem_delete(c, name, yes=False):
    """Delete one project with its data, models and reports."""
    project_script(c, "sem_delete", name, yes=yes)
