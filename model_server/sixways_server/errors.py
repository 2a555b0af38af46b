"""Errors that carry their HTTP status; each protocol puts them into its own shape."""

from __future__ import annotations


class RequestError(Exception):
    """A request that cannot be answered.

    Args:
        message: what is wrong, what is accepted, what to do.
        status: the HTTP status.
        code: a short machine-readable word, stable between versions.
        field: the field of the request that is wrong, or None.
        retry_after: seconds after which to try again, or None.
    """

    status = 400
    code = "invalid_request"

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        field: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status or self.status
        self.code = code or self.code
        self.field = field
        self.retry_after = retry_after


class BadRequest(RequestError):
    """400: the request itself is wrong; `field` names where."""


class PromptTooLong(RequestError):
    """400: more tokens than the model takes."""

    code = "context_length_exceeded"


class Unauthorized(RequestError):
    """401: no key, or not one of ours."""

    status = 401
    code = "invalid_api_key"


class UnknownModel(RequestError):
    """404: no model of that name is served here."""

    status = 404
    code = "model_not_found"


class BodyTooLarge(RequestError):
    """413: the body is over the limit; it was not read to its end."""

    status = 413
    code = "body_too_large"


class UnsupportedMedia(RequestError):
    """415: a body of a type, or packed in a way, that is not read here."""

    status = 415
    code = "unsupported_media_type"


class TooBusy(RequestError):
    """429: the queue is full."""

    status = 429
    code = "too_busy"


class NotReady(RequestError):
    """503: still loading, or draining."""

    status = 503
    code = "not_ready"
