"""A rewrite as server-sent events: text as it grows, then the whole with its confidence."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from sem.core import jsonio
from sem.optimizer.server.refusal import Refusal
from sem.optimizer.server.service import Service

# Of one event, in the OpenAPI document: `data` is JSON.
SCHEMA = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {"event": {"enum": ["token", "done", "error"]}, "data": {"type": "string"}},
}


async def events(
    service: Service,
    prompt: str,
    waiting: "asyncio.Future[Any]",
    tokens: "asyncio.Queue[int]",
    request_id: str,
) -> AsyncIterator[bytes]:
    """Yield `token` events whose texts add up to a beginning of the rewrite.

    `done` holds all of it.
    """
    rewriter = service.network.rewriter if service.network else None
    ids: list[int] = []
    sent = ""
    # Starlette cancels this when the client leaves, and with it the place in line.
    departure: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    whole = asyncio.ensure_future(service.answers([waiting], departure))
    heard = asyncio.ensure_future(tokens.get())
    try:
        while not whole.done():
            await asyncio.wait({heard, whole}, return_when=asyncio.FIRST_COMPLETED)
            if not heard.done():
                continue
            ids.append(heard.result())
            while not tokens.empty():
                ids.append(tokens.get_nowait())
            heard = asyncio.ensure_future(tokens.get())
            grown = settled(rewriter, ids, sent)
            if len(grown) > len(sent):
                yield _event("token", {"text": grown[len(sent) :]})
                sent = grown
        (rewrite,) = whole.result()
        sure = service.confidence(rewrite, prompt)
        yield _event("done", {"optimized_prompt": rewrite.text, "confidence": sure})
    except Refusal as error:
        yield _event("error", error.body(request_id))
    finally:
        heard.cancel()
        whole.cancel()
        waiting.cancel()


def settled(rewriter: Any, ids: list[int], sent: str) -> str:
    """As much of the text of IDS as no later token changes, at least `sent`.

    A space before a token that stands for a character goes away, and an escaped character is
    there only when its last token is.
    """
    content_ids = [token_id for token_id in ids if token_id != rewriter.end]
    spelling = rewriter.speaker.spelling
    if spelling is not None:
        escape = rewriter.speaker.tokenizer.convert_tokens_to_ids(spelling.escape)
        if content_ids.count(escape) % 2:
            content_ids = content_ids[: len(content_ids) - content_ids[::-1].index(escape) - 1]
    text = rewriter.text(content_ids).rstrip(" ")
    return text if text.startswith(sent) else sent


def _event(name: str, value: Any) -> bytes:
    return f"event: {name}\ndata: {jsonio.canonical_json(value)}\n\n".encode()
