"""The seams: what the engine asks of the world, as Protocols, and what the world may tell it.

Everything outside ``engine`` either implements one of these or is handed one by ``assemble``.
"""
