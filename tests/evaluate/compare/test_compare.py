"""``effnas compare``: the published numbers, what is read, what is compared with what, the figure, every mistake."""

from __future__ import annotations

import csv
import json
import math
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from matplotlib.figure import Figure

from effnas.cli import main
from effnas.evaluate.compare.equal_accuracy import equal_accuracy, nearest, speed_ups
from effnas.evaluate.compare.figure import front
from effnas.evaluate.compare.job import run_compare
from effnas.evaluate.compare.points import Point, merge_runs
from effnas.evaluate.compare.reading import read_points, read_run
from effnas.evaluate.compare.references import printed_points, published_points
from effnas.evaluate.compare.report import summary_text
from effnas.evaluate.data import ImageData
from effnas.evaluate.drawing.labels import place_labels
from effnas.evaluate.machine import paired_latency as timing
from effnas.evaluate.machine.paired_latency import paired_latency
from effnas.evaluate.machine.profile import Profile
from effnas.evaluate.measure.job import run_evaluate
from effnas.evaluate.train.job import run_train
from effnas.evaluate.train.recipe import Training
from effnas.space.architecture import Architecture
from effnas.space.cost import cost
from effnas.space.errors import UserError
from effnas.space.stage import Stage
from effnas.space.zoo import load_architecture

SMALL = Architecture(
    (Stage("mbconv", 8, stride=2, expand_ratio=2),), stem=8, head=16, resolution=8, in_channels=1, name="small"
).with_(num_classes=10)
LARGE = SMALL.with_(stem=16, name="large")


def table(folder: Path, text: str, name: str = "mine.csv") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def summary(folder: Path, name: str, **facts: Any) -> str:
    """A folder with such a ``summary.json`` as effnas evaluate writes."""
    found = {"architecture": name, "digest": name, "resolution": 32, "params": 1000, "macs": 2000, "classes": 10}
    found |= {"images": 400, "top1": 0.8, "part": "test", "data": "digits", "latency": None, **facts}
    out = folder / name
    out.mkdir(parents=True)
    (out / "summary.json").write_text(json.dumps(found), encoding="utf-8")
    return str(out)


def compare(folder: Path, *members: str, **options: Any) -> dict[str, Any]:
    return run_compare(members, output=folder / "out", quiet=True, **options)


# -- the published numbers -------------------------------------------------------------------------------


def test_ratios_of_the_published_numbers_are_those_that_the_paper_prints() -> None:
    # Tan & Le 2019, Table 2: #Params and #FLOPs over those of the EfficientNet of the group, as printed
    theirs = {
        "ResNet-50": ("B0", 4.9, 11),
        "DenseNet-169": ("B0", 2.6, 8.9),
        "ResNet-152": ("B1", 7.6, 16),
        "DenseNet-264": ("B1", 4.3, 8.6),
        "Inception-v3": ("B1", 3.0, 8.1),
        "Xception": ("B1", 3.0, 12),
        "Inception-v4": ("B2", 5.2, 13),
        "Inception-ResNet-v2": ("B2", 6.1, 13),
        "ResNeXt-101": ("B3", 7.0, 18),
        "PolyNet": ("B3", 7.7, 19),
        "SENet": ("B4", 7.7, 10),
        "NASNet-A": ("B4", 4.7, 5.7),
        "AmoebaNet-A": ("B4", 4.6, 5.5),
        "PNASNet": ("B4", 4.5, 5.5),  # the paper has 6.0x for 23B over 4.2B
        "AmoebaNet-C": ("B5", 5.2, 4.1),
        "GPipe AmoebaNet-B": ("B7", 8.4, None),
    }
    ours = {point.name.removeprefix("EfficientNet-"): point for point in printed_points("efficientnet")}
    found = {point.name: point for point in printed_points("imagenet")}
    assert found.keys() == theirs.keys()
    for name, (group, params, macs) in theirs.items():
        point, base = found[name], ours[group]
        assert point.params is not None
        assert base.params is not None
        assert base.macs is not None
        assert point.params / base.params == pytest.approx(params, abs=0.1), name
        assert (point.macs and point.macs / base.macs) == (macs and pytest.approx(macs, rel=0.05)), name
        assert point.accuracy <= base.accuracy
        assert "Table 2" in point.source


