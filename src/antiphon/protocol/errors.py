"""The one exception that becomes an error reply, and the body it becomes.

Must not know who raises it or how it is sent.  Shapes: responses-api reference, section 10.
"""

import msgspec


class ErrorBody(msgspec.Struct):
    """The inside of ``{"error": ...}``; all four keys are always present."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorReply(msgspec.Struct):
    error: ErrorBody


class ApiError(Exception):
    """A request that cannot be served, told in the official error shape.

    ``status`` is the HTTP status.  Permanent client errors never use 409 or 5xx, which the SDKs retry.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = type
        self.code = code
        self.param = param
        self.headers = headers

    def body(self) -> bytes:
        """The JSON of the reply."""
        return msgspec.json.encode(ErrorReply(ErrorBody(self.message, self.type, self.param, self.code)))

    def reply_headers(self) -> dict[str, str]:
        """The headers of the reply; the SDKs obey ``x-should-retry`` before any rule of their own (reference 1.3)."""
        given = dict(self.headers)
        if self.status == 429 or self.status >= 500:
            given.setdefault("x-should-retry", "true")
        return given


#: Characters of what a client sent that an error repeats.
QUOTED_MAX = 100


def quoted(text: str) -> str:
    """What a client sent, as far as an error repeats it."""
    return text if len(text) <= QUOTED_MAX else f"{text[:QUOTED_MAX]}..."


def invalid(message: str, param: str | None = None, code: str | None = "invalid_value") -> ApiError:
    """400: the request says something that cannot be."""
    return ApiError(400, message, code=code, param=param)


def missing(param: str) -> ApiError:
    """400: a required parameter is absent."""
    return invalid(f"Missing required parameter: '{param}'.", param, "missing_required_parameter")


def empty_array(param: str) -> ApiError:
    """400: a list has no entry and must have one."""
    text = f"Invalid '{param}': empty array. Expected an array with minimum length 1, but got an empty array instead."
    return invalid(text, param, "empty_array")


def bad_choice(param: str, value: str, choices: tuple[str, ...] | list[str]) -> ApiError:
    """400: a value outside its enumeration."""
    supported = ", ".join(f"'{choice}'" for choice in choices)
    return invalid(f"Invalid value: '{quoted(value)}'. Supported values are: {supported}.", param)


def response_not_found(response_id: str) -> ApiError:
    """404: no such response in this project."""
    return ApiError(404, f"Response with id '{quoted(response_id)}' not found.")


def conversation_not_found(conversation_id: str, param: str | None = None) -> ApiError:
    """404: no such conversation in this project; ``param`` where a request names it (reference 3.2.7)."""
    return ApiError(404, f"Conversation with id '{quoted(conversation_id)}' not found.", param=param)


def conversation_locked() -> ApiError:
    """400: another response is running in it (reference 3.2.8)."""
    message = "Another process is currently operating on this conversation. Please retry in a few seconds."
    return invalid(message, "conversation", "conversation_locked")


def key_reused() -> ApiError:
    """422: another request came with this idempotency key before (design decision 17)."""
    message = (
        "This Idempotency-Key was used with another request body. "
        "Send the body that it was used with first, or another key."
    )
    headers = (("x-should-retry", "false"),)
    return ApiError(422, message, code="idempotency_key_reused", param="Idempotency-Key", headers=headers)


def previous_not_found(response_id: str) -> ApiError:
    """400, not 404: create answers so for an unknown ``previous_response_id`` (reference 3.2.5)."""
    message = f"Previous response with id '{quoted(response_id)}' not found."
    return invalid(message, "previous_response_id", "previous_response_not_found")


def item_not_found(item_id: str) -> ApiError:
    """404: an ``item_reference`` that points at nothing stored (reference 6.1)."""
    message = (
        f"Item with id '{quoted(item_id)}' not found. Items are not persisted when `store` is set to false. "
        "Try again with `store` set to true, or remove this item from your input."
    )
    return ApiError(404, message, param="input")


def model_not_found(model: str) -> ApiError:
    """404: no upstream serves the model (design decision 5)."""
    message = f"The model `{quoted(model)}` does not exist or you do not have access to it."
    return ApiError(404, message, code="model_not_found", param="model")


def context_too_long(message: str) -> ApiError:
    """400: the input does not fit the model's context window."""
    return invalid(message, "input", "context_length_exceeded")


def unavailable(message: str, *, status: int = 503, retry_after_seconds: int | None = None) -> ApiError:
    """503 and its kin: try again, with the headers that the SDKs obey (reference 1.3)."""
    headers = [("x-should-retry", "true")]
    if retry_after_seconds is not None:
        headers.append(("retry-after", str(max(1, retry_after_seconds))))
    return ApiError(
        status, message, type="service_unavailable_error", code="server_is_overloaded", headers=tuple(headers)
    )
