"""Several servers as one upstream: who is asked, who is left out, and who waits."""

from antiphon.upstreams.pool.pool import Pool, Server, Settings

__all__ = ["Pool", "Server", "Settings"]
