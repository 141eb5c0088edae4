"""The process that runs one model: ``python -m antiphon.upstreams.embedded.child``.

Reads one line of JSON (its settings, with the key) from stdin, loads the model, writes one line of JSON to stdout,
``{"address": ...}`` or ``{"error": ...}``, and serves until stdin closes: when the parent dies, so does this.
Must import nothing of the server but this package.
"""

import ctypes
import json
import os
import signal
import sys
import time
from typing import Any

SETTINGS_MAX = 64 * 1024
#: Prompt tokens computed in one go.  Only between two such batches does the engine take up, cancel or go on with other
#: requests.  On a CPU 128 cost 5 % of the speed of 512; a GPU needs more to be busy.
BATCH_CPU, BATCH_GPU = 128, 512
#: llama.cpp writes its log from a thread of its own, and the log holds the true reason why a model is not loaded.
LOG_SECONDS = 0.2
_PR_SET_PDEATHSIG = 1


def main() -> None:
    settings = json.loads(_line())
    _die_with(settings["parent"])
    say = _voice()
    try:
        address = _load(settings)
    except (ImportError, RuntimeError, ValueError, MemoryError) as error:
        time.sleep(LOG_SECONDS)
        say({"error": f"{error}"})
        os._exit(1)
    say({"address": address})
    while os.read(0, 4096):
        pass
    # No clean end: destroying a server that still generates crashes, and there is nothing to save.
    os._exit(0)


def _line() -> bytes:
    data = b""
    while not data.endswith(b"\n") and len(data) < SETTINGS_MAX:
        piece = os.read(0, 4096)
        if not piece:
            os._exit(0)
        data += piece
    return data


def _die_with(parent: int) -> None:
    """Linux ends this process with its parent even while loading, when nothing here can look at stdin."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends gracefully
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(0)


def _voice() -> Any:
    """Keeps stdout for the one line; whatever else is printed there goes to stderr, which is the log."""
    own = os.dup(1)
    os.dup2(2, 1)

    def say(message: dict[str, str]) -> None:
        os.write(own, json.dumps(message).encode() + b"\n")

    return say


def _load(settings: dict[str, Any]) -> str:
    import xllamacpp  # after the rest: it takes its time, and may be missing

    params = xllamacpp.CommonParams()
    params.model.path = settings["path"]
    params.api_keys = [settings["key"]]
    params.hostnames = ["127.0.0.1"]
    params.n_parallel = settings["slots"]
    params.n_ctx = settings["slots"] * settings["context"]  # llama.cpp divides it among the slots
    params.kv_unified = False
    params.n_batch = params.n_ubatch = max(_batch(xllamacpp), settings["slots"])
    params.cache_ram_mib = settings["cache_mib"]
    params.use_jinja = True
    params.ui = False
    params.verbosity = settings["verbosity"]
    if settings["threads"]:
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = settings["threads"]
    server = xllamacpp.Server(params)
    _alive.append(server)
    return str(server.listening_address)


#: A server ends when nothing refers to it.
_alive: list[Any] = []


def _batch(xllamacpp: Any) -> int:
    on_gpu = any("GPU" in str(device["type"]) for device in xllamacpp.get_device_info())
    return BATCH_GPU if on_gpu else BATCH_CPU


if __name__ == "__main__":
    main()
