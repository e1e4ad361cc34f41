"""The chat API of OpenAI, as far as an expert speaks it: a task is a model, its page a message.

    client = openai.OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="none")
    client.chat.completions.create(model="price", messages=[{"role": "user", "content": html}])

The system prompt, the temperature and the schema are the package's own. What would change the
answer and cannot be honoured is refused; nothing of that kind is silently ignored.
"""

import time
from collections.abc import AsyncIterator
from typing import Any

from sem.core import jsonio
from sem.core.taskspec import TaskSpec
from sem.lm.server.refusal import RequestRefusalError
from sem.package.serve.expert import Extraction, PageQuestion

CHAT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["model", "messages"],
    "properties": {
        "model": {"type": "string", "maxLength": 200},
        "messages": {
            "type": "array",
            "minItems": 1,
            "maxItems": 100,
            "items": {
                "type": "object",
                "required": ["role"],
                "properties": {"role": {"type": "string"}},
            },
        },
        "stream": {"type": ["boolean", "null"]},
        "stream_options": {"type": ["object", "null"]},
        "n": {"type": ["integer", "null"]},
        "response_format": {"type": ["object", "null"]},
        "url": {"type": ["string", "null"], "maxLength": 4_096},
        "page_type": {"type": ["string", "null"], "maxLength": 200},
    },
}
# Of the content, so that a client sees it come; the whole of it was checked before the first.
CHUNK_CHARS = 64


def chat_question(body: dict[str, Any], tasks: dict[str, TaskSpec]) -> PageQuestion:
    """Return what the chat request `body` asks; raise RequestRefusalError for what it may not."""
    name = body["model"]
    if name not in tasks:
        raise unknown_model_refusal(name, tasks)
    _refuse_unsupported(body, tasks[name])
    pages = [message for message in body["messages"] if message["role"] == "user"]
    if not pages:
        raise RequestRefusalError(422, "no_page", "no message of the role user: it is the page")
    content = _message_text(pages[-1].get("content"))
    return PageQuestion(content, name, body.get("url"), body.get("page_type"))


def unknown_model_refusal(name: str, tasks: dict[str, TaskSpec]) -> RequestRefusalError:
    """Return the refusal of a model that is no task of the package."""
    names = ", ".join(sorted(tasks))
    return RequestRefusalError(
        404, "unknown_task", f"no model {name[:80]!r}: the tasks of this package are {names}"
    )


def _refuse_unsupported(body: dict[str, Any], spec: TaskSpec) -> None:
    """Raise RequestRefusalError for a wish that would change the answer and is not granted."""
    wishes = {
        "n": body.get("n") not in (None, 1),
        "tools": bool(body.get("tools") or body.get("functions")),
        "logprobs": bool(body.get("logprobs")),
        "response_format": not _is_own_format(body.get("response_format"), spec),
    }
    for name, is_wished in wishes.items():
        if is_wished:
            detail = f"{name}: an expert gives one answer, held to the schema of its task"
            raise RequestRefusalError(422, "not_supported", detail)


def _is_own_format(wanted_format: dict[str, Any] | None, spec: TaskSpec) -> bool:
    """Return True if `wanted_format` is what every answer has: JSON by the task's schema."""
    if not wanted_format or wanted_format.get("type") != "json_schema":
        return True
    described = wanted_format.get("json_schema")
    schema = described.get("schema") if isinstance(described, dict) else None
    return schema is None or schema == spec.io_schema


def _message_text(content: Any) -> str:
    """Return the text of a message: a string, or parts that are texts."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    texts = [part.get("text") if isinstance(part, dict) else None for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise RequestRefusalError(
            422, "not_text", "the last message of the user is no text: it is the page"
        )
    return "".join(map(str, texts))


def models_json(tasks: dict[str, TaskSpec], package: str) -> list[dict[str, Any]]:
    """Return each task as OpenAI describes a model."""
    return [
        {"id": name, "object": "model", "created": 0, "owned_by": package}
        for name in sorted(tasks)
    ]


def completion_json(extraction: Extraction, request_id: str) -> dict[str, Any]:
    """Return `extraction` as a chat completion; `sem` holds confidence and grounding."""
    message = {"role": "assistant", "content": _content(extraction), "refusal": None}
    choice = {
        "index": 0,
        "message": message,
        "finish_reason": _finish_reason(extraction),
        "logprobs": None,
    }
    return {
        **_head(extraction, request_id, "chat.completion"),
        "choices": [choice],
        "usage": _usage(extraction),
        "sem": extraction.as_json(),
    }


async def completion_events(
    extraction: Extraction, request_id: str, with_usage: bool
) -> AsyncIterator[bytes]:
    """Yield `extraction` as the server-sent events of a streamed chat completion.

    The answer was checked as a whole before: what breaks the schema is never sent in part.
    """
    head = _head(extraction, request_id, "chat.completion.chunk")

    def chunk(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
        return {**head, "choices": [choice]}

    content = _content(extraction)
    yield _event(chunk({"role": "assistant", "content": ""}))
    for start in range(0, len(content), CHUNK_CHARS):
        yield _event(chunk({"content": content[start : start + CHUNK_CHARS]}))
    yield _event({**chunk({}, _finish_reason(extraction)), "sem": extraction.as_json()})
    if with_usage:
        yield _event({**head, "choices": [], "usage": _usage(extraction)})
    yield b"data: [DONE]\n\n"


def _head(extraction: Extraction, request_id: str, kind: str) -> dict[str, Any]:
    created = int(time.time())
    identity = f"chatcmpl-{request_id}"
    return {"id": identity, "object": kind, "created": created, "model": extraction.task}


def _content(extraction: Extraction) -> str:
    # The same line as `opensem ask` prints.
    return jsonio.canonical_json(extraction.value)


def _finish_reason(extraction: Extraction) -> str:
    """Return `length` for an answer that was made to end for want of room."""
    return "length" if extraction.finish == "closed" else "stop"


def _usage(extraction: Extraction) -> dict[str, int]:
    return {
        "prompt_tokens": extraction.tokens_in,
        "completion_tokens": extraction.tokens_out,
        "total_tokens": extraction.tokens_in + extraction.tokens_out,
    }


def _event(value: dict[str, Any]) -> bytes:
    return f"data: {jsonio.canonical_json(value)}\n\n".encode()
