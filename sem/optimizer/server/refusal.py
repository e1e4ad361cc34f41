"""What the service does not do, and what the client is told."""

from typing import Any


class Refusal(Exception):
    """An answer other than 200: a status, a sentence for people, a reason for programs."""

    def __init__(
        self, status: int, reason: str, detail: str, retry_after_s: int | None = None, **more: Any
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.reason = reason
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.more = more

    @property
    def headers(self) -> dict[str, str]:
        """Retry-After, and how to show a key."""
        headers = {} if self.retry_after_s is None else {"retry-after": str(self.retry_after_s)}
        if self.status == 401:
            headers["www-authenticate"] = "Bearer"
        return headers

    def body(self, request_id: str) -> dict[str, Any]:
        """Return the JSON answer to the request `request_id`."""
        return {
            "detail": self.detail,
            "reason": self.reason,
            "request_id": request_id,
            **self.more,
        }


def not_loaded(cure: str) -> Refusal:
    """No adapter is loaded, and the base model alone is never served; `cure` says what helps."""
    return Refusal(503, "not_loaded", "Model not loaded", retry_after_s=5, cure=cure)


def full(waiting: int) -> Refusal:
    """Return the refusal of a request while the line is as long as it may get."""
    return Refusal(429, "queue_full", f"{waiting} prompts are waiting; try again", 1)


def late(timeout_s: float) -> Refusal:
    """Return the refusal of a request whose answer was not there in time."""
    return Refusal(503, "timeout", f"no answer within {timeout_s:g} s; try again", 2)


def gone() -> Refusal:
    """Return the client left; nobody reads this."""
    return Refusal(499, "client_left", "the client closed the connection")


def failed() -> Refusal:
    """Return the network raised; the log says what, under the request's id."""
    return Refusal(503, "network_failed", "the network failed on this request", 1)
