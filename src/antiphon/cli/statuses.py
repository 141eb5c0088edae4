"""With what status commands end, as shells have it."""

#: A program is not there.
NOT_FOUND = 127
#: Ended by Ctrl-C.
INTERRUPTED = 130
