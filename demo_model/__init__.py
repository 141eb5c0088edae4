"""How the bundled model `antiphon-demo` is made: data, tokenizer, training, export, evaluation.

Nothing here is imported by the server; the server only reads the GGUF file that comes out.
"""
