"""Where models run: one file per wire dialect, all behind ``engine.ports.upstreams.Upstream``."""