def test_table_4() -> None:
    b1, resnet, b7, gpipe = (point.latency for point in printed_points("table4"))
    assert round(resnet / b1, 1) == 5.7  # type: ignore[operator]
    assert round(gpipe / b7, 1) == 6.1  # type: ignore[operator]


def test_networks_of_the_zoo_are_counted() -> None:
    exact = {  # worked out independently: DESIGN, section 3; ResNets: torchvision's table
        "EfficientNet-B0": (5_288_548, 385_814_752),
        "EfficientNet-B4": (19_341_616, 4_393_771_024),
        "EfficientNet-B7": (66_347_960, 37_745_884_192),
        "ResNet-50": (25_557_032, 4_089_184_256),
    }
    found = {point.name: point for name in ("efficientnet", "imagenet") for point in published_points(name)}
    for name, numbers in exact.items():
        assert (found[name].params, found[name].macs) == numbers
    for counted, rounded in zip(published_points("efficientnet"), printed_points("efficientnet"), strict=True):
        assert counted.params == pytest.approx(rounded.params, rel=0.02)
        assert counted.macs == pytest.approx(rounded.macs, rel=0.05)  # B4: 4.39 G here, 4.2 there
        assert counted.accuracy == rounded.accuracy


# -- what is read ----------------------------------------------------------------------------------------


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    LARGE.save(tmp_path / "large.yaml")
    file = table(
        tmp_path,
        "\ufeffname, accuracy,params,macs,latency,family,architecture,my notes\n"
        "a,0.5,1.5M,2G,0.25,one,,x\n"
        "\n"
        f"b,60.5%,,,,,{tmp_path / 'large.yaml'},y\n",
    )
    a, b = read_points(file, "mine")
    assert a == Point("a", "one", 0.5, 1_500_000, 2_000_000_000, 0.25)
    costs = cost(LARGE)
    assert (b.family, b.accuracy, b.params, b.macs, b.resolution) == ("mine", 0.605, costs.params, costs.macs, 8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"column 'name' is missing; there are: none\. Needed: name, accuracy; understood: family, arch"),
        ("name,top1\na,1\n", r"column 'accuracy' is missing; there are: name, top1\. "),
        ("name,accuracy\n", r"mine\.csv: no rows below the header"),
        ("name,accuracy\na,0.5\nb,77.1\n", r"mine\.csv, row 3, column accuracy: must be a fraction .* got '77\.1'"),
        ("name,accuracy\na,nan\n", r"row 2, column accuracy: must be a fraction between 0 and 1, or a percentage"),
        ("name,accuracy,macs\na,0.5,3B\n", r"row 2, column macs must be a number above 0, .* got '3B'"),
        ("name,accuracy,params\na,0.5,-3\n", r"row 2, column params must be a number above 0"),
        (
            "name,accuracy,latency\na,0.5,3ms\n",
            r"row 2, column latency: must be a number of seconds above 0, got '3ms'",
        ),
        ("name,accuracy\n,0.5\n", r"row 2, column name: empty"),
        ("name,accuracy\na,0.5,3\n", r"row 2: 3 fields; the header has 2"),
        ("name,accuracy\na,0.5\na,0.6\n", r"row 3, column name: 'a' appears twice"),
        ('name,accuracy\n"a"b,0.5\n', r"mine\.csv: not a CSV file: "),
        (
            "name,accuracy,architecture\na,0.5,efficientnet_b9\n",
            r"row 2, column architecture: architecture: 'efficientnet_b9' is not a network of the zoo",
        ),
    ],
)
def test_tables_that_are_wrong(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_points(table(tmp_path, text), "mine")


def test_what_effnas_train_and_evaluate_wrote(tmp_path: Path) -> None:
    quick = Training(epochs=1, batch_size=128, optimizer="sgd", lr=0.4, warmup_epochs=0)
    options: dict[str, Any] = {"device": "cpu", "threads": 1, "quiet": True}
    run_train(SMALL, ImageData(), quick, output=tmp_path / "train", tensorboard=False, **options)
    weights = tmp_path / "train" / "weights.safetensors"
    run_evaluate(None, weights, ImageData(), output=tmp_path / "evaluate", **options)
    trained, evaluated = (read_run(tmp_path / name, "mine") for name in ("train", "evaluate"))
    assert trained.accuracy == evaluated.accuracy  # both of the test part
    costs = cost(SMALL)
    for point in (trained, evaluated):
        assert (point.name, point.params, point.macs, point.resolution) == ("small", costs.params, costs.macs, 8)
        assert point.imagenet is False
    p = evaluated.accuracy
    assert evaluated.standard_error == pytest.approx(math.sqrt(p * (1 - p) / 364))
    assert evaluated.latency is not None
    assert trained.latency is None
    assert "364 images of 10 classes (test part of digits)" in evaluated.of
    found = compare(tmp_path, str(tmp_path / "evaluate"), x="latency", latency=True, latency_rounds=2)
    (point,) = found["families"]["yours"]
    assert point["latency"] != evaluated.latency
    assert "here" in point["latency_of"]


def test_seeds_of_one_network_are_one_point(tmp_path: Path) -> None:
    for seed, accuracy in enumerate((0.7, 0.8, 0.9)):
        summary(tmp_path / "runs", f"seed{seed}", architecture="a", digest="d", top1=accuracy)
    found = compare(tmp_path, f"{tmp_path}/runs/*")
    (point,) = found["families"]["yours"]
    assert point["accuracy"] == pytest.approx(0.8)
    assert point["standard_error"] == pytest.approx(0.1 / math.sqrt(3))
    assert point["runs"] == 3


def test_networks_of_one_name_are_told_apart_by_their_folders() -> None:
    points = [Point("baseline", "f", 0.5, digest=d, summary=f"runs/{d}/summary.json") for d in "ab"]
    assert [point.name for point in merge_runs(points)] == ["baseline (a)", "baseline (b)"]


# -- what is compared with what --------------------------------------------------------------------------


def test_nearest_of_at_most_its_accuracy_and_of_equals_the_cheapest() -> None:
    others = [
        Point("low", "", 0.6, 1, 1),
        Point("dear", "", 0.7, 30, 300),
        Point("cheap", "", 0.7, 20, 200),
        Point("uncounted", "", 0.7, 10, None),
        Point("high", "", 0.71, 1, 1),
    ]
    for accuracy, name in ((0.7, "cheap"), (0.709, "cheap"), (0.71, "high"), (0.6, "low")):
        found = nearest(Point("mine", "f", accuracy), others)
        assert found is not None
        assert found.name == name
    assert nearest(Point("mine", "f", 0.59), others) is None


def test_the_published_family_against_the_published_networks(tmp_path: Path) -> None:
    found = compare(tmp_path, "efficientnet", references=["imagenet"])
    pairs = {pair["member"]: pair for pair in found["pairs"]}
    assert pairs["EfficientNet-B7"]["reference"] == "GPipe AmoebaNet-B"
    assert pairs["EfficientNet-B7"]["params_ratio"] == pytest.approx(557 / 66.347960)
    assert pairs["EfficientNet-B7"]["macs_ratio"] is None
    assert pairs["EfficientNet-B5"]["reference"] == "AmoebaNet-C"
    assert pairs["EfficientNet-B5"]["macs_ratio"] == pytest.approx(41 / 10.266384752)
    text = summary_text(found)
    assert "EfficientNet-B7  84.30%    GPipe AmoebaNet-B  84.30%    8.4×      –" in text
    assert found["notes"] == []
    with (tmp_path / "out" / "compare.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8 + 16
    assert json.loads((tmp_path / "out" / "compare.json").read_text(encoding="utf-8")) == found
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "compare.png",
        "compare.svg",
        "compare.csv",
        "compare.json",
    }


def test_families_of_ones_own_meet_each_other(tmp_path: Path) -> None:
    one = table(tmp_path, "name,accuracy,params,macs\na,0.8,10,100\n", "one.csv")
    two = table(tmp_path, "name,accuracy,params,macs\nb,0.7,40,50\nc,0.9,80,90\n", "two.csv")
    found = compare(tmp_path, families={"compound": [one], "width": two})
    pairs = [(p["member"], p["other"], p["reference"], p["params_ratio"], p["macs_ratio"]) for p in found["pairs"]]
    assert pairs == [
        ("a", "width", "b", 4.0, 0.5),
        ("b", "compound", None, None, None),
        ("c", "compound", "a", 0.125, pytest.approx(100 / 90)),
    ]
    assert "none of compound is this low" in summary_text(found)


def test_accuracies_of_other_images_are_not_set_against_imagenets(tmp_path: Path) -> None:
    digits = summary(tmp_path, "digits_net", top1=0.95)
    part = summary(tmp_path, "part_net", top1=0.87, classes=1000, images=1000, data="sample")
    whole = summary(tmp_path, "whole_net", top1=0.76, classes=1000, images=50_000, data="imagenet")
    found = compare(tmp_path, digits, part, whole, references="imagenet")
    assert [(pair["member"], pair["reference"]) for pair in found["pairs"]] == [("whole_net", "ResNet-50")]
    (note,) = found["notes"]
    assert note == (
        "NOT COMPARABLE with published accuracies of ImageNet's 50,000 validation images, and no ratios are given: "
        "digits_net: 400 images of 10 classes (test part of digits); part_net: 1,000 images of 1,000 classes "
        "(test part of sample)"
    )
    assert f"note: {note}" in summary_text(found)
    (note,) = compare(tmp_path, digits, part)["notes"]
    assert note.startswith("the accuracies were not measured on the same images: digits_net: 400 images")
    # a file of one's own may well be of the same images
    mine = table(tmp_path, "name,accuracy,params,macs\nother,0.9,5000,1000\n")
    found = compare(tmp_path, digits, references=mine)
    assert [(pair["reference"], pair["params_ratio"]) for pair in found["pairs"]] == [("other", 5.0)]


# -- latency ---------------------------------------------------------------------------------------------


def test_rounds_go_forth_and_back(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[tuple[str, int]] = []

    def profile(network: Architecture, **options: Any) -> Profile:
        order.append((network.name, options["repeats"]))
        seconds = {"small": 0.1, "large": 0.5}[network.name]
        return Profile(seconds + 0.01 * len(order), 0, 0, 0, None, 1, 8, 1, "cpu", options["repeats"])

    monkeypatch.setattr(timing, "profile", profile)
    found = paired_latency([SMALL, LARGE], rounds=2)
    assert [name for name, _ in order] == ["small", "large", "large", "small", "small", "large"]
    assert [repeats for _, repeats in order] == [3, 3, 3, 9, 9, 3]  # about a second, at least 3 passes
    assert found == [[pytest.approx(0.14), pytest.approx(0.15)], [pytest.approx(0.53), pytest.approx(0.56)]]


def test_speed_ups_are_of_the_same_round() -> None:
    ours, theirs = Point("ours", "f", 0.8), Point("theirs", "", 0.7)
    (found,) = speed_ups({"f": [ours]}, [theirs], {ours: [1.0, 2.0, 1.0], theirs: [3.0, 4.0, 5.0]})
    assert (found.ratio, found.low, found.high) == (3.0, 2.0, 5.0)
    assert speed_ups({"f": [ours]}, [theirs], {ours: [1.0]}) == []
    (pair,) = equal_accuracy({"f": [ours]}, [theirs])
    assert (pair.params_ratio, pair.macs_ratio) == (None, None)


def test_latency_measured_here(tmp_path: Path) -> None:
    for network in (SMALL, LARGE):
        network.save(tmp_path / f"{network.name}.yaml")
    file = table(
        tmp_path,
        f"name,accuracy,family,architecture,params,macs\ns,0.8,one,{tmp_path}/small.yaml,,\n"
        f"l,0.7,two,{tmp_path}/large.yaml,,\nu,0.6,one,,10,10\n",
    )
    found = compare(tmp_path, file, latency=True, latency_rounds=3)
    (pair,) = found["speed_ups"]
    assert (pair["member"], pair["reference"]) == ("s", "l")
    assert 0 < pair["low"] <= pair["ratio"] <= pair["high"]
    rounds = {entry["name"]: entry["seconds"] for entry in found["latency_rounds"]}
    assert [len(rounds[name]) for name in ("s", "l")] == [3, 3]
    assert pair["latency"] == sorted(rounds["s"])[1]
    assert any(note.startswith("latency of u was not measured: its network is unknown") for note in found["notes"])
    text = summary_text(found)
    assert "median of 3 rounds" in text
    assert "Xeon" not in text  # the paper's latencies stand beside published networks only


# -- the figure ------------------------------------------------------------------------------------------


def test_the_front() -> None:
    points = [(3.0, 70.0), (1.0, 60.0), (2.0, 55.0), (3.0, 75.0), (4.0, 75.0)]
    assert front(points) == [(1.0, 60.0), (3.0, 75.0)]


def test_names_do_not_cover_each_other_or_leave_the_frame() -> None:
    figure = Figure(figsize=(6.6, 4.9), layout="constrained")
    axes = figure.subplots()
    shown = [p for name in ("efficientnet", "imagenet") for p in published_points(name) if p.macs is not None]
    places = [(p.macs / 1e9, 100 * p.accuracy) for p in shown if p.macs]
    axes.plot(*zip(*places, strict=True), "o")
    axes.set_xscale("log")
    axes.margins(0.08)
    figure.draw_without_rendering()
    place_labels(axes, places, [p.name for p in shown], ["black"] * len(shown), [places[:8]])
    boxes = [text.get_window_extent() for text in axes.texts]
    frame = axes.get_window_extent()
    assert [text.get_text() for text in axes.texts] == [p.name for p in shown]
    assert not [(i, j) for i in range(len(boxes)) for j in range(i) if boxes[i].overlaps(boxes[j])]
    assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 for box in boxes)


@pytest.mark.pictures
def test_axes_of_the_figure(tmp_path: Path) -> None:
    file = table(tmp_path, "name,accuracy,params,macs,latency\na,0.8,2e6,3e6,0.02\nb,0.9,4e6,5e6,0.03\n")
    compare(tmp_path, file, x=["macs", "params", "latency"], scale="linear", names=False)
    text = (tmp_path / "out" / "compare.svg").read_text(encoding="utf-8")
    for label in ("million MACs", "million parameters", "latency, milliseconds per batch"):
        assert f"<!-- {label} -->" in text
    compare(tmp_path, "efficientnet", x="macs", references="imagenet")
    text = (tmp_path / "out" / "compare.svg").read_text(encoding="utf-8")
    assert "<!-- billion MACs (log scale) -->" in text
    assert "<!-- GPipe AmoebaNet-B -->" not in text  # it has no MACs


# -- mistakes --------------------------------------------------------------------------------------------


def test_mistakes(tmp_path: Path) -> None:
    plain = table(tmp_path, "name,accuracy\na,0.8\n")
    with pytest.raises(UserError, match=r"^x: unknown 'mac'\. Did you mean 'macs'\? Choose one of: macs, params, lat"):
        compare(tmp_path, plain, x=["mac"])
    with pytest.raises(UserError, match=r"^x: no axis given"):
        compare(tmp_path, plain, x=[])
    with pytest.raises(UserError, match=r"^scale: unknown 'cubic'"):
        compare(tmp_path, plain, scale="cubic")
    with pytest.raises(UserError, match=r"^members: none given; use members=\[FOLDER"):
        compare(tmp_path)
    with pytest.raises(UserError, match=r"^members: no such folder or file: /nowhere/\*\. Give folders"):
        compare(tmp_path, "/nowhere/*")
    with pytest.raises(UserError, match=r"^references: 'imagnet' is neither a CSV file nor one of: imagenet, effic"):
        compare(tmp_path, plain, references="imagnet")
    with pytest.raises(
        UserError, match=r"^x=latency: no latency for a: measure it here with latency=true, take folders"
    ):
        compare(tmp_path, plain, x="latency")
    with pytest.raises(UserError, match=r"^x=macs: no macs of a: give the CSV file a column macs or architecture$"):
        compare(tmp_path, plain)
    with pytest.raises(UserError, match=r"^latency=true: none of the networks can be built: latency of a was not meas"):
        compare(tmp_path, plain, latency=True)
    with pytest.raises(UserError, match=r"^families must map names to networks, .* got \['a'\]"):
        compare(tmp_path, families=["a"])
    with pytest.raises(UserError, match="latency_rounds must be between 2 and 1000, got 1"):
        paired_latency([SMALL], rounds=1)


def test_summaries_that_are_not_of_a_network(tmp_path: Path) -> None:
    rule = r"search/summary\.json: a summary without accuracy; give folders of effnas train or effnas"
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "summary.json").write_text('{"best": {"accuracy": 0.9}, "trials": 3}')
    with pytest.raises(UserError, match=rule + r" evaluate \(this one has: best, trials\)"):
        compare(tmp_path, str(tmp_path / "search"))
    (tmp_path / "search" / "summary.json").write_text('{"accuracy": 0.9}')
    with pytest.raises(UserError, match="a summary without params and macs; give folders"):
        compare(tmp_path, str(tmp_path / "search"))
    (tmp_path / "search" / "summary.json").write_text("{")
    with pytest.raises(UserError, match=r"summary\.json: not a JSON document: Expecting property name"):
        compare(tmp_path, str(tmp_path / "search"))
    (tmp_path / "search" / "summary.json").unlink()
    with pytest.raises(UserError, match=r"^summary: no such file: .*/search/summary\.json"):
        compare(tmp_path, str(tmp_path / "search"))


