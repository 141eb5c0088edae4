"""``antiphon ask``: one question, its answer as it comes."""

import asyncio
import os
import stat
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import msgspec

from antiphon.cli.hosting import reached
from antiphon.cli.logs import log_to
from antiphon.cli.options import base_url_option, config_option, key_option, sentences, text
from antiphon.cli.statuses import INTERRUPTED
from antiphon.config import Config, ConfigError, load, state_folder
from antiphon.engine.ports.upstreams import UpstreamError
from antiphon.upstreams.events import EventStream
from antiphon.upstreams.failures import failure_of
from antiphon.upstreams.http import Receiver

#: Most of an error's body that is read.
FAILURE_MAX = 64 * 1024
#: What would steer a terminal: a model's answer is text and nothing else.
_CONTROLS = {code: None for code in (*range(0x20), 0x7F, *range(0x80, 0xA0)) if chr(code) not in "\n\t"}


class Last(msgspec.Struct):
    """What the last question left, for ``--continue``."""

    id: str
    model: str


@click.command()
@click.argument("prompt", nargs=-1, type=text)
@click.option("-m", "--model", type=text, help="The model; default: the server's.")
@click.option("-s", "--instructions", "--system", type=text, help="How the model is to behave.")
@click.option("-c", "--continue", "goes_on", is_flag=True, help="Go on with the last answer.")
@click.option("--previous", metavar="ID", type=text, help="Go on with the response of this id.")
@config_option
@base_url_option
@key_option
def ask(
    prompt: tuple[str, ...],
    model: str | None,
    instructions: str | None,
    goes_on: bool,
    previous: str | None,
    config_path: Path | None,
    base_url: str | None,
    api_key: str | None,
) -> None:
    """Ask a model, and print its answer as it comes.

    What is piped in is added to the PROMPT.  A running server is used where there is one, else one is started for the
    question.  The exit status is 0 for a whole answer, 1 for none or a part of one, 130 after Ctrl-C.
    """
    log_to("WARNING")
    with sentences():
        config = load(config_path, os.environ, {})
        last = _remembered() if goes_on else None
        asked = {
            "input": _input(prompt, config),
            "instructions": instructions,
            "previous_response_id": previous or (last.id if last else None),
            "model": model or (last.model if last else None),
            "stream": True,
        }
        try:
            answer = asyncio.run(_asked(config, base_url, api_key, asked))
        except KeyboardInterrupt:
            click.echo()
            sys.exit(INTERRUPTED)
        if answer.text and not answer.text.endswith("\n"):
            click.echo()
        _remember(answer.end())


async def _asked(config: Config, base_url: str | None, key: str | None, asked: Mapping[str, Any]) -> "Answer":
    async with reached(config, base_url, key) as server:
        model = asked["model"] or server.offer.choice()
        answer = Answer(_say)
        await server.remote.respond(msgspec.json.encode({**asked, "model": model}), answer)
        return answer


# --- What is asked ---


def _input(prompt: tuple[str, ...], config: Config) -> str:
    text = "\n\n".join(part for part in (" ".join(prompt), _piped(config.body_max_bytes)) if part.strip())
    if not text:
        raise ConfigError("prompt: say what to ask, or pipe it in.")
    return text


def _piped(at_most: int) -> str:
    """What a pipe or a file brings; whatever else stands there may never end."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError):  # there is none
        return ""
    if not (stat.S_ISFIFO(mode) or stat.S_ISREG(mode)):
        return ""
    data = sys.stdin.buffer.read(at_most + 1)
    if len(data) > at_most:
        raise ConfigError(f"body_max_bytes: more than {at_most} bytes were piped in.")
    return data.decode("utf-8", "replace")


# --- What is answered ---


class _Ended(msgspec.Struct):
    id: str = ""
    model: str = ""
    status: str = ""
    error: Mapping[str, Any] | None = None
    incomplete_details: Mapping[str, Any] | None = None


class _Event(msgspec.Struct):
    type: str = ""
    delta: str | None = None
    response: _Ended | None = None


_decode = msgspec.json.Decoder(_Event).decode
_TEXT = ("response.output_text.delta", "response.refusal.delta")
_LAST = ("response.completed", "response.incomplete", "response.failed")


class Answer(Receiver):
    """A streamed response: its text is said as it comes, its end is kept."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.text = ""
        self._say = say
        self._status = 0
        self._headers: Mapping[str, str] = {}
        self._failure = bytearray()
        self._events = EventStream()
        self._last: _Ended | None = None

    def started(self, status: int, headers: Mapping[str, str]) -> None:
        self._status, self._headers = status, headers

    def data(self, chunk: bytes) -> None:
        if self._status != 200:
            self._failure += chunk[: FAILURE_MAX - len(self._failure)]
            return
        for sent in self._events.take(chunk):
            if sent.data != b"[DONE]":
                self._take(sent.data)

    def _take(self, data: bytes) -> None:
        try:
            event = _decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise UpstreamError("The server sent an event that cannot be read.") from None
        if event.type in _TEXT and event.delta:
            self.text += event.delta
            self._say(event.delta)
        elif event.type in _LAST:
            self._last = event.response

    def end(self) -> Last:
        """What can be gone on with.  Raises ``UpstreamError`` where the answer is not whole."""
        if self._status != 200:
            raise failure_of(self._status, bytes(self._failure), self._headers)
        if self._last is None:
            raise UpstreamError("The answer broke off.")
        if self._last.status == "incomplete":
            why = (self._last.incomplete_details or {}).get("reason", "unknown")
            raise UpstreamError(f"The answer is not complete: {why}.")
        if self._last.status != "completed":
            raise UpstreamError(str((self._last.error or {}).get("message", "The response failed.")))
        return Last(self._last.id, self._last.model)


def _say(text: str) -> None:
    encoding = sys.stdout.encoding or "utf-8"
    text = text.encode(encoding, "replace").decode(encoding)
    try:
        sys.stdout.write(text.translate(_CONTROLS) if sys.stdout.isatty() else text)
        sys.stdout.flush()
    except OSError as error:
        # Nor shall the interpreter complain about it when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        left = isinstance(error, BrokenPipeError)
        why = "Nobody reads the answer any more." if left else f"The answer cannot be written: {error.strerror}."
        raise UpstreamError(why) from None


# --- What is remembered ---


def _file() -> Path:
    return state_folder() / "last.json"


def _remembered() -> Last:
    try:
        return msgspec.json.decode(_file().read_bytes(), type=Last)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ConfigError("continue: there is no last answer to go on with.") from None


def _remember(last: Last) -> None:
    """An answer is an answer even where nothing can be written."""
    file = _file()
    fresh = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_bytes(msgspec.json.encode(last))
        fresh.replace(file)
    except OSError as error:
        click.echo(f"--continue will not work: {file}: {error.strerror}", err=True)
