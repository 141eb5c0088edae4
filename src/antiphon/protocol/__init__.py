"""What goes over the wire, as plain types.

Knows nothing of sockets, databases or models, and imports nothing of ours.
"""
