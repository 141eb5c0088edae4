"""What an operator may change about the web layer."""

import msgspec


class WebSettings(msgspec.Struct, frozen=True):
    body_max_bytes: int = 64 << 20
    run_buffer_bytes: int = 1 << 20
    client_stall_seconds: float = 60.0
    keepalive_seconds: float = 15.0
    obfuscation_default: bool = False
    websocket_seconds: float = 3600.0
    websocket_idle_seconds: float = 3600.0
    websocket_memory_bytes: int = 32 << 20
    websockets_max: int = 1000
