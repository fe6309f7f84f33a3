"""A Ray cluster of several nodes, all on this machine, in a process of its own: Ray leaves files open in its."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

from synthetic import calls

from effnas.evaluate.evaluation import Evaluation, Report
from effnas.space.architecture import Architecture
from effnas.space.cost import cost


@dataclass(frozen=True)
class Where:
    """Says where it runs, and takes its time.

    Args:
        log: file that gets a line for each call: digest, node, process, GPUs.
        delay: seconds a call.
        first: seconds of the first ``count`` calls of all.
        count: see there.
    """

    log: str
    delay: float = 0.0
    first: float = 0.0
    count: int = 1

    def __call__(self, architecture: Architecture, *, seed: int, report: Report) -> Evaluation:
        import ray

        node = ray.get_runtime_context().get_node_id()
        with open(self.log, "a") as file:
            file.write(f"{architecture.digest} {node} {os.getpid()} {os.environ.get('CUDA_VISIBLE_DEVICES')}\n")
        report(1, 0.5)
        time.sleep(self.first if len(calls(self.log)) <= self.count else self.delay)
        return Evaluation(0.5, cost(architecture), seconds=1.0)


class Nodes:
    """A context manager: a head node without CPUs, where searches are, and those that are added."""

    address: str

    def __init__(self) -> None:
        self.names: list[str] = []

    def __enter__(self) -> Nodes:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen([sys.executable, __file__], stdin=pipe, stdout=pipe, text=True)
        self.address = self._ask("begin")
        return self

    def add(self, **resources: Any) -> str:
        """Add a node of ``num_cpus``, ``num_gpus``; returns its name."""
        self.names.append(name := self._ask("add", **resources))
        return name

    def kill(self, name: str) -> None:
        """Kill all processes of a node."""
        self._ask("kill", name=name)
        self.names.remove(name)

    def stop(self, name: str) -> None:
        """Stop all processes of a node in mid-step: none of its connections ends, as where its network is cut off."""
        self._ask("stop", name=name)
        self.names.remove(name)

    def _ask(self, what: str, **words: Any) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"what": what, **words}) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:  # Ray writes there, too
            if line.startswith("answer "):
                return line.removeprefix("answer ").strip()
        raise RuntimeError("the cluster ended")

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.read()
        self._process.stdout.close()
        self._process.wait(30)


def serve() -> None:
    """Do what the lines of standard input say, until it ends."""
    import psutil
    import ray  # noqa: F401, for the psutil that it brings
    from ray.cluster_utils import Cluster

    quick = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 1000, "health_check_failure_threshold": 3}
    cluster, nodes = Cluster(), {}
    try:
        for line in sys.stdin:
            words = json.loads(line)
            what = words.pop("what")
            if what == "begin":
                cluster.add_node(num_cpus=0, include_dashboard=False, _system_config=quick)
                answer = cluster.address
            elif what == "add":
                node = cluster.add_node(**words)
                nodes[answer := node.node_id] = node
            elif what == "stop":
                answer = words["name"]
                for process in nodes[answer].all_processes["raylet"]:
                    raylet = psutil.Process(process.process.pid)
                    for one in (*raylet.children(recursive=True), raylet):
                        one.suspend()
            else:
                answer = words["name"]
                cluster.remove_node(nodes.pop(answer), allow_graceful=False)
            print(f"answer {answer}", flush=True)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    serve()
