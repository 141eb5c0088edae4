"""Models as coding agents want them described before they use them: the ``models`` of ``GET /v1/models``.

Whoever wants them says so by the query parameter ``client_version``, as such agents do; the list that everybody gets
stays OpenAI's.  Must not know where models run.  Shape: Codex 0.169 refuses the whole list where one of the members
with a plain value here is missing; earlier releases need two more, which are here as well.
"""

from antiphon.engine.ports.upstreams import Capabilities, ModelInfo

#: An agent that reads a description takes its instructions from it, instead of those that it has for any model.
INSTRUCTIONS = """\
You are a coding agent. You work on the user's computer, in the folder that the environment context names, by means of \
the tools that you are given.

# Work

- Look before you change anything: list and search with `rg` or `rg --files`, read the files concerned, and find out \
how the project builds and tests itself. An `AGENTS.md` file holds for everything in its folder and below.
- Finish the task. Go on calling tools until it is solved, and ask the user only where a wrong guess would cost much.
- Solve the cause with the smallest change that is whole, in the style of the code around it. Other faults that you \
see are to be told, not mended.
- The folder may hold changes that are not yours: leave them alone. Destroy nothing and commit nothing unless the user \
asked for it.
- Afterwards run the tests or the build that the change concerns. Never say that something works which you have not \
seen working.

# Editing

Use `apply_patch` where you have it. A patch names each file with a path relative to the folder, and shows three \
unchanged lines or so around a change, which must match the file exactly:

*** Begin Patch
*** Update File: src/greeting.py
@@ def greet(name):
     name = name.strip()
-    return "Hello " + name
+    return f"Hello, {name}!"
*** Add File: docs/greeting.md
+# Greeting
*** Delete File: old.txt
*** End Patch

# Words

- Before a group of tool calls, say in one short sentence what they are for.
- At the end say in a few sentences what you changed and where (`path:line`), what you ran and what came of it, and \
what is left to do. The user sees the files: do not repeat them.
"""


def described(model: ModelInfo, capabilities: Capabilities, place: int) -> dict[str, object]:
    """One model; ``place`` is where it stands among all, from 1."""
    members: dict[str, object] = {
        "slug": model.id,
        "display_name": model.id,
        "description": f"Served by {model.owned_by}",
        "base_instructions": INSTRUCTIONS,
        "visibility": "list",
        "supported_in_api": True,
        "priority": place,
        "supported_reasoning_levels": [],
        "supports_reasoning_summaries": True,
        "support_verbosity": capabilities.verbosity,
        "supports_parallel_tool_calls": True,
        "input_modalities": ["text", "image"] if capabilities.images else ["text"],
        "shell_type": "shell_command",
        "apply_patch_tool_type": "freeform",
        "experimental_supported_tools": [],
        "truncation_policy": {"mode": "tokens", "limit": 10_000},  # of one tool's output
    }
    window = capabilities.context or model.context  # what its operator or its server says, else what a list says
    return members if window is None else {**members, "context_window": window}
