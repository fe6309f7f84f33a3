"""Servers of data bases of one's own, from the system's packages, on this machine's loopback."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import pytest

PASSWORD = "s3cret"


class Server(ABC):
    """A context manager: a server with a data base, gone at the end.

    Args:
        durable: whether a transaction is on the disk when it ends, as on a real server.
    """

    #: The kind of server, as an extra of effnas is named; Debian's package; what Python needs; the data base.
    kind: str
    package: str
    driver: str
    name: str
    #: Users that may run the server.
    users: tuple[str, ...]
    #: What it says of a wrong password, a user that there is not, and a data base that there is not.
    wrong_password: str
    unknown_user: str
    unknown_data_base: str

    def __init__(self, durable: bool = False) -> None:
        self._durable = durable
        self._user = self.find_user()
        binaries = self.find_binaries()
        assert binaries is not None
        self._binaries = binaries
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self.url = f"{self.kind}+{self.driver}://effnas:{PASSWORD}@{self.address}/{self.name}"

    @classmethod
    @abstractmethod
    def find_binaries(cls) -> Path | None:
        """The folder of the server's programs."""

    @classmethod
    def find_user(cls) -> str | None:
        """A user that may run the server, which root may not; None: this one may."""
        if os.geteuid() != 0:
            return None
        for name in cls.users:
            with contextlib.suppress(KeyError):
                return pwd.getpwnam(name).pw_name
        raise LookupError(f"{cls.package} does not run as root, and there is no user {' or '.join(cls.users)}")

    @classmethod
    def find_obstacle(cls) -> str | None:
        """Why there can be no server here; None: there can."""
        if importlib.util.find_spec(cls.driver) is None:
            return f"{cls.driver} is not installed: pip install 'effnas[{cls.kind}]'"
        if cls.find_binaries() is None:
            return f"no server is installed (Debian's package {cls.package})"
        try:
            cls.find_user()
        except LookupError as error:
            return str(error)
        return None

    def __enter__(self) -> Server:
        # not in pytest's folders, which a user who is not root cannot reach
        self._folder = Path(tempfile.mkdtemp(prefix=f"effnas-{self.kind}-", dir="/tmp"))
        self._log = self._folder / "log"
        try:
            if self._user is not None:
                shutil.chown(self._folder, self._user)
            self._make()
            self.start()
        except BaseException:
            with contextlib.suppress(Exception):
                self.stop()
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(AssertionError):  # it was stopped
            self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    @abstractmethod
    def _make(self) -> None:
        """Fill the folder."""

    @abstractmethod
    def start(self) -> None:
        """Start it, and wait until it answers."""

    @abstractmethod
    def stop(self) -> None:
        """Stop it at once: all connections are cut."""

    def _begin(self, program: str, *words: str) -> subprocess.Popen[str]:
        with self._log.open("a") as log:
            return subprocess.Popen(
                [str(self._binaries / program), *words],
                user=self._user,
                group=self._user and pwd.getpwnam(self._user).pw_gid,
                cwd=self._folder,
                env={"PATH": os.defpath, "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                text=True,
            )

    def _run(self, program: str, *words: str) -> None:
        assert self._begin(program, *words).wait(60) == 0, self._log.read_text()


class PostgreSQL(Server):
    """PostgreSQL."""

    kind, package, driver, name = "postgresql", "postgresql", "psycopg", "postgres"
    users = ("postgres", "nobody")
    wrong_password = 'password authentication failed for user "effnas"'
    unknown_user = 'password authentication failed for user "nobody"'
    unknown_data_base = 'database "nothing" does not exist'

    @classmethod
    def find_binaries(cls) -> Path | None:
        """The folder of ``initdb`` and ``pg_ctl``: Debian keeps it off the path."""
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        on_path = shutil.which("initdb")
        return found[-1].parent if found else Path(on_path).parent if on_path else None

    def _make(self) -> None:
        password = self._folder / "password"
        password.write_text(f"{PASSWORD}\n")
        password.chmod(0o644)
        words = ["-U", "effnas", "-E", "UTF8", "--auth=scram-sha-256", f"--pwfile={password}", "--no-sync"]
        self._run("initdb", "-D", str(self._folder / "data"), *words)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self._folder}"
        if not self._durable:
            options += " -c fsync=off"
        words = ["-w", "-l", str(self._folder / "server.log"), "-o", options]
        self._run("pg_ctl", "-D", str(self._folder / "data"), *words, "start")

    def stop(self) -> None:
        """Stop it at once: all connections are cut."""
        self._run("pg_ctl", "-D", str(self._folder / "data"), "-m", "immediate", "stop")


class MariaDB(Server):
    """MariaDB, with what it has where no file configures it: data bases are of latin1 unless they say otherwise."""

    kind, package, driver, name = "mysql", "mariadb-server", "pymysql", "studies"
    users = ("mysql", "nobody")
    wrong_password = "Access denied for user 'effnas'@'localhost'"
    unknown_user = "Access denied for user 'nobody'@'localhost'"
    unknown_data_base = "Unknown database 'nothing'"
    _process: subprocess.Popen[str] | None = None

    @classmethod
    def find_binaries(cls) -> Path | None:
        """The folder over those of ``mariadbd`` and ``mariadb-install-db``."""
        found = shutil.which("mariadbd", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")
        return Path(found).parent.parent if found else None

    def _make(self) -> None:
        words = ["--auth-root-authentication-method=normal", "--skip-test-db", "--debug-no-sync"]
        words += ["--innodb-log-file-size=8M"]
        self._run("bin/mariadb-install-db", "--no-defaults", f"--datadir={self._folder}/data", *words)
        (self._folder / "first.sql").write_text(
            f"CREATE DATABASE IF NOT EXISTS {self.name};\n"
            f"CREATE USER IF NOT EXISTS effnas@localhost IDENTIFIED BY '{PASSWORD}';\n"
            "GRANT ALL ON *.* TO effnas@localhost WITH GRANT OPTION;\n"
        )
        (self._folder / "first.sql").chmod(0o644)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        import pymysql

        words = ["--no-defaults", f"--datadir={self._folder}/data", f"--socket={self._folder}/socket"]
        words += [f"--port={self.port}", "--bind-address=127.0.0.1", f"--pid-file={self._folder}/pid"]
        words += [f"--init-file={self._folder}/first.sql", "--innodb-log-file-size=8M"]
        if not self._durable:  # what a transaction wrote survives the process, not the machine
            words += ["--debug-no-sync", "--innodb-flush-log-at-trx-commit=2"]
        self._process = self._begin("sbin/mariadbd", *words)
        for _ in range(600):
            time.sleep(0.1)
            assert self._process.poll() is None, self._log.read_text()
            with contextlib.suppress(pymysql.err.OperationalError):
                pymysql.connect(host="127.0.0.1", port=self.port, user="effnas", password=PASSWORD).close()
                return
        raise AssertionError(self._log.read_text())

    def stop(self) -> None:
        """Stop it at once: all connections are cut."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(60)


SERVERS: tuple[type[Server], ...] = (PostgreSQL, MariaDB)


def serve(kind: type[Server]) -> Iterator[Server]:
    """For a fixture: the server, or the test is skipped."""
    if (obstacle := kind.find_obstacle()) is not None:
        pytest.skip(obstacle)
    with kind() as started:
        yield started
