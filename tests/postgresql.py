"""A PostgreSQL server of one's own, from the system's packages, on this machine's loopback."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

PASSWORD = "s3cret"


def find_binaries() -> Path | None:
    """The folder of ``initdb`` and ``pg_ctl``: Debian keeps it off the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


def find_user() -> str | None:
    """A user that may run the server, which root may not; None: this one may."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise LookupError("PostgreSQL does not run as root, and there is no user postgres or nobody")


def find_obstacle() -> str | None:
    """Why there can be no server here; None: there can."""
    try:
        import psycopg  # noqa: F401
    except ImportError:
        return "psycopg is not installed: pip install 'effnas[postgresql]'"
    if find_binaries() is None:
        return "PostgreSQL's server is not installed (Debian's package postgresql)"
    try:
        find_user()
    except LookupError as error:
        return str(error)
    return None


class Server:
    """A context manager: a server with a data base, gone at the end.

    Args:
        durable: whether a transaction is on the disk when it ends, as on a real server.
    """

    def __init__(self, durable: bool = False) -> None:
        self._durable = durable
        self._user = find_user()
        binaries = find_binaries()
        assert binaries is not None
        self._binaries = binaries
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"postgresql+psycopg://effnas:{PASSWORD}@127.0.0.1:{self.port}/postgres"

    def __enter__(self) -> Server:
        # not in pytest's folders, which a user who is not root cannot reach
        self._folder = Path(tempfile.mkdtemp(prefix="effnas-postgresql-", dir="/tmp"))
        try:
            if self._user is not None:
                shutil.chown(self._folder, self._user)
            password = self._folder / "password"
            password.write_text(f"{PASSWORD}\n")
            password.chmod(0o644)
            words = ["-U", "effnas", "-E", "UTF8", "--auth=scram-sha-256", f"--pwfile={password}", "--no-sync"]
            self._run("initdb", "-D", str(self._folder / "data"), *words)
            self.start()
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(AssertionError):  # it was stopped
            self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self._folder}"
        if not self._durable:
            options += " -c fsync=off"
        log = str(self._folder / "log")
        self._run("pg_ctl", "-D", str(self._folder / "data"), "-w", "-l", log, "-o", options, "start")

    def stop(self) -> None:
        """Stop it at once: all connections are cut."""
        self._run("pg_ctl", "-D", str(self._folder / "data"), "-m", "immediate", "stop")

    def _run(self, program: str, *words: str) -> None:
        log = self._folder / "log"
        done = subprocess.run(
            [str(self._binaries / program), *words],
            user=self._user,
            group=self._user and pwd.getpwnam(self._user).pw_gid,
            cwd=self._folder,
            env={"PATH": os.defpath, "LC_ALL": "C"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr + (log.read_text() if log.exists() else "")
