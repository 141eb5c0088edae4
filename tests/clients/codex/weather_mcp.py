"""An MCP server over standard input and output with one tool; it needs nothing but Python."""

import json
import sys

TOOL = {
    "name": "get_forecast",
    "description": "Tells tomorrow's weather in a city.",
    "inputSchema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def result_of(method: str, params: dict) -> dict | None:
    if method == "initialize":
        about = {"name": "weather", "version": "1"}
        return {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}}, "serverInfo": about}
    if method == "tools/list":
        return {"tools": [TOOL]}
    if method == "tools/call":
        return {"content": [{"type": "text", "text": f"Snow in {params['arguments']['city']}."}]}
    return {}


for line in sys.stdin:
    asked = json.loads(line)
    if "id" in asked:
        reply = {"jsonrpc": "2.0", "id": asked["id"], "result": result_of(asked["method"], asked.get("params", {}))}
        print(json.dumps(reply), flush=True)
