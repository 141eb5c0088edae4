"""The real command line in a process of its own: started, awaited, stopped and asked for its exit code."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

START_SECONDS = 30
STOP_SECONDS = 15

ROOT = Path(__file__).parents[2]
ANTIPHON = Path(sys.executable).with_name("antiphon")
READY = re.compile(r"\bready\b.*?(http://127\.0\.0\.1:\d+)/v1", re.IGNORECASE)


def environment(**extra: str) -> dict[str, str]:
    """This process's environment without what would steer a server or an SDK, and with `extra`.

    What else runs on this machine is no concern of a test.
    """
    foreign = ("ANTIPHON_", "OPENAI_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {**kept, "ANTIPHON_DISCOVER": "false", **extra}


class ServerProcess:
    """`antiphon serve` on a free port.  `url` has no path; `log` is what it has said on its standard error."""

    def __init__(self, *arguments: str, home: Path) -> None:
        self.log: list[str] = []
        self.url = ""
        self._news = threading.Condition()
        self._silent = False
        self._process = subprocess.Popen(
            [str(ANTIPHON), "serve", "--port", "0", *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd=home,
            env=environment(HOME=str(home), XDG_DATA_HOME=str(home / "data")),
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        with self._news:
            self._news.wait_for(lambda: self.url or self._silent, START_SECONDS)
        if not self.url:
            self._process.kill()
            self._close()
            raise AssertionError(f"the server did not become ready: {self.said}")

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            with self._news:
                self.log.append(line.rstrip())
                found = READY.search(line)
                self.url = self.url or (found[1] if found else "")
                self._news.notify_all()
        with self._news:
            self._silent = True
            self._news.notify_all()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def await_line(self, text: str) -> None:
        """Returns once it has said `text`."""
        with self._news:
            self._news.wait_for(lambda: text in self.said or self._silent, START_SECONDS)
        assert text in self.said, f"{text!r} was not said: {self.said}"

    @property
    def said(self) -> str:
        return "\n".join(self.log)

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    def terminate(self) -> None:
        """Asks it to stop, as a service manager would, and does not wait."""
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it in the middle of whatever it does."""
        self._process.kill()
        self._close()

    def stop(self) -> None:
        """Ends it as a service manager would.  Raises AssertionError unless it ended well and logged no failure."""
        self.terminate()
        try:
            code = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._close()
        assert code == 0, f"exit code {code}: {self.said}"
        assert "Traceback" not in self.said, self.said

    def _close(self) -> None:
        self._process.wait(STOP_SECONDS)
        self._reader.join(STOP_SECONDS)
        assert self._process.stderr is not None
        self._process.stderr.close()
