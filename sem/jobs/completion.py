"""Completion of `opensem` in a shell, from the signatures of the jobs.

    eval "$(opensem completion bash)"     in ~/.bashrc; also zsh
    opensem completion fish | source      in ~/.config/fish/config.fish

The script holds every word and flag, so that a press of the tab key starts no Python.
"""

from collections.abc import Mapping

from sem.core.errors import SemError, suggest_nearest_name
from sem.jobs.job import Job

PROGRAMS = ("opensem", "opensem-cli")
SHELLS = ("bash", "zsh", "fish")
BASH = """_opensem() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} words
    if [ "$COMP_CWORD" -eq 1 ]; then
        words="{verbs}"
    else
        case ${{COMP_WORDS[1]}} in
{cases}
            *) words="--help" ;;
        esac
    fi
    case $word in -*|'') ;; *) [ "$COMP_CWORD" -gt 1 ] && words="" ;; esac
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _opensem {programs}
"""
# zsh runs bash's completions.
ZSH = "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n"


def completion_script(shell: str, jobs: Mapping[str, Job], verbs: Mapping[str, str]) -> str:
    """Return the completion of `shell` (bash, zsh or fish) for `jobs` and `verbs` (verb -> job).

    Raise SemError for another shell.
    """
    words = {**jobs, **{verb: jobs[name] for verb, name in verbs.items()}}
    if shell == "fish":
        return "".join(_fish_lines(word, words[word]) for word in sorted(words))
    if shell not in ("bash", "zsh"):
        raise SemError(
            f"no completion for the shell {shell!r}", suggest_nearest_name(shell, SHELLS)
        )
    cases = "\n".join(
        f'            {word}) words="{" ".join(_flags(words[word]))}" ;;' for word in sorted(words)
    )
    bash = BASH.format(verbs=" ".join(sorted(words)), cases=cases, programs=" ".join(PROGRAMS))
    return bash if shell == "bash" else ZSH + bash


def _flags(job: Job) -> list[str]:
    flags = [parameter.flag for parameter in job.parameters if not parameter.positional]
    return [*flags, "--help"]


def _fish_lines(word: str, job: Job) -> str:
    summary = job.summary.replace("\\", "").replace("'", "")
    lines = []
    for program in PROGRAMS:
        lines.append(f"complete -c {program} -n __fish_use_subcommand -a {word} -d '{summary}'\n")
        lines += [
            f"complete -c {program} -n '__fish_seen_subcommand_from {word}' -l {flag[2:]}\n"
            for flag in _flags(job)
        ]
    return "".join(lines)
