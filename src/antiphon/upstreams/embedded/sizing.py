"""How a model is loaded: threads, slots and context, from its header, the settings and the machine.  Pure."""

import msgspec

from antiphon.upstreams.embedded.gguf import Header

#: A model below this size computes a token faster than two threads can meet.
SMALL_BYTES = 100 << 20
#: Bounds of the context per generation where no setting gives it.
CONTEXT_MIN, CONTEXT_MAX = 4096, 32768
#: The part of the machine's memory that the contexts of all slots may take where no setting gives their size.
MEMORY_PART = 4


class Settings(msgspec.Struct, frozen=True):
    """What operators may set; see ``config`` for each."""

    engine_threads: int = 0
    engine_slots: int = 4
    engine_waiting: int = 256
    engine_context: int = 0
    engine_cache_mib: int = 1024
    engine_load_seconds: float = 300.0
    engine_idle_seconds: float = 900.0


class Sizes(msgspec.Struct, frozen=True):
    """Threads (0: the engine decides), slots, and tokens of context that every slot has for itself."""

    threads: int
    slots: int
    context: int


def sizes_of(header: Header, settings: Settings, cores: int, memory_bytes: int) -> Sizes:
    """The settings where they say something, else what fits model and machine."""
    small = header.file_bytes < SMALL_BYTES
    threads = settings.engine_threads or (1 if small else cores)
    return Sizes(threads, settings.engine_slots, _context(header, settings, memory_bytes))


def _context(header: Header, settings: Settings, memory_bytes: int) -> int:
    """Never beyond what the model was trained with: it talks nonsense there, and llama.cpp would cap it anyway."""
    trained = header.context_length or CONTEXT_MAX
    if settings.engine_context:
        return min(settings.engine_context, trained)
    context = min(trained, CONTEXT_MAX)
    per_token = (header.cache_bytes_per_token or 0) * settings.engine_slots
    while memory_bytes and context // 2 >= CONTEXT_MIN and context * per_token > memory_bytes // MEMORY_PART:
        context //= 2
    return context
