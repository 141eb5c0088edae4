"""The embedded engine: models in GGUF files, each run by llama.cpp in a child process of this server.

Must stay empty of imports: the child process imports this package too, and wants nothing of the server.
"""
