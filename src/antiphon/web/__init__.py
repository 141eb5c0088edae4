"""HTTP: bytes of requests in, bytes of replies out.  Sees only ports and runs."""
