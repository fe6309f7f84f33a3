"""Worker processes: what they share, how they die, and that nothing of them is left."""

from __future__ import annotations

import multiprocessing.process
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from optuna.samplers import RandomSampler
from synthetic import Parent, Synthetic, TorchThreads, calls, four_networks, gone, python, read_csv, search, wait_for

from effnas.evaluate.evaluation import Evaluation
from effnas.evaluate.interrupt import Interrupts
from effnas.evaluate.machine.cores import count_cores
from effnas.search.workers.base import Outcome, Task
from effnas.search.workers.processes import Processes, make_workers
from effnas.space.cost import cost
from effnas.space.errors import UserError

TINY = four_networks().build({"block0_kernel_size": 3, "block0_repeats": 1})


def no_report(number: int, step: int, accuracy: float) -> bool:
    return False


@pytest.mark.parametrize("places", [1, 2, 3])
def test_workers_share_the_cores(places: int) -> None:
    with Processes(TorchThreads(), places, Interrupts()) as workers:
        workers.submit(Task(0, TINY, 0))
        outcome = workers.wait(no_report)
    share = max(1, count_cores() // places)
    assert outcome.evaluation is not None
    assert outcome.evaluation.metrics == {"torch": share, "OMP_NUM_THREADS": share, "MKL_NUM_THREADS": share}


def test_starting_workers_leaves_the_environment_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    with Processes(Synthetic(), 2, Interrupts()) as workers:
        workers.submit(Task(0, TINY, 0))
        workers.wait(no_report)
        assert os.environ["OMP_NUM_THREADS"] == "7"
        assert "MKL_NUM_THREADS" not in os.environ


def test_two_workers_work_at_the_same_time(tmp_path: Path) -> None:
    with Processes(Synthetic(delay=0.5), 2, Interrupts()) as workers:
        for number in range(2):
            workers.submit(Task(number, TINY, number))
        outcomes = [workers.wait(no_report) for _ in range(2)]
    assert {outcome.number for outcome in outcomes} == {0, 1}
    evaluations = [outcome.evaluation for outcome in outcomes if outcome.evaluation is not None]
    assert len({evaluation.metrics["pid"] for evaluation in evaluations}) == 2


def test_an_idle_worker_is_used_again_and_a_dead_one_replaced() -> None:
    with Processes(Synthetic(), 2, Interrupts()) as workers:

        def work(number: int) -> Outcome:
            workers.submit(Task(number, TINY, 0))
            return workers.wait(no_report)

        first, second = (work(number).evaluation for number in range(2))
        assert first is not None
        assert second is not None
        assert first.metrics["pid"] == second.metrics["pid"]
        os.kill(int(first.metrics["pid"]), signal.SIGKILL)
        gone([int(first.metrics["pid"])])
        assert "SIGKILL" in work(2).reason
        third = work(3).evaluation
        assert third is not None
        assert third.metrics["pid"] != first.metrics["pid"]


def test_reports_are_answered() -> None:
    with Processes(Synthetic(epochs=5), 2, Interrupts()) as workers:
        workers.submit(Task(4, TINY, 0))
        seen: list[tuple[int, int]] = []

        def stop_at_three(number: int, step: int, accuracy: float) -> bool:
            seen.append((number, step))
            return step == 3

        assert workers.wait(stop_at_three) == Outcome(4, stopped=True)
    assert seen == [(4, 1), (4, 2), (4, 3)]


def test_a_worker_that_dies_right_after_its_report() -> None:
    with Processes(Synthetic(epochs=1), 2, Interrupts()) as workers:
        workers.submit(Task(0, TINY, 0))

        def kill(number: int, step: int, accuracy: float) -> bool:
            (worker,) = workers._busy.values()
            os.kill(worker.process.pid or 0, signal.SIGKILL)
            worker.process.join()
            return False

        assert "SIGKILL" in workers.wait(kill).reason


# -- evaluators that do not travel ---------------------------------------------------------------------


class NotPicklable:
    def __init__(self) -> None:
        self.function = lambda: 0

    def __call__(self, architecture: Any, *, seed: int, report: Any) -> Evaluation:
        return Evaluation(0.5, cost(architecture))


def test_an_evaluator_that_does_not_pickle(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"evaluator NotPicklable cannot be sent to a worker process: .*workers=1"):
        search(tmp_path, NotPicklable(), workers=2)
    assert search(tmp_path, NotPicklable(), four_networks(), workers=1, trials=2)["complete"] == 2


def test_an_evaluator_that_a_worker_cannot_import(tmp_path: Path) -> None:
    import types

    module = types.ModuleType("of_this_session")
    exec("class Mine:\n    def __call__(self, architecture, *, seed, report): ...\n", module.__dict__)
    sys.modules["of_this_session"] = module
    try:
        with pytest.raises(UserError, match=r"a worker process cannot load it: ModuleNotFoundError: .*this_session"):
            search(tmp_path, module.Mine(), workers=2)
    finally:
        del sys.modules["of_this_session"]


def run_script(text: str, cwd: Path, **options: Any) -> subprocess.Popen[str]:
    script = cwd / "script.py"
    script.write_text(textwrap.dedent(text))
    return python([str(script)], cwd, **options)


@pytest.mark.slow  # the copy of the script waits for its folder
def test_a_script_without_a_main_guard(tmp_path: Path) -> None:
    script = """
        import sys
        from synthetic import Synthetic, search
        from effnas.space.errors import UserError
        from pathlib import Path
        try:
            search(Path("out"), Synthetic(), workers=2)
        except UserError as error:
            sys.exit(str(error))
    """
    _, errors = run_script(script, tmp_path).communicate(timeout=60)
    assert "a worker process ended with status 1 before it could begin" in errors.splitlines()[-1]
    assert "__main__" in errors.splitlines()[-1]


# -- nothing is left -----------------------------------------------------------------------------------


def test_a_worker_may_start_processes_and_closing_ends_them_too(tmp_path: Path) -> None:
    log = tmp_path / "pids"
    workers = make_workers(Parent(str(log), 0.01), 2, Interrupts())
    with workers:
        workers.submit(Task(0, TINY, 0))
        assert workers.wait(no_report).evaluation is not None
    log.unlink()
    with make_workers(Parent(str(log), 60), 2, Interrupts()) as workers:
        workers.submit(Task(0, TINY, 0))
        wait_for(lambda: calls(log))
        pids = [int(pid) for pid in calls(log)[0].split()]
    assert gone(pids, 2)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_their_parent(tmp_path: Path, how: signal.Signals) -> None:
    script = """
        from synthetic import Parent, search
        from pathlib import Path
        if __name__ == "__main__":
            search(Path("out"), Parent("pids", 60), workers=2)
    """
    process = run_script(script, tmp_path)
    wait_for(lambda: len(calls(tmp_path / "pids")) == 2)
    pids = [int(pid) for line in calls(tmp_path / "pids") for pid in line.split()]
    assert len(set(pids)) == 4
    process.send_signal(how)
    process.communicate(timeout=20)
    assert gone(pids, 2)
    assert process.returncode != 0


def test_ctrl_c_of_the_terminal_does_not_reach_the_workers(tmp_path: Path) -> None:
    """A terminal sends it to the whole group of processes: two workers are starting, or at work."""
    script = """
        from synthetic import Synthetic, search
        from pathlib import Path
        if __name__ == "__main__":
            search(Path("out"), Synthetic("calls", delay=0.5), workers=2, trials=100)
    """
    process = run_script(script, tmp_path, start_new_session=True)
    wait_for(lambda: len(calls(tmp_path / "calls")) >= 3)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert errors.count("Traceback") == 1  # the script's own KeyboardInterrupt
    assert process.returncode in (1, -signal.SIGINT)
    assert all(row["state"] == "complete" for row in read_csv(tmp_path / "out" / "trials.csv"))


def test_one_worker_is_this_process(tmp_path: Path) -> None:
    summary = search(tmp_path, NotPicklable(), workers=1, trials=2, algorithm=RandomSampler)
    assert summary["complete"] == 2


def test_a_program_from_standard_input_has_workers_too(tmp_path: Path) -> None:
    """``python - < script.py``, and a cell that was sent to such a process: there is no file to import again."""
    text = """
        from synthetic import Synthetic, search
        from pathlib import Path
        print(search(Path("out"), Synthetic(), trials=2, workers=2)["complete"])
        class Mine(Synthetic):
            pass
        try:
            search(Path("mine"), Mine(), trials=2, workers=2)
        except ValueError as error:
            print(error)
    """
    here = Path(__file__).resolve().parents[1]
    places = os.pathsep.join([str(here), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-"],
        input=textwrap.dedent(text),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": places},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    count, told = done.stdout.splitlines()
    assert count == "2"
    assert told.startswith("evaluator: a worker process cannot load it: AttributeError: Can't get attribute 'Mine'")


def test_a_daemon_may_start_no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocessing.process.current_process(), "_config", {"daemon": True})
    with pytest.raises(
        UserError, match=r"^a process of multiprocessing\.Pool may start no others.*; use workers=1, or "
    ):
        Processes(Synthetic(), 2, Interrupts())
