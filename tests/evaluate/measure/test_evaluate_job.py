"""``effnas evaluate``: its numbers against a plain loop, its files, its text, and every mistake."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from effnas.cli import main
from effnas.evaluate.data import ImageData
from effnas.evaluate.data.load import load_split, load_test
from effnas.evaluate.data.pixels import Pixels
from effnas.evaluate.data.sets import MemorySet
from effnas.evaluate.machine.settings import Settings
from effnas.evaluate.measure.job import run_evaluate
from effnas.evaluate.measure.metrics import Predictions
from effnas.evaluate.measure.predict import predict
from effnas.evaluate.measure.report import summary_text
from effnas.space.architecture import Architecture
from effnas.space.errors import UserError
from effnas.space.network import Network, build
from effnas.space.stage import Stage
from effnas.space.weights.weights import save_weights

SMALL = Architecture(
    (Stage("mbconv", 8, stride=2, expand_ratio=2, se_ratio=0.25),),
    stem=8,
    head=16,
    resolution=16,
    in_channels=1,
    num_classes=10,
    name="small",
)
#: Not what the digits themselves would give.
THEIRS = ((60.0,), (90.0,))
DIGITS = tuple("0123456789")


def network(architecture: Architecture = SMALL, seed: int = 0) -> Network:
    """Random, but for statistics of BatchNorm as after a training, and sure enough of itself to be measured."""
    torch.manual_seed(seed)
    model = build(architecture)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_()  # type: ignore[union-attr]
            layer.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    model.classifier.weight.data.normal_()  # type: ignore[union-attr, operator]
    return model


def weights(folder: Path, architecture: Architecture = SMALL, **facts: Any) -> Path:
    facts = {"architecture": architecture, "normalization": THEIRS, "classes": DIGITS, **facts}
    return save_weights(folder / "weights.safetensors", network(architecture), **facts)


def evaluate(folder: Path, file: Path | None = None, data: ImageData | None = None, **options: Any) -> dict[str, Any]:
    options = {"latency_batch": None, "output": folder / "out", "quiet": True, "device": "cpu", **options}
    file = file or weights(folder)
    return run_evaluate(options.pop("architecture", None), file, data or ImageData(), **options)


def logits_of_test_part(normalization: Any = THEIRS, resolution: int = 16) -> tuple[Tensor, Tensor]:
    """What the plain network says of the digits' test part, by a plain loop."""
    batches = list(load_test(ImageData(), 1).batches(100, device="cpu"))  # type: ignore[union-attr]
    (mean,), (std,) = normalization
    model, found = network().eval(), []
    with torch.no_grad():
        for stored, _ in batches:
            large = nn.functional.interpolate(stored, size=(resolution,) * 2, mode="bilinear", antialias=True)
            found.append(model((large.float() - mean) / std))
    return torch.cat(found), torch.cat([y for _, y in batches])


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def folder_of_images(root: Path, classes: tuple[str, ...], each: int = 4) -> Path:
    for i, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for j in range(each):
            noise = np.random.RandomState(10 * i + j).randint(0, 256, (16, 16), dtype=np.uint8)
            Image.fromarray(noise).save(root / name / f"{j}.png")
    return root


# -- the numbers -----------------------------------------------------------------------------------------


def test_agrees_with_a_plain_loop(tmp_path: Path) -> None:
    summary = evaluate(tmp_path, batch_size=50)
    logits, labels = logits_of_test_part()
    top5 = (logits.topk(5, 1).indices == labels[:, None]).any(1)
    assert summary["images"] == len(labels)
    assert summary["top1"] == pytest.approx((logits.argmax(1) == labels).float().mean().item())
    assert summary["top5"] == pytest.approx(top5.float().mean().item())
    assert summary["loss"] == pytest.approx(nn.functional.cross_entropy(logits, labels).item(), rel=1e-4)
    assert summary["confidence"] == pytest.approx(logits.softmax(1).amax(1).mean().item(), rel=1e-4)


def test_normalisation_is_the_weights_unless_it_is_given(tmp_path: Path) -> None:
    def expected(normalization: Any) -> float:
        return nn.functional.cross_entropy(*logits_of_test_part(normalization)).item()

    given = evaluate(tmp_path, data=ImageData(normalize=[30, 50]))  # type: ignore[arg-type]
    assert given["loss"] == pytest.approx(expected(((30.0,), (50.0,))), rel=1e-4)
    pixels = load_split(ImageData(), 1).train.pixels
    measured = evaluate(tmp_path, weights(tmp_path, normalization=None))
    assert measured["loss"] == pytest.approx(expected((pixels.mean, pixels.std)), rel=1e-4)
    assert (measured["pixels"]["mean"], measured["pixels"]["std"]) == (list(pixels.mean), list(pixels.std))


