"""Folders as the commands beside the chain leave them, made without running any; with hostile names where asked for."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from run_folders import HOSTILE, write_csv, write_summary

from effnas import load_architecture

NETWORK = {"name": "net", "digest": "d", "resolution": 32, "params": 12_000, "macs": 3_000_000, "activations": 9000}
#: One pixel.
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def name(i: int, hostile: bool) -> str:
    return HOSTILE[i % len(HOSTILE)] if hostile else f"net{i}"


def make_comparison(folder: Path, hostile: bool = False) -> Path:
    members = [
        {**NETWORK, "name": name(i, hostile), "family": name(1, hostile), "accuracy": 0.7 + 0.05 * i}
        | {"macs": 10**6 * 3**i, "standard_error": 0.01 if i else None, "runs": 1 + i, "latency": None}
        for i in range(3)
    ]
    reference = {**NETWORK, "name": "ResNet-50", "family": "", "accuracy": 0.71, "macs": 9 * 10**6, "source": "He 2016"}
    pair = {"member": name(0, hostile), "other": "published", "reference": "ResNet-50", "macs_ratio": 9.0}
    document = {"x": ["macs", "latency"], "families": {name(1, hostile): members}, "references": [reference]}
    write_summary(folder, "compare", {**document, "pairs": [pair], "notes": ["a note"]}, "compare.json")
    return folder


def make_evaluation(folder: Path, hostile: bool = False) -> Path:
    bins = [{"low": 0.0, "high": 0.5, "images": 4, "accuracy": 0.5, "confidence": 0.4}]
    bins.append({"low": 0.5, "high": 1.0, "images": 0, "accuracy": None, "confidence": None})
    found = {**NETWORK, "architecture": "net", "images": 8, "top1": 0.75, "top1_interval": [0.6, 0.9], "top5": 1.0}
    found |= {"loss": 0.5, "ece": 0.1, "balanced_accuracy": 0.7, "macro_f1": 0.7, "data": "digits", "part": "test"}
    write_summary(folder, "evaluate --weights w", {**found, "bins": bins, "latency": {"seconds": 0.001}})
    classes = [{"class": name(i, hostile), "label": i, "images": 4, "recall": 0.75, "precision": ""} for i in range(2)]
    write_csv(folder / "classes.csv", classes)
    pairs = [
        {"class": name(i, hostile), "predicted": name(j, hostile), "images": 1 + i} for i in (0, 1) for j in (0, 1)
    ]
    write_csv(folder / "confusion.csv", pairs)
    return folder


def make_transfer(folder: Path, hostile: bool = False) -> Path:
    rows = [
        {"dataset": name(i, hostile), "network": "net", "accuracy": 0.5, "standard_error": 0.01, "seeds": 2}
        | {"part": "test", "params": 1000 * (k + 1), "params_ratio": 1.0, "macs": 10**6, "resolution": 32}
        for i in range(2)
        for k in range(2)
    ]
    write_summary(folder, "transfer --seeds 2", {"rows": rows, "geometric_mean_ratio": {"net": 1.0}}, "transfer.json")
    return folder


def make_profile(folder: Path, hostile: bool = False) -> Path:
    rows = [{**NETWORK, "name": name(i, hostile), "macs": 10**6 * 9**i, "latency": 0.001 * (i + 1)} for i in range(3)]
    write_summary(folder, "profile net", {"networks": rows}, "profile.json")
    return folder


def make_export(folder: Path, hostile: bool = False) -> Path:
    proof = {"max_difference": 1e-7, "agreement": 1.0, "accuracy_before": 0.9, "accuracy_after": 0.895, "by": "ort 1"}
    formats = {
        name(0, hostile): {"file": "model.onnx", "bytes": 70_000, "proof": proof, "latency": {"seconds": 0.002}},
        "timm": {"file": "timm", "bytes": 80_000, "proof": {**proof, "by": "torch"}, "latency": None},
    }
    found = {**NETWORK, "architecture": "net", "num_classes": 10, "weights": "w.safetensors", "threads": 1}
    found |= {"torch_latency": {"seconds": 0.004}, "formats": formats}
    write_summary(folder, "export w --to onnx", found, "export.json")
    return folder


def make_compression(folder: Path, hostile: bool = False) -> Path:
    found = {
        "before": {**NETWORK, "name": name(0, hostile), "accuracy": 0.9},
        "pruned": {**NETWORK, "macs": 1_500_000, "accuracy": 0.7},
        "trained": {"accuracy": 0.88, "test_accuracy": 0.87, "seconds": 3.0, "epochs": 2},
        "cuts": [{"what": f"{name(i, hostile)}: 6 to 5", "macs": 10**6 * (3 - i), "loss": 0.5 + i} for i in range(2)],
        "target": 1_600_000,
        "architecture": load_architecture("efficientnet_b0").to_dict(),
    }
    write_summary(folder, "compress --weights w", found, "compress.json")
    (folder / "trained").mkdir()
    rows = [
        {"epoch": i, "train_loss": 1 / i, "loss": 1 / i, "accuracy": 0.2 * i, "train_accuracy": 0.1} for i in (1, 2)
    ]
    write_csv(folder / "trained" / "log.csv", rows)
    return folder


def make_measurements(folder: Path, hostile: bool = False) -> Path:
    found = {"task": "measure", "rows": 3, "space": "tiny", "measured": "batch 1, cpu, 1 thread, fp32"}
    write_summary(folder, "latency measure", {**found, "seconds_low": 1e-3, "seconds_high": 3e-3})
    kinds = [{"block": name(i, hostile), "seconds": 0.001 * (3 - i), "threads": 1} for i in range(3)]
    write_csv(folder / "measurements.csv", kinds)
    return folder


def make_latency_model(folder: Path, hostile: bool = False) -> Path:
    found = {"task": "fit", "rows": 30, "networks": 30, "space": "tiny", "file": name(1, hostile)}
    found |= {"kendall_tau": 0.87, "median_error": 0.04, "seconds_low": 1e-3, "seconds_high": 3e-3}
    write_summary(folder, "latency fit m.csv", found)
    (folder / "latency.png").write_bytes(PNG)
    return folder


def make_maps(folder: Path, hostile: bool = False) -> Path:
    images = [{"name": name(i, hostile), "class": "cat"} for i in range(2)]
    predictions = [{"class": name(i, hostile), "probability": 0.9} for i in range(2)]
    networks = [{**NETWORK, "map": [4, 4], "predictions": predictions}]
    write_summary(folder, "cam --weights w", {"networks": networks, "images": images, "method": "cam"}, "cam.json")
    (folder / "cam.png").write_bytes(PNG)
    return folder


def make_list(folder: Path, command: str, rows: list[dict[str, object]], words: list[str]) -> Path:
    write_summary(folder, command, {})
    (folder / "summary.json").unlink()
    (folder / f"{command}.json").write_text(json.dumps(rows))
    (folder / ".hydra").mkdir()
    (folder / ".hydra" / "overrides.yaml").write_text("".join(f"- {word}\n" for word in words))
    return folder


def make_table(folder: Path, hostile: bool = False) -> Path:
    rows = [{**NETWORK, "name": name(i, hostile), "paper_macs": "0.39B", "macs_agree": i > 0} for i in range(2)]
    return make_list(folder, "reproduce", rows, ["table=table2"])


def make_family(folder: Path, hostile: bool = False) -> Path:
    rows = [
        {**NETWORK, "name": name(i, hostile), "phi": float(i), "rule": "compound", "depth": 1.2**i} for i in range(3)
    ]
    return make_list(folder, "scale", rows, ["family=0..2"])


#: Of each command that is no step of the chain: how its folder is made, and words that its page has.
OTHERS = {
    "compare": (make_comparison, ("Accuracy against MACs", "ResNet-50", "At equal accuracy", "9.000", "a note")),
    "evaluate": (make_evaluation, ("top-1 75.00% (95 %: 60.00% to 90.00%)", "What is taken for what", "Confidence")),
    "transfer": (make_transfer, ("Accuracy against parameters", "50.00%", "1.00%")),
    "profile": (make_profile, ("Latency against MACs", "2 ms", "9 M")),
    "export": (make_export, ('Latency at batch 1, 1 CPU thread"', "+ 's'", "ort 1", "89.50%", "1e-07", "4 ms")),
    "compress": (make_compression, ("pruned and fine-tuned", "What each cut costs", "Accuracy by epoch", "1.6 M")),
    "latency": (make_measurements, ("Measured latency", "from the fastest to the slowest", "3 networks of tiny")),
    "latency-model": (make_latency_model, ("Kendall's τ = 0.870", "off by 4.00%", "The model's fit")),
    "cam": (make_maps, ("Where the networks look", "90.00%", "cat")),
    "reproduce": (make_table, ("The paper's table, recomputed", "0.39B", "table=table2")),
    "scale": (make_family, ("MACs over φ", "family=0..2", "1.44")),
}
