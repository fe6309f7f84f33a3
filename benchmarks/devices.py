"""One space, two budgets: the network for few MACs is not the network for a short latency on a device.

Two searches of EfficientNet-B0's space without training, on what Accel-NASBench's archive predicts: the MnasNet reward
on MACs, at no more MACs than B0, and the same reward on a device's latency, at no more latency than B0's. Writes both
searches, a figure and a Markdown table.

    python benchmarks/devices.py --archive ../shared/data/accel_nasbench     # about a minute on 2 CPU cores

The accuracies are predictions for the benchmark's shortened training, about 10 points below a full one: they rank
networks, they are nobody's ImageNet accuracy.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

from effnas import cost, load_architecture, run_search
from effnas.evaluate.accel_archive import DEVICES
from effnas.evaluate.accel_nasbench import AccelNASBench
from effnas.evaluate.drawing.axes import cost_axis, percent_axis
from effnas.evaluate.drawing.style import BLACK, BLUE, RED, drawing, make_figure, place_legend, save_figure
from effnas.search.objective import MnasNetReward


def main() -> None:
    """Search twice, compare, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", type=Path, default=Path("../shared/data/accel_nasbench"))
    parser.add_argument("--device", choices=DEVICES, default="latency_zcu102")
    parser.add_argument("--trials", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("outputs/devices"))
    options = parser.parse_args()
    evaluator = AccelNASBench(str(options.archive), device=options.device)
    b0 = load_architecture("efficientnet_b0")
    reference = evaluator(b0, seed=0, report=lambda step, accuracy: None)
    assert reference.latency is not None
    objectives = {
        "macs": MnasNetReward(target=cost(b0).macs, max_macs=cost(b0).macs),
        "latency": MnasNetReward(target=reference.latency, metric="latency", max_latency=reference.latency),
    }
    rows = [row("EfficientNet-B0", reference.accuracy, cost(b0).macs, reference.latency, b0)]
    trials = {}
    for name, objective in objectives.items():
        folder = options.output / name
        summary = run_search(
            "accel_nasbench", evaluator, objective, trials=options.trials, seed=options.seed, output=folder
        )
        best = summary["best"]
        network = load_architecture(folder / "baseline.yaml")
        rows.append(row(f"searched for {name}", best["accuracy"], best["macs"], best["latency"], network))
        with open(folder / "trials.csv", newline="", encoding="utf-8") as file:
            trials[name] = [r for r in csv.DictReader(file) if r["state"] == "complete"]
    print(table(rows, options.device))
    for name, value in evaluator.describe()["surrogates"].items():
        print(f"{name}: Kendall tau {value['kendall_tau']:.3f}, R2 {value['r2']:.3f} on held-out networks")
    draw(rows, trials, options.device, options.output / "devices.png")
    print(f"written to {options.output}: devices.png macs/ latency/")


def row(name: str, accuracy: float, macs: int, latency: float, network: Any) -> dict[str, Any]:
    """One network's line: its measures, and its stages as expansion, kernel, layers and squeeze-and-excitation."""
    stages = " ".join(
        f"e{s.expand_ratio}k{s.kernel_size}×{s.repeats}{'+se' if s.se_ratio else ''}" for s in network.stages
    )
    return {"name": name, "accuracy": accuracy, "macs": macs, "latency": latency, "stages": stages}


def table(rows: list[dict[str, Any]], device: str) -> str:
    """Markdown."""
    lines = [f"| network | predicted accuracy | M MACs | {device}, ms | stages |", "|---|---|---|---|---|"]
    lines += [
        f"| {r['name']} | {r['accuracy']:.2%} | {r['macs'] / 1e6:.0f} | {r['latency'] * 1e3:.2f} | `{r['stages']}` |"
        for r in rows
    ]
    return "\n".join(lines)


def draw(rows: list[dict[str, Any]], trials: dict[str, list[dict[str, str]]], device: str, file: Path) -> None:
    """Both searches against both costs; candidates far below the named networks are left to the tables."""
    lowest = 100 * min(r["accuracy"] for r in rows) - 3
    styles = {"macs": ("MACs", BLUE, "o"), "latency": ("latency", RED, "^")}
    with drawing():
        figure = make_figure(9.6, 4.8)
        panels = figure.subplots(1, 2, sharey=True)
        for axes, key, unit, label in zip(
            panels,
            ("macs", "latency"),
            (1e-6, 1e3),
            ("million MACs", f"latency on {device.partition('_')[2]}, milliseconds per image"),
            strict=True,
        ):
            drawn = []
            for name, done in trials.items():
                word, colour, mark = styles[name]
                near = [t for t in done if 100 * float(t["accuracy"]) >= lowest]
                x, y = [float(t[key]) * unit for t in near], [100 * float(t["accuracy"]) for t in near]
                axes.scatter(
                    x, y, s=18, color=colour, marker=mark, alpha=0.4, linewidths=0, label=f"searched for {word}"
                )
                drawn += x
            labels = ("EfficientNet-B0", *(f"found for {word}" for word, _, _ in styles.values()))
            colours = (BLACK, *(colour for _, colour, _ in styles.values()))
            for found, label_of, mark, colour in zip(rows, labels, "D**", colours, strict=True):
                style = {"marker": mark, "s": 60 if mark == "D" else 260, "color": colour, "edgecolors": "white"}
                axes.scatter([found[key] * unit], [100 * found["accuracy"]], label=label_of, zorder=3, **style)
                drawn.append(found[key] * unit)
            cost_axis(axes, drawn, label)
            axes.grid()
        accuracies = [100 * float(t["accuracy"]) for done in trials.values() for t in done]
        percent_axis(panels[0], [a for a in accuracies if a >= lowest])
        panels[0].set_ylabel("predicted accuracy (%), shortened training")
        place_legend(figure, panels, 9.6)
        save_figure(figure, file.with_suffix(""), kinds=("png",))


if __name__ == "__main__":
    main()
