"""The yardstick: nginx with one worker, forwarding bytes to the fake upstream without buffering.

Knows nothing of Antiphon.
"""

import shutil
from pathlib import Path

from bench.processes import Child, free_port

MISSING = (
    "nginx is not installed; the ratios need it. "
    "On Debian or Ubuntu: apt-get update && apt-get install -y nginx-light. "
    "Or run with --without-nginx: absolute figures only."
)
CONFIG = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 1000000;
  upstream model {{ server 127.0.0.1:{upstream_port}; keepalive 2048; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    location / {{
      proxy_pass http://model;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_read_timeout 600s;
    }}
  }}
}}
"""


def find() -> str | None:
    """nginx's path; /usr/sbin is often missing from a user's PATH."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


def start(folder: Path, upstream_port: int) -> tuple[Child, int]:
    """Starts nginx on a free loopback port, its files in the folder. Raises RuntimeError where it is not installed."""
    program = find()
    if program is None:
        raise RuntimeError(MISSING)
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(CONFIG.format(folder=folder, port=port, upstream_port=upstream_port))
    command = [program, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(config)]
    child = Child.start(command, folder / "nginx.log")
    child.wait_ready(port, "/v1/models")
    return child, port
