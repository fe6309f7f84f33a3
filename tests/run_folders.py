"""Folders as commands leave them, made without running any."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from effnas import load_architecture, load_space

HOSTILE = (
    "<script>alert('x')</script>",
    "</script><img src=x onerror=alert(1)>",
    "\"quotes' & <b>tags</b> `${x}`",
    "שלום \u202eright to left",
    "n" * 300,
    "a.b[0]\\'c",
    "<!-- comment",
)
VERSIONS = {"python": "3.11.7", "effnas": "0.1.0"}


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), restval="")
        writer.writeheader()
        writer.writerows(rows)


def write_summary(folder: Path, command: str, summary: Mapping[str, Any], name: str = "summary.json") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    common = {"command": f"effnas {command}", "versions": VERSIONS, "output": str(folder), "seed": 0, "seconds": 12.5}
    (folder / name).write_text(json.dumps({**common, **summary}), encoding="utf-8")
    (folder / ".effnas").write_text(f"{command.split()[0]}\n")


def make_search(folder: Path, trials: int = 30, hostile: bool = False, confirmed: bool = True) -> Path:
    """A search with failures, whose decisions and reasons may have hostile names."""
    space = load_space("tiny")
    network = load_architecture("efficientnet_b0").with_(name=HOSTILE[0] if hostile else "found")
    rows: list[dict[str, Any]] = []
    names = [f"decision.{name}" for name in (HOSTILE if hostile else list(space.distributions)[:6])]
    for i in range(trials):
        failed = i % 10 == 9
        rows.append(
            {
                "number": i,
                "state": "failed" if failed else "complete",
                "score": "" if failed else 0.5 + 0.01 * (i % 7) + 0.001 * i,
                "accuracy": "" if failed else 0.5 + 0.01 * (i % 7),
                "params": 10_000 + 100 * i,
                "macs": 1_000_000 * (1 + i % 5),
                "activations": 1000,
                "latency": "",
                **{name: HOSTILE[(i + k) % 3] if hostile else (i + k) % 3 for k, name in enumerate(names)},
                "duplicate_of": "",
                "reason": (HOSTILE[i % 4] if hostile else "loss is not finite") if failed else "",
            }
        )
    confirmation = {"score": 0.55, "accuracy": 0.541, "standard_error": 0.002, "seeds": [5, 6]} if confirmed else None
    summary = {
        "best": {"number": 6, "score": 0.566, "accuracy": 0.56, "params": 10_600, "macs": 2_000_000}
        | {"decisions": {}, "architecture": network.to_dict()},
        "selected_on": {"score": 0.566, "accuracy": 0.56, "seeds": [0]},
        "confirmed_on": confirmation,
        "front": [],
        "space": HOSTILE[1] if hostile else "tiny",
        "algorithm": "Predictor",
        "objective": "MnasNetReward",
        "evaluator": "Proxy",
        "trials": trials,
        "complete": trials - trials // 10,
        "failed": trials // 10,
        "study": {"name": "search", "directions": ["maximize"]},
    }
    write_summary(folder, f"search --space {HOSTILE[2]}" if hostile else "search --seed 0", summary)
    write_csv(folder / "trials.csv", rows)
    (folder / ".hydra").mkdir()
    (folder / ".hydra" / "config.yaml").write_text(f"space: {HOSTILE[1] if hostile else 'tiny'}\n", encoding="utf-8")
    return folder


def make_grid(folder: Path) -> Path:
    points = [
        {"alpha": a, "beta": b, "gamma": c, "accuracy": 0.6 + 0.01 * i, "sd": None, "seeds": 1, "macs_ratio": 1.9}
        | {"nominal_macs_ratio": 1.92, "macs": 2_000_000, "params": 12_000, "resolution": 16, "equal_to": None}
        for i, (a, b, c) in enumerate([(1.2, 1.1, 1.15), (2.0, 1.0, 1.0), (1.0, 1.4, 1.0), (1.0, 1.0, 1.4)])
    ]
    summary = {"best": points[-1], "points": points, "verdict": {"text": "leads by 1.00%"}, "trials": 4, "complete": 4}
    summary |= {"surface": {"fitted": False, "text": "4 networks are too few"}, "baseline": {"name": "tiny"}}
    write_summary(folder, "grid-alpha-beta-gamma", summary)
    return folder


def make_ablation(folder: Path) -> Path:
    rows = [
        {"rule": rule, "factor": factor, "accuracy": 0.5 + 0.02 * factor, "standard_error": 0.01, "seeds": 3}
        | {"macs": int(1e6 * factor), "macs_ratio": factor, "params": 1000, "resolution": 16, "blocks": 4}
        for rule in ("compound", "width")
        for factor in (2.0, 4.0)
    ]
    comparisons = [{"factor": 2.0, "rule": "width", "reference": "compound", "text": "no difference: p 0.5"}]
    summary = {"base": rows[0], "rows": rows, "comparisons": comparisons, "notes": ["trimmed"], "trials": 12}
    write_summary(folder, "ablate", summary | {"complete": 12})
    return folder


def make_training(folder: Path, epochs: int = 4) -> Path:
    summary = {"architecture": "net", "macs": 700_000, "params": 20_000, "accuracy": 0.9, "test_accuracy": 0.88}
    summary |= {"epochs": epochs, "train_images": 700, "weights": "from scratch", "settings": "fp32", "train_loss": 1.0}
    write_summary(folder, "train", summary | {"resolution": 16})
    rows = [
        {
            "epoch": i,
            "loss": 2 / i,
            "accuracy": 1 - 1 / (i + 1),
            "train_loss": 2.1 / i,
            "train_accuracy": 1 - 1 / (i + 2),
        }
        for i in range(1, epochs + 1)
    ]
    write_csv(folder / "log.csv", rows)
    return folder


def make_ranking(folder: Path) -> Path:
    rows = [
        {"shortcut": name, "kind": "shortcut", "tau": tau, "low": tau - 0.1, "high": tau + 0.1, "cost": 0.01}
        | {"tau_over_ceiling": 0.7, "tau_top": 0.2, "tau_equal_macs": None}
        for name, tau in (("synflow", 0.4), ("epochs_2", 0.5))
    ]
    summary = {"rows": rows, "members": 12, "ceiling": 0.8, "space": "tiny", "trials": 24, "complete": 24}
    summary |= {"selected_on": {"tau": 0.5, "seeds": [0]}, "confirmed_on": {"tau": 0.45, "seeds": [1]}}
    write_summary(folder, "rank", summary)
    members = [
        {"decision.k": i % 3, "macs": 1000 + i, "accuracy": 0.8 + 0.01 * i}
        | {"shortcut.synflow": i * 1.5, "shortcut.epochs_2": 0.2 * i}
        for i in range(12)
    ]
    write_csv(folder / "members.csv", members)
    return folder


def make_prediction(folder: Path) -> Path:
    members = [
        {"name": f"b{i}", "macs": 4e8 * 2**i, "accuracy": 0.77 + 0.01 * i, "on_law": i != 2, "expected": 0.77}
        for i in range(5)
    ]
    backtest = [{"from": 1e9, "from_name": "b3", "members": 4, "name": "b4", "macs": 6.4e9}]
    backtest[0] |= {"predicted": 0.81, "low": 0.8, "high": 0.82, "actual": 0.805}
    summary = {"x": "macs", "law": {"c": 0.14, "a": 1243.0, "b": 0.48}, "members": members, "backtest": backtest}
    summary |= {"predictions": [{"macs": 1e10, "accuracy": 0.84, "low": 0.83, "high": 0.85}], "notes": ["a note"]}
    write_summary(folder, "predict", summary, "predict.json")
    return folder


MAKERS = {
    "search": make_search,
    "grid": make_grid,
    "ablate": make_ablation,
    "train": make_training,
    "rank": make_ranking,
    "predict": make_prediction,
}