def test_resolution_and_part(tmp_path: Path) -> None:
    larger = evaluate(tmp_path, resolution=24)
    logits, labels = logits_of_test_part(resolution=24)
    assert larger["loss"] == pytest.approx(nn.functional.cross_entropy(logits, labels).item(), rel=1e-4)
    assert (larger["resolution"], larger["macs"] > evaluate(tmp_path)["macs"]) == (24, True)
    data = ImageData(holdout=0.25)
    split = load_split(data, 1)
    sizes = {part: evaluate(tmp_path, data=data, part=part)["images"] for part in ("heldout", "train", "all")}
    assert sizes == {
        "heldout": len(split.heldout),
        "train": len(split.train),
        "all": len(split.heldout) + len(split.train),
    }


def test_threads_are_for_the_evaluation_alone(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    summary = evaluate(tmp_path, threads=before + 1, latency_batch=1)
    assert summary["threads"] == summary["latency"]["threads"] == before + 1
    assert torch.get_num_threads() == before


def test_the_network_that_is_measured_is_the_one_that_is_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build_again(*_: Any) -> None:
        raise AssertionError("a second network was built")

    monkeypatch.setattr("effnas.evaluate.machine.profile.build", build_again)
    assert evaluate(tmp_path, latency_batch=2)["latency"]["latency"] > 0


def test_bf16_is_nearly_the_same(tmp_path: Path) -> None:
    low, full = evaluate(tmp_path, precision="bf16"), evaluate(tmp_path)
    assert low["precision"] == "bf16"
    assert low["loss"] != full["loss"]
    assert low["loss"] == pytest.approx(full["loss"], rel=0.05)


def test_the_architecture_is_the_weights_or_given_with_their_classes(tmp_path: Path) -> None:
    own = evaluate(tmp_path)
    SMALL.with_(num_classes=77).save(tmp_path / "small.yaml")
    given = evaluate(tmp_path, architecture=str(tmp_path / "small.yaml"))
    assert given["digest"] == own["digest"] == SMALL.digest
    assert given["loss"] == own["loss"]


def test_images_are_numbered_by_the_weights_names(tmp_path: Path) -> None:
    four = SMALL.with_(num_classes=4)
    file = weights(tmp_path, four, classes=("d", "c", "b", "a"))
    data = ImageData("files", str(folder_of_images(tmp_path / "data" / "test", ("a", "c")).parent))
    summary = evaluate(tmp_path, file, data)
    assert (summary["classes"], summary["empty_classes"], summary["top5"]) == (4, 2, None)
    rows = read_csv(tmp_path / "out" / "predictions.csv")
    assert [row["class"] for row in rows] == ["a"] * 4 + ["c"] * 4
    assert [Path(row["image"]).parent.name for row in rows] == [row["class"] for row in rows]
    model = network(four).eval()
    for row in rows:
        image = torch.from_numpy(np.array(Image.open(row["image"]), dtype=np.float32))[None, None]
        with torch.no_grad():
            probabilities = model((image - 60) / 90).softmax(1)[0]
        assert row["predicted"] == "dcba"[probabilities.argmax()]
        assert float(row["confidence"]) == pytest.approx(probabilities.max().item(), abs=1e-4)
        assert float(row["loss"]) == pytest.approx(-probabilities["dcba".index(row["class"])].log().item(), abs=1e-3)


# -- what it leaves --------------------------------------------------------------------------------------


@pytest.mark.pictures
def test_files(tmp_path: Path) -> None:
    summary = evaluate(tmp_path, latency_batch=2)
    out = tmp_path / "out"
    assert json.loads((out / "summary.json").read_text(encoding="utf-8")) == json.loads(json.dumps(summary))
    classes = read_csv(out / "classes.csv")
    assert [row["class"] for row in classes] == list(DIGITS)
    assert sum(int(row["images"]) for row in classes) == summary["images"]
    recalls = [float(row["recall"]) for row in classes]
    assert summary["balanced_accuracy"] == pytest.approx(sum(recalls) / 10)
    assert [row["recall"] for row in summary["worst_classes"]] == sorted(recalls)[:5]
    entries = [(row["class"], row["predicted"], int(row["images"])) for row in read_csv(out / "confusion.csv")]
    assert sum(n for *_, n in entries) == summary["images"]
    assert sum(n for a, b, n in entries if a == b) == round(summary["top1"] * summary["images"])
    wrong = [{"class": a, "predicted": b, "images": n} for a, b, n in entries if a != b]
    assert summary["confusions"] == wrong[:5]
    predictions = read_csv(out / "predictions.csv")
    assert len(predictions) == summary["images"]
    assert predictions[0]["image"] == "row 0"
    latency = summary["latency"]
    assert 0 < latency["latency_q1"] <= latency["latency"] <= latency["latency_q3"]
    assert (latency["batch_size"], latency["resolution"], latency["device"]) == (2, 16, "cpu")
    assert summary["images_per_second"] == pytest.approx(summary["images"] / summary["seconds"])
    with Image.open(out / "evaluation.png") as image:
        assert image.size[0] > 1000
    assert "<svg" in (out / "evaluation.svg").read_text(encoding="utf-8")


def test_the_text_says_what_counts(tmp_path: Path) -> None:
    summary = evaluate(tmp_path, latency_batch=1)
    text = summary_text(summary)
    for part in (
        f"small ({SMALL_PARAMS / 1e6:.3f} M parameters",
        f"on {summary['images']} images of digits, test part",
        "images normalised with mean 60 and std 90)",
        f"top-1    {summary['top1']:.2%} (95 % interval ",
        f"top-5    {summary['top5']:.2%}",
        f"loss     {summary['loss']:.4f}",
        f"ECE      {summary['ece']:.2%} (mean confidence ",
        f"(cpu, {summary['threads']} thread",
        "latency  ",
        " ms at batch 1 (quartiles ",
        "worst of 10 classes:",
        "most frequent confusions:",
    ):
        assert part in text


SMALL_PARAMS = sum(p.numel() for p in build(SMALL).parameters())


def test_empty_classes_are_blank_in_the_table_and_told(tmp_path: Path) -> None:
    file = weights(tmp_path, SMALL.with_(num_classes=3), classes=("a", "b", "c"))
    data = ImageData("files", str(folder_of_images(tmp_path / "data" / "test", ("a", "c")).parent))
    summary = evaluate(tmp_path, file, data)
    empty = read_csv(tmp_path / "out" / "classes.csv")[1]
    assert (empty["class"], empty["images"]) == ("b", "0")
    assert empty["recall"] == empty["recall_top_k"] == empty["precision"] == empty["f1"] == ""
    assert "NaN" not in (tmp_path / "out" / "summary.json").read_text(encoding="utf-8")
    text = summary_text(summary)
    assert "worst of 2 classes:" in text
    assert "1 class has no image here: left out of all means" in text
    assert "top-5" not in text


def test_images_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    folder = folder_of_images(tmp_path / "data" / "test", ("a", "b"), 10)
    (folder / "a" / "3.png").write_bytes(b"junk")
    file = weights(tmp_path, SMALL.with_(num_classes=2), classes=None)
    for memory_mb in (0, 100):
        data = ImageData("files", str(folder.parent), max_corrupt=0.1, memory_mb=memory_mb, workers=0)
        summary = evaluate(tmp_path, file, data)
        assert (summary["images"], summary["skipped"]) == (19, [str(folder / "a" / "3.png")])
        assert "1 image could not be read and was left out: " in summary_text(summary)
        assert len(read_csv(tmp_path / "out" / "predictions.csv")) == 19


@pytest.mark.pictures
def test_many_classes_have_a_figure_too(tmp_path: Path) -> None:
    file = weights(tmp_path, SMALL.with_(num_classes=60), classes=None)
    data = ImageData(
        "files", str(folder_of_images(tmp_path / "d" / "test", tuple(f"c{i:02d}" for i in range(60)), 1).parent)
    )
    summary = evaluate(tmp_path, file, data)
    assert (summary["classes"], (tmp_path / "out" / "evaluation.png").is_file()) == (60, True)
    assert f"and {round(60 * (1 - summary['top1'])) - 5} more as bad as the last one" in summary_text(summary)


# -- memory ----------------------------------------------------------------------------------------------


class Hungry(nn.Module):
    """Runs out of memory with more than ``most`` images."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return x.mean((2, 3)) @ torch.eye(1, 3)


def ask(most: int, batch_size: int, seen: list[int]) -> tuple[Predictions, int]:
    images = torch.randint(0, 256, (30, 1, 4, 4), dtype=torch.uint8)
    pixels = Pixels(1, 4, (0.0,), (1.0,))
    held = MemorySet(images, torch.arange(30) % 3, 3, pixels)
    options = {"resolution": 4, "device": torch.device("cpu"), "settings": Settings()}
    return predict(Hungry(most), held, batch_size=batch_size, seen=seen.append, **options)  # type: ignore[arg-type]


def test_a_batch_that_does_not_fit_is_halved() -> None:
    seen: list[int] = []
    predictions, fitted = ask(most=9, batch_size=32, seen=seen)
    assert fitted == 8
    assert predictions.labels.tolist() == [i % 3 for i in range(30)]
    assert seen == [8, 16, 24, 30]


def test_memory_for_not_even_one_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(torch.OutOfMemoryError, match=r"^CUDA out of memory$"):
        ask(most=0, batch_size=1, seen=[])
    monkeypatch.setattr("effnas.evaluate.measure.predict.prepare_for_inference", lambda model, settings: Hungry(0))
    with pytest.raises(UserError, match=r"^out of memory with one image at resolution 16: a smaller resolution or ano"):
        evaluate(tmp_path, batch_size=1)


# -- mistakes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"part": "validation"}, r"part: unknown 'validation'. Choose one of: test, heldout, train, all"),
        ({"precision": "fp16"}, r"precision: unknown 'fp16'.* Choose one of: fp32, bf16"),
        ({"threads": 0}, r"threads must be between 1 and 4096, got 0"),
        ({"batch_size": 0}, r"batch_size must be between 1 and 1000000, got 0"),
        ({"latency_batch": 0}, r"latency_batch must be between 1 and 1000000, got 0"),
        ({"resolution": 0}, r"resolution must be between 1 and 100000, got 0"),
        ({"device": "tpu"}, r"device \(of this machine\): unknown 'tpu'"),
        ({"architecture": "efficientnet_b0"}, r"weights: .* belongs to another network; missing: stages"),
        ({"architecture": "efficientnet_b99"}, r"Did you mean"),
    ],
)
def test_settings_that_are_wrong(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        evaluate(tmp_path, **options)


def test_no_weights() -> None:
    with pytest.raises(UserError, match=r"^weights: none given; use weights=FILE \(effnas train writes weights.safet"):
        run_evaluate("efficientnet_b0", None, ImageData())


def test_class_counts_that_differ(tmp_path: Path) -> None:
    architecture = tmp_path / "small.yaml"
    SMALL.with_(num_classes=77).save(architecture)
    file = weights(tmp_path, SMALL.with_(num_classes=12), classes=None)
    rule = (
        r"^the data \(digits, test part\) has 10 classes, the weights .*/weights.safetensors have 12 \(architecture "
        r"small: 77\): measure them on data with their classes, or fine-tune them on yours: effnas train with"
    )
    with pytest.raises(UserError, match=rule):
        evaluate(tmp_path, file, architecture=str(architecture))


def test_classes_by_other_names(tmp_path: Path) -> None:
    file = weights(tmp_path, SMALL.with_(num_classes=2), classes=("cat", "dog"))
    data = ImageData("files", str(folder_of_images(tmp_path / "data" / "test", ("cat", "emu")).parent))
    with pytest.raises(UserError, match=r"has classes that the weights lack: emu; the weights have: cat, dog$"):
        evaluate(tmp_path, file, data)


def test_weights_that_do_not_name_their_network(tmp_path: Path) -> None:
    torch.save(network().state_dict(), tmp_path / "plain.pth")
    with pytest.raises(UserError, match=r"^architecture: the weights \(effnas format\) do not name their network"):
        evaluate(tmp_path, tmp_path / "plain.pth")


def test_damaged_weights(tmp_path: Path) -> None:
    model = network()
    model.classifier.weight.data[0] = torch.nan  # type: ignore[union-attr, index]
    file = save_weights(tmp_path / "w.safetensors", model, architecture=SMALL, normalization=THEIRS, classes=DIGITS)
    with pytest.raises(
        UserError, match="the network's output is not finite for 364 of 364 images: its weights are dam"
    ):
        evaluate(tmp_path, file)


def test_a_part_without_a_readable_image(tmp_path: Path) -> None:
    folder = folder_of_images(tmp_path / "data" / "test", ("a", "b"), 1)
    for file in folder.rglob("*.png"):
        file.write_bytes(b"")
    data = ImageData("files", str(folder.parent), max_corrupt=1)
    with pytest.raises(UserError, match="there are no images to measure on"):
        evaluate(tmp_path, weights(tmp_path, SMALL.with_(num_classes=2), classes=None), data)


# -- the command -----------------------------------------------------------------------------------------


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", "--weights", str(weights(tmp_path)), "--latency-batch", "null", "--device", "cpu"]
    words.append(f"hydra.run.dir={tmp_path / 'out'}")
    assert main(words) == 0
    captured = capsys.readouterr()
    assert "\ntop-1    " in captured.out
    assert captured.err == ""
    assert main([*words, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["top1"] == evaluate(tmp_path, output=tmp_path / "other")["top1"]
    assert summary["command"].startswith("effnas evaluate --weights ")


def test_mistakes_end_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", f"hydra.run.dir={tmp_path}"]) == 2
    assert capsys.readouterr().err.startswith("effnas evaluate: error: weights: none given; use weights=FILE")
    file = weights(tmp_path, SMALL.with_(num_classes=12), classes=None)
    assert main(["evaluate", "--weights", str(file), f"hydra.run.dir={tmp_path}"]) == 2
    assert "has 10 classes, the weights" in capsys.readouterr().err
    assert (
        main(["evaluate", "data.path=/nowhere", "data=folder", "--weights", str(file), f"hydra.run.dir={tmp_path}"])
        == 2
    )
    assert "data.path: no such file or folder: /nowhere" in capsys.readouterr().err
