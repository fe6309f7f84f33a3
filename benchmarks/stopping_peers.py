"""A peer of ``stopping.py`` in its own environment: ``python stopping_peers.py PEER SETTING``.

It writes one line of JSON for each epoch of a candidate (``id``, ``decisions``) and reads one with ``accuracy`` and
``macs``; it never ends by itself. Each peer is called as its documentation shows, one candidate at a time, with its
defaults but for the rungs.
"""

from __future__ import annotations

import datetime
import json
import logging
import random
import sys
from collections.abc import Mapping
from typing import Any


def train(identity: str, decisions: Mapping[str, str]) -> tuple[float, float]:
    """One more epoch of a candidate: error and MACs, to be minimised."""
    print(json.dumps({"id": identity, "decisions": dict(decisions)}), flush=True)
    answer = json.loads(sys.stdin.readline())
    return 1 - answer["accuracy"], answer["macs"]


def neps_moasha(setting: Mapping[str, Any]) -> None:
    """NePS' MO-ASHA by ask and tell; a promoted configuration goes on where it was."""
    import neps

    logging.disable(logging.CRITICAL)
    parts: dict[str, Any] = {name: neps.HPOCategorical(values) for name, values in setting["choices"].items()}
    # its rungs are counted from the last epoch down: 50, 16, 5, 1
    parts["epochs"] = neps.HPOInteger(1, setting["epochs"], is_fidelity=True)
    optimizer = neps.AskAndTell(neps.algorithms.moasha(neps.SearchSpace(parts), eta=setting["factor"]))
    done: dict[str, int] = {}
    while True:
        trial = optimizer.ask()
        decisions = {name: value for name, value in trial.config.items() if name != "epochs"}
        identity = trial.metadata.id.rpartition("_")[0] or trial.metadata.id
        values: tuple[float, float] | None = None
        for _ in range(done.get(identity, 0), trial.config["epochs"]):
            values = train(identity, decisions)
        done[identity] = trial.config["epochs"]
        assert values is not None
        optimizer.tell(trial, {"objective_to_minimize": list(values)})


def syne_tune_moasha(setting: Mapping[str, Any]) -> None:
    """Syne Tune's MOASHA, asked for each candidate and told each epoch."""
    from syne_tune.backend.trial_status import Trial
    from syne_tune.config_space import choice
    from syne_tune.optimizer.scheduler import SchedulerDecision
    from syne_tune.optimizer.schedulers.multiobjective.moasha import MOASHA

    scheduler = MOASHA(
        {name: choice(values) for name, values in setting["choices"].items()},
        metrics=["error", "macs"],
        time_attr="epoch",
        max_t=setting["epochs"],
        grace_period=setting["first"],
        reduction_factor=setting["factor"],
        random_seed=setting["seed"],
    )
    number = 0
    while True:
        suggestion = scheduler.suggest()
        trial = Trial(number, suggestion.config, datetime.datetime.now())
        scheduler.on_trial_add(trial)
        for epoch in range(1, setting["epochs"] + 1):
            error, macs = train(str(number), suggestion.config)
            result = {"epoch": epoch, "error": error, "macs": macs}
            decision = scheduler.on_trial_result(trial, result)
            if decision == SchedulerDecision.STOP and epoch < setting["epochs"]:
                break
        scheduler.on_trial_complete(trial, result)
        number += 1


def main() -> None:
    """Seed all generators that there are, and begin."""
    peer, setting = sys.argv[1], json.loads(sys.argv[2])
    import numpy as np

    random.seed(setting["seed"])
    np.random.seed(setting["seed"])
    if peer == "neps_moasha":
        import torch

        torch.manual_seed(setting["seed"])
        torch.set_num_threads(1)
    {"neps_moasha": neps_moasha, "syne_tune_moasha": syne_tune_moasha}[peer](setting)


if __name__ == "__main__":
    main()
