"""A Modelfile written from the model's own chat template, or not at all.

    ollama.write_modelfile(chat, 2048, [("Be brief.", "the page")])

Ollama's templates put texts into places and can do little else. The places are asked of the chat
template, and what was written is proven on texts before it is used. That Ollama can import an
architecture was not tried here.
"""

from collections.abc import Iterable, Sequence
from urllib.parse import quote

from sem.core.errors import SemError
from sem.core.taskspec import TaskSpec
from sem.lm.local.chat import Chat
from sem.lm.local.turns import SYSTEM, USER

Texts = tuple[str, str]  # system, user
SAMPLES: tuple[Texts, ...] = (
    ("Be brief.", "a\nb"),
    ("One.\n\nTwo {braces}.", 'x "quoted" \\ {"y": [1]} <b>z</b> %\n\n  é ß İ'),
    ("", "no system text"),
)
SYSTEM_PLACE, USER_PLACE = "{{ .System }}", "{{ .Prompt }}"
_IF, _ELSE, _END = "{{ if .System }}", "{{ else }}", "{{ end }}"


def write_modelfile(
    chat: Chat,
    max_tokens: int,
    prompts: Sequence[Texts] = (),
    task: TaskSpec | None = None,
    weights: str = "./model",
) -> str:
    """Return the Modelfile over `weights`; SemError that says why there can be none.

    With a `task` it holds the system prompt and the instruction, so that a cleaned page is all
    that is sent. `prompts`: texts (system, user) that its template must render as `chat` does,
    beside SAMPLES.
    """
    if not chat.turns:
        raise _refusal("an encoder-decoder has no turns")
    template = _template(chat, task)
    system = [(task.system_prompt, "page")] if task else []
    for system_text, user in (*SAMPLES, *prompts, *system):
        if render_modelfile_template(template, system_text, user) != _without_bos(
            chat, chat.prompt_text(system_text, _instructed(task, user))
        ):
            raise _refusal("the chat template does more than put texts into places")
    parameters = [
        "PARAMETER temperature 0",
        # Ollama's own default of 1.1 punishes what a page and its answer share.
        "PARAMETER repeat_penalty 1",
        f"PARAMETER num_ctx {max_tokens}",
        *(f'PARAMETER stop "{stop}"' for stop in _stops(chat)),
    ]
    head = _comment(task) if task else ""
    middle = f'TEMPLATE """{template}"""\n' + (_system_line(chat, task) if task else "")
    return f"{head}FROM {weights}\n{middle}" + "\n".join(parameters) + "\n"


def schema_file(task_id: str) -> str:
    """Return where in a package the JSON Schema of a task lies."""
    return f"serve/schemas/{quote(task_id, safe='')}.schema.json"


def _instructed(task: TaskSpec | None, user: str) -> str:
    return task.prompt(user) if task else user


def _comment(task: TaskSpec) -> str:
    return f"""\
# Task {task.task_id!a}: send a page as the prompt; instruction and system prompt are in here.
# Clean the page first, as the expert does (`opensem ask`): a raw one does not fit the context.
# Send the JSON in {schema_file(task.task_id)} as "format": without it nothing holds the answer.
"""


def _system_line(chat: Chat, task: TaskSpec) -> str:
    system = chat.neutral(task.system_prompt)
    if '"""' in system:
        raise _refusal(f"the system prompt of {task.task_id} writes three quotes")
    return f'SYSTEM """{system}"""\n'


def describe_runtimes(chat: Chat, max_tokens: int, tasks: Iterable[TaskSpec]) -> str:
    """Return which runtimes a model that answers `tasks` can be packaged for, in words."""
    if not chat.turns:
        return "for Transformers"
    try:
        for task in tasks:
            write_modelfile(chat, max_tokens, task=task)
    except SemError as error:
        return f"for Transformers and vLLM; {error.message}"
    return "for Transformers, vLLM and Ollama"


def render_modelfile_template(template: str, system: str, user: str) -> str:
    """Return what Ollama makes of `template`, one that this module wrote."""
    if template.startswith(_IF):
        with_system, _, without = template.removeprefix(_IF).partition(_ELSE)
        template = with_system if system else without.removesuffix(_END)
    before, _, after = (
        template.partition(SYSTEM_PLACE) if SYSTEM_PLACE in template else ("", "", template)
    )
    middle, _, rest = after.partition(USER_PLACE)
    return before + (system if SYSTEM_PLACE in template else "") + middle + user + rest


def _template(chat: Chat, task: TaskSpec | None) -> str:
    user = _instructed(task, USER)
    places = [_without_bos(chat, chat.prompt_text(system, user)) for system in (SYSTEM, "")]
    for text in places:
        if "{{" in text or "}}" in text or '"""' in text:
            raise _refusal("the chat template writes braces or quotes that Ollama reads itself")
    with_system, without = (
        text.replace(SYSTEM, SYSTEM_PLACE).replace(USER, USER_PLACE) for text in places
    )
    if with_system.replace(SYSTEM_PLACE, "") == without:
        return with_system
    return f"{_IF}{with_system}{_ELSE}{without}{_END}"


def _without_bos(chat: Chat, prompt: str) -> str:
    # Ollama adds the begin-of-text token itself where the tokenizer does.
    first = chat.tokenizer.bos_token
    ids = chat.tokenizer("x")["input_ids"]
    if not first or ids[:1] != [chat.tokenizer.bos_token_id]:
        return prompt
    if not prompt.startswith(first):
        raise _refusal(f"Ollama would begin every prompt with {first}, the chat template does not")
    return prompt.removeprefix(first)


def _stops(chat: Chat) -> list[str]:
    stops = chat.tokenizer.convert_ids_to_tokens(chat.stop_ids)
    if any(not stop or set(stop) & set('"\\\n') for stop in stops):
        raise _refusal("a token that ends an answer cannot be written in a Modelfile")
    return sorted(stops)


def _refusal(reason: str) -> SemError:
    return SemError(f"no Modelfile: {reason}", "export for transformers or vllm instead")
