"""A Slurm of one's own, from the system's packages: a controller, and nodes that are all this machine."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol")
#: Debian keeps daemons off the path.
SYSTEM = "/usr/sbin:/sbin"

#: Taken for GPUs: Slurm only counts them, and says which a job has.
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/urandom")

CONFIGURATION = """
ClusterName=effnas
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={daemon}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
JobRequeue=1
KillWait=5
OverTimeLimit=0
ReturnToService=2
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=4000 Gres=gpu:{gpus} State=UNKNOWN
PartitionName=work Nodes=ALL Default=YES PriorityTier=1 GraceTime=2
PartitionName=urgent Nodes=ALL PriorityTier=2 PreemptMode=OFF
"""


def find_program(name: str) -> str | None:
    """Its path; None: it is not installed."""
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{SYSTEM}")


def find_obstacle() -> str | None:
    """Why there can be no Slurm here; None: there can."""
    missing = [name for name in PROGRAMS if find_program(name) is None]
    return f"Slurm is not installed ({', '.join(missing)}; Debian's package slurm-wlm)" if missing else None


def find_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Unwilling(Exception):
    """Slurm is installed, but does not run here; with what its daemons say."""


class Slurm:
    """A context manager: a cluster with a node of so many CPUs and 4 GPUs, whatever this machine has; gone at the end.

    A job of the partition ``urgent`` puts those of ``work`` back into the queue where it needs their place.

    Raises:
        Unwilling: it cannot be started.
    """

    def __init__(self, cpus: int = 8) -> None:
        self._cpus = cpus
        self._daemons: list[Any] = []

    def __enter__(self) -> Slurm:
        self.folder = folder = Path(tempfile.mkdtemp(prefix="effnas-slurm-", dir="/tmp"))
        folder.chmod(0o755)  # munge looks at who may write
        (folder / "state").mkdir()
        host = socket.gethostname().partition(".")[0]
        values = {"host": host, "controller": find_port(), "daemon": find_port(), "cpus": self._cpus}
        user = pwd.getpwuid(os.geteuid()).pw_name
        text = CONFIGURATION.format(folder=folder, user=user, gpus=len(DEVICES), **values)
        (folder / "slurm.conf").write_text(text)
        (folder / "gres.conf").write_text("".join(f"Name=gpu File={device}\n" for device in DEVICES))
        key = folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf")}
        try:
            files = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "pid", "seed", "log")]
            self._begin("munged", "--foreground", f"--socket={folder}/munge.socket", *files)
            self._wait(lambda: (folder / "munge.socket").exists())
            self._begin("slurmctld", "-D")
            self._begin("slurmd", "-D")
            self._wait(self._is_idle)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(AssertionError):
            self.call("scancel", "--signal=KILL", "--full", "-u", pwd.getpwuid(os.geteuid()).pw_name)
        for daemon in reversed(self._daemons):
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _begin(self, name: str, *words: str) -> None:
        program = find_program(name)
        assert program is not None
        with open(self.folder / f"{name}.out", "ab") as log:
            environment = {**os.environ, **self.environment}
            self._daemons.append(subprocess.Popen([program, *words], stdout=log, stderr=log, env=environment))

    def _wait(self, condition: Callable[[], bool], seconds: float = 20) -> None:
        end = time.monotonic() + seconds
        while not condition():
            dead = [Path(daemon.args[0]).name for daemon in self._daemons if daemon.poll() is not None]
            if dead or time.monotonic() > end:
                files = [file for file in sorted(self.folder.iterdir()) if file.suffix in (".log", ".out")]
                logs = "\n".join(f"{file.name}: {file.read_text()[-1000:]}" for file in files)
                raise Unwilling(f"{' and '.join(dead) or 'the node'} did not start. {logs}")
            time.sleep(0.1)

    def _is_idle(self) -> bool:
        words = ["sinfo", "--noheader", "--format=%T", "--partition=work"]
        environment = {**os.environ, **self.environment}
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60)
        return done.stdout.strip() == "idle"

    def count(self, job: str, fact: str) -> int:
        """Of how many tasks of a job Slurm knows a fact, such as ``Restarts=1``."""
        return self.call("scontrol", "--oneliner", "show", "job", job).split().count(fact)

    def call(self, *words: str, cwd: Path | None = None, **variables: str) -> str:
        """What a command of Slurm's prints."""
        environment = {**os.environ, **self.environment, **variables}
        done = subprocess.run(words, env=environment, cwd=cwd, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout
