"""Eight bits: what NNCF makes of a small network, and when it is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from effnas.evaluate.data import ImageData
from effnas.evaluate.export import int8
from effnas.evaluate.export.images import ProofImages, split_images
from effnas.evaluate.export.int8 import INT8, check_int8, prove_int8
from effnas.evaluate.export.job import run_export
from effnas.evaluate.export.preprocessing import Preprocessing
from effnas.evaluate.export.subject import Subject
from effnas.space.architecture import Architecture
from effnas.space.errors import UserError
from effnas.space.network import build
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


def weights(folder: Path) -> Path:
    torch.manual_seed(0)
    model = build(SMALL)
    model.classifier.weight.data.normal_()  # type: ignore[union-attr, operator]
    return save_weights(folder / "w.safetensors", model, architecture=SMALL, normalization=((60.0,), (90.0,)))


@pytest.mark.slow
@pytest.mark.parametrize("resize", [False, True])
def test_both_formats(tmp_path: Path, resize: bool) -> None:
    for package in ("nncf", "onnx", "onnxscript", "onnxruntime", "openvino"):
        pytest.importorskip(package)
    found = run_export(
        str(weights(tmp_path)),
        ImageData(),
        to=("onnx", "openvino"),
        int8=True,
        int8_max_drop=0.2,
        calibration=50,
        images=100,
        latency=resize,
        resize_inside=resize,
        output=tmp_path / "out",
        quiet=True,
    )
    assert list(found["formats"]) == ["safetensors", "onnx", "openvino", "onnx_int8", "openvino_int8"]
    for name in ("onnx_int8", "openvino_int8"):
        told = found["formats"][name]
        assert told["calibration"] == "50 images of digits, test part"
        assert told["proof"]["images"] == "100 images of digits, test part, none of those for calibration"
        assert told["proof"]["labelled"] == 100
        assert told["proof"]["agreement"] > 0.8
        assert {*told["kept_in_float"]} <= {"stages.0.0.se.reduce", "stages.0.0.se.expand"}  # by NNCF's own rule
        assert 0 < told["proof"]["max_difference"] < 0.2
        assert (tmp_path / "out" / told["file"]).exists()
        if resize:
            gain = told["latency"]["speedup"]
            assert gain["over"] == name.removesuffix("_int8")
            assert 0 < gain["low"] <= gain["median"] <= gain["high"]
    import onnx

    model = onnx.load(tmp_path / "out" / "model.int8.onnx")
    assert any(node.op_type == "DequantizeLinear" for node in model.graph.node)
    told = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(told["preprocessing"])["mean"] == [60.0]


def subject_and_images(count: int = 40) -> tuple[Subject, ProofImages]:
    """A network that is always right."""
    module: Any = nn.Flatten()
    given = torch.eye(4).repeat(count // 4, 1).view(count, 4, 1, 1)
    preprocessing = Preprocessing(1, 4, (0.0,) * 4, (1.0,) * 4)
    return Subject(module, SMALL, preprocessing, None, module), ProofImages(
        given, given.flatten(1).argmax(1), "40 images"
    )


@pytest.mark.parametrize(("wrong", "fails"), [(0, False), (2, False), (20, True)])
def test_accuracy_that_falls(wrong: int, fails: bool) -> None:
    subject, images = subject_and_images()

    def run(x: Tensor) -> list[Tensor]:
        bad = len(x) == 40  # the whole set at once
        logits = x.flatten(1).clone()
        return [torch.cat([logits[:wrong].roll(1, 1), logits[wrong:]]) if bad else logits]

    assert images.labels is not None
    arguments = (INT8[0], subject, run, images, images.labels, 0.01, "a test")
    if fails:
        rule = r"^onnx_int8: the proof failed: top-1 falls from 100\.00% to 50\.00% on 40 images \(allowed: 1 points, "
        with pytest.raises(UserError, match=rule):
            prove_int8(*arguments)
        return
    proof = prove_int8(*arguments)
    assert proof.accuracy_after == proof.agreement == 1 - wrong / 40
    assert (proof.accuracy_before, proof.allowed_drop, proof.tolerance) == (1, 0.01, None)


def test_a_frozen_batch() -> None:
    subject, images = subject_and_images()
    assert images.labels is not None
    with pytest.raises(UserError, match=r"^onnx_int8: the proof failed: a batch of 1 gives an output of shape \(2"):
        prove_int8(INT8[0], subject, lambda x: [torch.zeros(2, 4)], images, images.labels, 0.01, "a test")


def test_images_calibrate_or_measure() -> None:
    _, images = subject_and_images()
    one, other = split_images(images, 30)
    assert (len(one.given), len(other.given)) == (20, 20)  # at most half
    assert (one.of, other.of) == ("20 images", "20 images, none of those for calibration")
    one, other = split_images(images, 10)
    assert (len(one.given), len(other.given)) == (10, 30)
    assert split_images(images, 0) == (images, images)


def test_what_int8_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"^int8=true quantises onnx and openvino: name one of them in `to`$"):
        check_int8(["safetensors", "python"], True)
    monkeypatch.setattr(int8, "check_installed", lambda what, packages: None)
    with pytest.raises(UserError, match=r"^int8=true needs labelled images to calibrate on: the ranges of noise"):
        check_int8(["onnx"], False)
    assert check_int8(["onnx"], True) == [INT8[0]]
    monkeypatch.undo()
    monkeypatch.setattr("effnas.evaluate.export.formats.find_spec", lambda name: None)
    rule = r"^int8=true needs nncf, which is not installed: pip install 'effnas\[export\]'$"
    with pytest.raises(UserError, match=rule):
        check_int8(["onnx"], True)


def test_what_cannot_be_quantised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> list[str]:
        raise RuntimeError("no such layer")

    subject, images = subject_and_images()
    with pytest.raises(UserError, match=r"^int8: onnx cannot be quantised: RuntimeError: no such layer$"):
        int8.quantize(replace(INT8[0], write=fail), subject, tmp_path, images, 0.01)
