"""From what litellm returns or raises to an Outcome."""

from typing import Any

from sem.lm.api import calls, redact
from sem.lm.api.calls import Outcome, Request
from sem.lm.api.wire import Wire

STATUS = {401: "auth", 403: "forbidden", 408: "timeout", 429: "rate_limited", 503: "unavailable"}


def of_reply(reply: Any, request: Request) -> Outcome:
    """Return the Outcome of `reply`, litellm's reply to `request`.

    Only a whole, fitting one is usable.
    """
    usage = getattr(reply, "usage", None)
    counts = {
        "tokens_in": _count(getattr(usage, "prompt_tokens", 0)),
        "tokens_out": _count(getattr(usage, "completion_tokens", 0)),
    }
    if not reply.choices:
        return Outcome(fault="empty", detail="no choice in the reply", **counts)
    choice = reply.choices[0]
    content = getattr(choice.message, "content", None)
    text = redact.redacted(content if isinstance(content, str) else "")
    if choice.finish_reason != "stop":
        fault = "filtered" if choice.finish_reason == "content_filter" else "length"
        return Outcome(text, fault=fault, detail=f"finished by {choice.finish_reason}", **counts)
    value, fault, detail = calls.read_reply_value(text, request)
    return Outcome(text, value, fault, redact.redacted(detail), **counts)


def of_error(error: Exception, line: Wire) -> Outcome:
    """Return the Outcome of `error`, which litellm raised while `line` was open."""
    return Outcome(fault=_kind(error, line), detail=redact.redacted(str(error))[:300])


def _count(tokens: Any) -> int:
    return tokens if isinstance(tokens, int) and 0 <= tokens < 10**9 else 0


def _kind(error: Exception, line: Wire) -> str:
    """Return the fault's name: from the wire, and from the error where the wire was not ours."""
    if line.fault:
        return line.fault
    status = line.status
    if status is None:
        if "timeout" in type(error).__name__.lower():
            return "timeout"
        # litellm reports a broken connection as status 500.
        status = getattr(error, "status_code", None)
        if status in (None, 500) or not isinstance(status, int):
            return "connection"
    if status < 300:
        return "not_json"
    if status in STATUS:
        return STATUS[status]
    return "server_error" if status >= 500 else "bad_request"
