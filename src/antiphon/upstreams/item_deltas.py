"""Members of items that deltas make grow, for upstreams that speak in items."""

#: Members that deltas make grow, by the item's type.
GROWN = {
    "message": ("content",),
    "reasoning": ("summary", "content"),
    "function_call": ("arguments",),
    "custom_tool_call": ("input",),
}
