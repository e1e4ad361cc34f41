"""The jobs of sem.*, forge.* and golden.*: projects and what is made of documents."""

from fabric import task

from fabjobs import SEM, SET, project_script, script

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


PLUGINS = {"allow_plugins": "load a forge of your own (docs/forges.md)"}
FORGE = PLUGINS | {
    "dry_run": "say what would be asked and what it would cost; nothing is sent",
    "yes": "agree to the cost beforehand",
    "limit": "so many chunks, drawn from all of them",
}


@task(help=SEM | FORGE | SET, iterable=["set"])
def forge_run(
    c, sem=None, dry_run=False, yes=False, limit=None, allow_plugins=False, set=None
):  # fmt: skip
    """Make examples of a project's documents."""
    chosen = {"dry_run": dry_run, "yes": yes, "limit": limit, "allow_plugins": allow_plugins}
    script(c, "forge_run", sem=sem, set=set, **chosen)


@task(help=SEM | PLUGINS | SET, iterable=["set"])
def forge_chunks(c, sem=None, allow_plugins=False, set=None):
    """Show what the documents become; nobody is asked."""
    script(c, "forge_chunks", sem=sem, allow_plugins=allow_plugins, set=set)


EXAM = {"rows": "golden questions (default: 50)", "yes": FORGE["yes"]}


@task(help=SEM | EXAM | SET, iterable=["set"])
def forge_teacher(c, sem=None, rows=None, yes=False, set=None):
    """Let the teacher answer the golden questions: go or no-go."""
    script(c, "forge_teacher", sem=sem, rows=rows, yes=yes, set=set)


SERVE = {
    "model": "smollm2, qwen2.5-coder-0.5b or PATH.gguf (default: qwen2.5-coder-0.5b)",
    "port": "default: 8080; 0: any that is free",
    "context": "tokens of prompt and reply (default: 4096)",
    "slots": "requests at once (default: 1)",
    "threads": "default: the physical cores",
}


@task(help=SERVE)
def forge_serve(c, model=None, port=None, context=None, slots=None, threads=None):
    """Serve a small model on this machine as the teacher: free, offline."""
    chosen = {"model": model, "port": port, "context": context}
    project_script(c, "forge_serve", **chosen, slots=slots, threads=threads)


ADD = {
    "file": "JSON, JSON lines or CSV",
    "question": "instead of a file",
    "answer": "a text, or JSON of the task's io_schema",
    "task": "task_id, where the sem has several",
    "map": "read the key THEIRS as OURS, as question=q (repeatable)",
    "keep": "unknown keys go to meta",
    "replace": "another answer to a known id",
}


@task(help=SEM | ADD, iterable=["map"])
def golden_add(
    c, sem=None, file=None, question=None, answer=None, task=None, map=None, keep=False,
    replace=False,
):  # fmt: skip
    """Add hand-made questions with their answers to the golden set."""
    chosen = {"question": question, "answer": answer, "task": task, "map": map}
    words = [file] if file else []
    script(c, "golden_add", *words, sem=sem, **chosen, keep=keep, replace=replace)


@task(help=SEM | {"language": "ISO 639-1: questions in another are findings"})
def golden_check(c, sem=None, language=None):
    """Say what is wrong with the golden set; exit 1 when anything is."""
    script(c, "golden_check", sem=sem, language=language)
