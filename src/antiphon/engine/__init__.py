"""How a response comes about.  No sockets, no SQL, no clock of its own: those come in through ``ports``."""
