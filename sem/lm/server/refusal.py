"""What a server does not do, and what the client is told."""

from typing import Any


class RequestRefusalError(Exception):
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


def queue_full_refusal(waiting: int, items: str) -> RequestRefusalError:
    """Return the refusal of a request while `waiting` of the `items` fill the line."""
    return RequestRefusalError(429, "queue_full", f"{waiting} {items} are waiting; try again", 1)


def timeout_refusal(timeout_s: float) -> RequestRefusalError:
    """Return the refusal of a request whose answer was not there in time."""
    return RequestRefusalError(503, "timeout", f"no answer within {timeout_s:g} s; try again", 2)


def client_left_refusal() -> RequestRefusalError:
    """Return how a request ends whose client has gone; nobody reads it."""
    return RequestRefusalError(499, "client_left", "the client closed the connection")
