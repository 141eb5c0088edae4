"""The hosted tools, one module each.  A new tool is its module and its line in ``hosted_tools``."""

from collections.abc import Mapping

from antiphon.engine.ports.tools import Tool
from antiphon.engine.ports.world import Clock
from antiphon.tools.scripted import ScriptedTool


def hosted_tools(clock: Clock, *, scripted: bool = False) -> Mapping[str, Tool]:
    """Every tool that this server runs, by the type that requests declare it with."""
    tools: dict[str, Tool] = {}
    if scripted:
        tools[ScriptedTool.declared_type] = ScriptedTool(clock)
    return tools
