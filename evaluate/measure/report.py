"""The output folder of an evaluation: tables, the summary, its text on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..arguments import describe_device
from ..folder import write_csv, write_json
from .figure import evaluation_figure
from .metrics import Metrics, Predictions, confusions, summarize

#: Classes and confusions that are named on the terminal and in ``summary.json``; the tables have all.
SHOWN = 5


def write_evaluation(
    predictions: Predictions, classes: Sequence[str], names: Iterable[str], facts: Mapping[str, Any], output: Path
) -> dict[str, Any]:
    """Write everything and return the content of ``summary.json``.

    Args:
        predictions: of at least one image.
        classes: names, in the order of the labels.
        names: of the images, in the order of the predictions.
        facts: what was measured, and how; taken over into the summary (``architecture`` and ``data`` title the figure).
        output: folder.
    """
    metrics = summarize(predictions)
    taken = confusions(predictions)
    columns = ("label", "images", "recall", "recall_top_k", "precision", "f1", "predicted")
    write_csv(
        output / "classes.csv",
        ("class", *columns),
        ({"class": classes[row.label], **asdict(row)} for row in metrics.classes),
    )
    write_csv(
        output / "confusion.csv",
        ("class", "predicted", "images"),
        ({"class": classes[i], "predicted": classes[j], "images": images} for i, j, images in taken),
    )
    write_csv(
        output / "predictions.csv",
        ("image", "class", "predicted", "confidence", "loss"),
        (
            {
                "image": name,
                "class": classes[label],
                "predicted": classes[predicted],
                "confidence": f"{confidence:.6f}",
                "loss": f"{loss:.6f}",
            }
            for name, label, predicted, confidence, loss in zip(
                names,
                predictions.labels,
                predictions.predicted,
                predictions.confidence,
                predictions.loss,
                strict=True,
            )
        ),
    )
    summary = {**_numbers(metrics, taken, classes), **facts, "output": str(output)}
    write_json(output / "summary.json", summary)
    title = f"{summary['architecture']}: {metrics.images:,} images of {summary['data']}, top-1 {metrics.top1:.2%}"
    evaluation_figure(predictions, metrics, classes, title, output)
    return summary


def _numbers(metrics: Metrics, taken: Sequence[tuple[int, int, int]], classes: Sequence[str]) -> dict[str, Any]:
    worst = sorted(
        (row for row in metrics.classes if row.recall is not None), key=lambda row: (row.recall or 0, -row.images)
    )
    wrong = [entry for entry in taken if entry[0] != entry[1]]
    return {
        "images": metrics.images,
        "top1": metrics.top1,
        "top1_interval": [metrics.top1_low, metrics.top1_high],
        "top5": metrics.top_k if metrics.k < len(classes) else None,  # of 5 classes or fewer it says nothing
        "loss": metrics.loss,
        "confidence": metrics.confidence,
        "ece": metrics.ece,
        "balanced_accuracy": metrics.balanced_accuracy,
        "macro_f1": metrics.macro_f1,
        "classes": len(classes),
        "empty_classes": metrics.empty_classes,
        "worst_classes": [
            {"class": classes[row.label], "images": row.images, "recall": row.recall, "precision": row.precision}
            for row in worst[:SHOWN]
        ],
        "as_bad": sum(row.recall == worst[SHOWN - 1].recall for row in worst[SHOWN:]),
        "confusions": [{"class": classes[i], "predicted": classes[j], "images": n} for i, j, n in wrong[:SHOWN]],
        "bins": [asdict(b) for b in metrics.bins],
    }


def summary_text(summary: Mapping[str, Any]) -> str:
    """What ``effnas evaluate`` prints."""
    s = summary
    low, high = s["top1_interval"]
    lines = [
        f"{s['architecture']} ({s['params'] / 1e6:,.3f} M parameters, {s['macs'] / 1e6:,.1f} M MACs at "
        f"{s['resolution']}²) on {s['images']:,} images of {s['data']}, {s['part']} part",
        s["weights_note"],
        "",
        f"top-1    {s['top1']:.2%} (95 % interval {low:.2%} to {high:.2%})",
        *([f"top-5    {s['top5']:.2%}"] if s["top5"] is not None else []),
        f"loss     {s['loss']:.4f}",
        f"ECE      {s['ece']:.2%} (mean confidence {s['confidence']:.2%})",
        f"speed    {s['images_per_second']:,.0f} images/s at batch {s['batch_size']}, {s['seconds']:.1f} s in all "
        f"({describe_device(s['device'], s['threads'])}, {s['precision']}, BatchNorm folded)",
        *_latency(s["latency"]),
        *_classes(s),
        "",
        f"written to {s['output']}: summary.json classes.csv confusion.csv predictions.csv "
        "evaluation.png evaluation.svg",
    ]
    return "\n".join(lines)


def _latency(latency: Mapping[str, Any] | None) -> list[str]:
    if latency is None:
        return []
    low, middle, high = (1e3 * latency[key] for key in ("latency_q1", "latency", "latency_q3"))
    return [
        f"latency  {middle:.2f} ms at batch {latency['batch_size']} (quartiles {low:.2f} to {high:.2f}; "
        f"{describe_device(latency['device'], latency['threads'])}, fp32, BatchNorm not folded)"
    ]


def _classes(s: Mapping[str, Any]) -> list[str]:
    width = max(len(row["class"]) for row in (*s["worst_classes"], *s["confusions"]))
    lines = ["", f"worst of {s['classes'] - s['empty_classes']:,} classes:"]
    for row in s["worst_classes"]:
        precision = "–" if row["precision"] is None else f"{row['precision']:.1%}"
        lines.append(
            f"  {row['class']:<{width}}  recall {row['recall']:6.1%} of {row['images']:,}, precision {precision}"
        )
    if s["as_bad"]:
        lines.append(f"  and {s['as_bad']:,} more as bad as the last one")
    if s["empty_classes"]:
        have = "class has" if s["empty_classes"] == 1 else "classes have"
        lines.append(f"  {s['empty_classes']:,} {have} no image here: left out of all means")
    if s["confusions"]:
        lines += ["", "most frequent confusions:"]
        lines += [
            f"  {row['class']:<{width}}  taken for {row['predicted']}: {row['images']:,}" for row in s["confusions"]
        ]
    if s["skipped"]:
        first = ", ".join(s["skipped"][:3]) + (", …" if len(s["skipped"]) > 3 else "")
        count = (
            "1 image could not be read and was"
            if len(s["skipped"]) == 1
            else f"{len(s['skipped']):,} images could not be read and were"
        )
        lines += ["", f"{count} left out: {first}"]
    return lines