# -- the command -----------------------------------------------------------------------------------------


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = f"hydra.run.dir={tmp_path / 'out'}"
    words = ["compare", "--members", "efficientnet", "--references", "imagenet", "--x", "macs", folder]
    assert main(words) == 0
    captured = capsys.readouterr()
    assert "at equal or better accuracy" in captured.out
    assert captured.err == ""
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["command"].startswith("effnas compare --members efficientnet --references imagenet")
    one, two = (table(tmp_path, f"name,accuracy,params,macs\n{n},0.{n},10,10\n", f"{n}.csv") for n in "56")
    assert main(["compare", f"families={{first: [{one}], second: [{two}]}}", folder, "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["families"]) == ["first", "second"]
    assert main(["compare", "--members", "efficientnet", "--x", "latency", folder]) == 2
    assert "error: x=latency: no latency for EfficientNet-B0, EfficientNet-B1" in capsys.readouterr().err


def test_a_pattern_leaves_out_what_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = tmp_path / "train-sweep"
    for seed in (0, 1):
        (sweep / f"seed={seed}").mkdir(parents=True)
        found = {"architecture": "efficientnet_b0", "top1": 0.8 + seed / 10, "params": 5, "macs": 9, "images": 100}
        (sweep / f"seed={seed}" / "summary.json").write_text(json.dumps(found))
    (sweep / "multirun.yaml").write_text("hydra: {}\n")
    (sweep / "unfinished").mkdir()
    run_compare(f"{sweep}/*", output=tmp_path / "out")
    assert capsys.readouterr().err == f"{sweep}/*: left out, as no runs: multirun.yaml, unfinished\n"
    with pytest.raises(UserError, match=r"no runs of effnas train or evaluate among the 1 that fit"):
        run_compare(f"{sweep}/multi*", output=tmp_path / "out")
    with pytest.raises(UserError, match="members: no such folder or file: xxx"):
        run_compare("x" * 300, output=tmp_path / "out")


def test_a_published_family_is_buildable() -> None:
    for point in published_points("efficientnet"):
        network = load_architecture(point.architecture)
        assert network.resolution == point.resolution


def test_the_commands_and_the_configuration_of_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "compare.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```$", page, re.M | re.S)
    assert len(blocks) == 3
    for block in blocks:
        assert main([*shlex.split(block.replace("\\\n", " "))[1:], "--cfg", "job"]) == 0, capsys.readouterr().err
    capsys.readouterr()
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", page, re.M | re.S)
    (tmp_path / "transfers.yaml").write_text(text, encoding="utf-8")
    assert main(["transfer", "--config-dir", str(tmp_path), "--config-name", "transfers", "--cfg", "job"]) == 0
    data = yaml.safe_load(capsys.readouterr().out)["data"]
    assert (data["cars"]["source"], data["cars"]["path"], data["cars"]["center_crop"]) == (
        "folder",
        "photos/cars",
        0.875,
    )
    assert data["digits"] == {"limit": 500}
