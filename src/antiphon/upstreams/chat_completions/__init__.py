"""The chat-completions dialect: vLLM, llama.cpp, Ollama, LM Studio, OpenAI and everything that speaks like them."""

from antiphon.upstreams.chat_completions.options import Options
from antiphon.upstreams.chat_completions.upstream import ChatCompletions

__all__ = ["ChatCompletions", "Options"]
