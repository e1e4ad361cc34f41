"""docs/reference/jobs.md: every job with its flags, from the signatures.

python -m sem.jobs.reference > docs/reference/jobs.md
"""

from sem.jobs import load_jobs
from sem.jobs.job import Job, Parameter

HEAD = """# Jobs

Every job with its flags. This page is generated from the signatures in `sem/jobs/`
(`python -m sem.jobs.reference > docs/reference/jobs.md`). A job `GROUP.JOB` is the same as
`fab GROUP.JOB`, `opensem GROUP.JOB` and `python scripts/GROUP_JOB.py`; words without a flag stand
last in the script, and Fabric takes them in the order shown.
"""


def reference_page() -> str:
    """Return the page as Markdown."""
    return "\n".join([HEAD, *map(_section, load_jobs().values())])


def _section(job: Job) -> str:
    summary, _, rest = job.document.partition("\n")
    lines = [f"## {job.name}", "", summary, ""]
    if rest.strip():
        lines += ["```text", rest.strip("\n"), "```", ""]
    if job.parameters:
        lines += ["| flag | |", "|---|---|"]
        lines += [f"| {_flag(parameter)} | {_cell(parameter)} |" for parameter in job.parameters]
        lines.append("")
    return "\n".join(lines)


def _flag(parameter: Parameter) -> str:
    if parameter.positional:
        of_fab = f" (`{parameter.flag}` under fab)" if parameter.positional.is_flag_of_fab else ""
        return f"`{parameter.positional.name}`{of_fab}"
    return f"`{parameter.flag}`"


def _cell(parameter: Parameter) -> str:
    text = parameter.described.replace("|", "\\|")
    return f"{text}; required" if parameter.is_required and not parameter.positional else text


if __name__ == "__main__":
    print(reference_page(), end="")
