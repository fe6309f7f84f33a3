"""``effnas export``: every format against the network in PyTorch, its files, its proofs, and every mistake."""

from __future__ import annotations

import copy
import functools
import importlib.util
import json
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

import effnas
from effnas.cli import main
from effnas.evaluate.data import ImageData
from effnas.evaluate.data.load import load_part
from effnas.evaluate.export import formats
from effnas.evaluate.export.formats import FORMATS
from effnas.evaluate.export.inside import Resized
from effnas.evaluate.export.job import run_export
from effnas.evaluate.export.preprocessing import Preprocessing
from effnas.evaluate.export.report import summary_text
from effnas.space.architecture import Architecture
from effnas.space.built import BuiltNetwork
from effnas.space.errors import UserError
from effnas.space.network import Network, build
from effnas.space.stage import Stage
from effnas.space.weights.weights import save_weights

SMALL = Architecture(
    (
        Stage("mbconv", 8, stride=2, expand_ratio=2, se_ratio=0.25),
        Stage("ds", 8, repeats=2, skip="pool"),
        Stage("fused_mbconv", 8, expand_ratio=2, se_ratio=0.25),
        Stage("conv", 12, stride=2, se_ratio=0.5),
    ),
    stem=8,
    head=16,
    padding="same",
    resolution=16,
    in_channels=1,
    num_classes=10,
    name="small one",
)
THEIRS = ((60.0,), (90.0,))
DIGITS = tuple("0123456789")
#: What torch alone writes and reads.
TORCH = ("python", "timm", "torchscript", "torch_export")


def network(architecture: Architecture = SMALL) -> Network:
    """Random, but for statistics of BatchNorm as after a training, and sure of itself."""
    torch.manual_seed(0)
    model = build(architecture)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_()  # type: ignore[union-attr]
            layer.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    model.classifier.weight.data.normal_()  # type: ignore[union-attr, operator]
    return model.eval()


def weights(folder: Path, architecture: Architecture = SMALL, **facts: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    facts = {"normalization": THEIRS, "classes": DIGITS, **facts}
    return save_weights(folder / "weights.safetensors", network(architecture), architecture=architecture, **facts)


def export(file: Path, output: Path, **options: Any) -> dict[str, Any]:
    options = {"to": "python", "latency": False, "quiet": True, **options}
    return run_export(str(file), options.pop("data", None), output=output, **options)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """One export in all formats that torch alone writes, proved on the digits."""
    folder = tmp_path_factory.mktemp("exported")
    options = {"to": TORCH, "data": ImageData(), "latency": True, "license": "apache-2.0"}
    return folder / "out", export(weights(folder), folder / "out", command="effnas export x", **options)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(5, 1, 16, 16, generator=torch.Generator().manual_seed(3))


def wanted(images: Tensor) -> Tensor:
    with torch.inference_mode():
        return network()(images)


def close(found: Tensor, images: Tensor) -> None:
    torch.testing.assert_close(found, wanted(images), rtol=1e-4, atol=1e-4)


# -- the formats -----------------------------------------------------------------------------------------


def test_python_needs_nothing_of_ours(exported: tuple[Path, dict[str, Any]], images: Tensor, tmp_path: Path) -> None:
    folder, _ = exported
    torch.save(images, tmp_path / "images.pt")
    code = (
        "import sys, torch\nfrom network import build, PREPROCESSING, CLASSES\n"
        f"torch.save(build()(torch.load({str(tmp_path / 'images.pt')!r})).detach(), {str(tmp_path / 'found.pt')!r})\n"
        "assert not [name for name in sys.modules if name.startswith('effnas')]\n"
        "assert (PREPROCESSING['mean'], len(CLASSES)) == ([60.0], 10)\n"
        "assert not build().training and build(None).num_features == 16\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    close(torch.load(tmp_path / "found.pt"), images)
    assert "import effnas" not in (folder / "network.py").read_text(encoding="utf-8")


def test_timm_has_the_files_that_it_reads(exported: tuple[Path, dict[str, Any]]) -> None:
    folder = exported[0] / "timm"
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors", "timm_model.py"]
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert (config["architecture"], config["num_classes"]) == ("effnas_small_one", 10)
    told = config["pretrained_cfg"]
    assert told["input_size"] == [1, 16, 16]
    assert told["mean"] == [pytest.approx(60 / 255)]
    assert told["std"] == [pytest.approx(90 / 255)]
    assert {**load_file(folder / "model.safetensors")}.keys() == network().state_dict().keys()
    text = (folder / "timm_model.py").read_text(encoding="utf-8")
    assert "@register_model\ndef effnas_small_one(pretrained: bool = False" in text


def test_timm_itself_loads_the_folder(exported: tuple[Path, dict[str, Any]], images: Tensor) -> None:
    timm = pytest.importorskip("timm", exc_type=ImportError)
    folder = exported[0] / "timm"
    spec = importlib.util.spec_from_file_location("timm_model", folder / "timm_model.py")
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    close(model(images), images)
    assert timm.create_model(f"local-dir:{folder}", num_classes=3)(images).shape == (5, 3)


def test_torchscript_and_torch_export_run_alone(exported: tuple[Path, dict[str, Any]], images: Tensor) -> None:
    folder, _ = exported
    subject: Any = None
    for name in ("torchscript", "torch_export"):
        run: Any = FORMATS[name].open(subject, folder / FORMATS[name].file, 1)
        for size in (1, 4, 5):
            close(run(images[:size])[0], images[:size])


@pytest.mark.parametrize("size", [1, 5])
def test_onnx_is_one_file(size: int, images: Tensor, onnx_export: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(onnx_export / "model.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(["logits"], {"images": images[:size].numpy()})
    close(torch.from_numpy(found), images[:size])
    assert not list(onnx_export.glob("*.data"))
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["classes"]) == list(DIGITS)
    assert json.loads(told["preprocessing"])["mean"] == [60.0]


@pytest.fixture(scope="module")
def onnx_export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("onnx")
    export(weights(folder), folder / "out", to="onnx")
    return folder / "out"


def test_onnx_has_its_opset_and_no_paths_of_this_machine(onnx_export: Path) -> None:
    import onnx

    model = onnx.load(onnx_export / "model.onnx")
    assert {one.version for one in model.opset_import if one.domain == ""} == {18}
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    assert b"site-packages" not in (onnx_export / "model.onnx").read_bytes()


def test_openvino(tmp_path: Path, images: Tensor) -> None:
    openvino = pytest.importorskip("openvino")
    export(weights(tmp_path), tmp_path / "out", to="openvino")
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(tmp_path / "out" / "openvino" / "model.xml", "CPU", exact)
    for size in (1, 5):
        close(torch.from_numpy(compiled(images[:size].numpy())[0]), images[:size])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["executorch", "litert"])
def test_formats_for_phones(name: str, tmp_path: Path, images: Tensor) -> None:
    for package in FORMATS[name].needs:
        pytest.importorskip(package, exc_type=ImportError)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of packages that are young
        found = export(weights(tmp_path), tmp_path / "out", to=name, data=ImageData(), images=20)
        told = found["formats"][name]
        assert told["proof"]["agreement"] == 1
        assert told["proof"]["batches"] == ([1, 3] if name == "executorch" else [1])
        card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
        assert ("executorch: 8 images" if name == "executorch" else "litert: 1 image") + " at once, at most." in card
        assert told["proof"]["by"].startswith("executorch " if name == "executorch" else "ai_edge_litert ")
        subject: Any = None
        run: Any = FORMATS[name].open(subject, tmp_path / "out" / told["file"], 1)
        for size in (1, 5, 2)[: FORMATS[name].most]:
            close(run(images[:size])[0], images[:size])


def test_formats_that_have_one_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "check_installed", lambda *_: None)
    rule = r"^resize_inside=true: litert plans its memory for one size of images, and cannot take any: choose among s"
    with pytest.raises(UserError, match=rule):
        export(weights(tmp_path), tmp_path / "out", to="litert", resize_inside=True)
    monkeypatch.undo()
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    rule = r"^to=litert needs litert_torch, ai_edge_litert, which are not installed: pip install 'effnas\[litert\]'$"
    with pytest.raises(UserError, match=rule):
        export(weights(tmp_path), tmp_path / "out", to="litert")


def test_normalisation_inside_the_graph(tmp_path: Path, images: Tensor) -> None:
    summary = export(weights(tmp_path), tmp_path / "out", to=["torch_export", "python"], preprocess_inside=True)
    subject: Any = None
    run: Any = FORMATS["torch_export"].open(subject, tmp_path / "out" / "model.pt2", 1)
    close(run(images * 90 + 60)[0], images)
    close(effnas.load_pretrained(tmp_path / "out")(images), images)  # the weights are the network's alone
    assert summary["preprocess_inside"] is True
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "**The last step is inside the graphs** (torch_export)" in card


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> ImageData:
    """Smooth grey pictures of several sizes, one of which lies on its side."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i, size in enumerate([(40, 30), (21, 50), (16, 16), (90, 61), (33, 33), (25, 12)]):
        for part in ("train", "test"):
            coarse = Image.fromarray(rng.integers(0, 256, (6, 6), dtype=np.uint8))
            picture = coarse.resize(size, Image.Resampling.BICUBIC)
            path = folder / part / f"class{i % 2}" / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            exif = picture.getexif()
            exif[0x0112] = 6 if i == 1 else 1
            picture.save(path, exif=exif)
    return ImageData("folder", path=str(folder), interpolation="bicubic", center_crop=0.75)


def test_everything_inside_the_graph(tmp_path: Path, photos: ImageData) -> None:
    two = SMALL.with_(num_classes=2)
    file = weights(tmp_path, two, classes=("class0", "class1"))
    options: dict[str, Any] = {"to": ["torch_export", "torchscript", "python"], "resize_inside": True}
    summary = export(file, tmp_path / "out", data=photos, **options)
    told = summary["resizing"]
    assert told["mean_difference"] < 0.2
    assert told["largest_difference"] <= 3
    assert told["agreement"] == 1
    assert summary["preprocess_inside"] == "resize"
    ready: Any = effnas.load_pretrained(tmp_path / "out")
    picture = Image.open(Path(str(photos.path)) / "test" / "class1" / "3.png")
    logits = ready(ready.preprocessing(picture)).detach()
    subject: Any = None
    for name in ("torchscript", "torch_export"):
        run: Any = FORMATS[name].open(subject, tmp_path / "out" / FORMATS[name].file, 1)
        found = run(torch.from_numpy(np.array(picture))[None, None])[0]
        torch.testing.assert_close(found, logits, rtol=0.02, atol=0.02 * float(logits.abs().max()))
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "**All of that is inside the graphs** (torch_export, torchscript)" in card
    assert "of the images get the same class both ways" in card


def test_everything_inside_without_images(tmp_path: Path) -> None:
    summary = export(weights(tmp_path), tmp_path / "out", to="torch_export", resize_inside=True)
    assert summary["resizing"] is None
    assert summary["formats"]["torch_export"]["proof"]["images"].startswith("3 images of noise")


@pytest.mark.parametrize("how", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(40, 30), (30, 41), (9, 64), (12, 12), (16, 16), (7, 5)])
def test_resize_is_pillows(how: str, size: tuple[int, int]) -> None:
    """But for what rounding makes: Pillow computes with fixed points, and may resize columns first."""
    preprocessing = Preprocessing(12, 3, (0.0,) * 3, (1.0,) * 3, 0.75, how)
    coarse = Image.fromarray(np.random.default_rng(1).integers(0, 256, (5, 5, 3), dtype=np.uint8))
    picture = coarse.resize(size, Image.Resampling.BILINEAR)
    wanted = preprocessing(picture)
    module = Resized(nn.Identity(), preprocessing)
    difference = (module(torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None]) - wanted).abs()
    assert difference.max() <= 2
    assert difference.mean() < 0.3


def test_a_resize_that_differs_too_much(tmp_path: Path, photos: ImageData) -> None:
    file = weights(tmp_path, SMALL.with_(num_classes=2), classes=("class0", "class1"))
    rule = r"^resize_inside=true: the proof failed: pixels differ by .* of 255 in the mean from those that the data m"
    with pytest.raises(UserError, match=rule):
        export(file, tmp_path / "out", data=replace(photos, image_size=6), to="torch_export", resize_inside=True)
    assert not (tmp_path / "out" / "model.pt2").exists()


# -- the folder ------------------------------------------------------------------------------------------


def test_proofs_are_told(exported: tuple[Path, dict[str, Any]]) -> None:
    folder, summary = exported
    assert json.loads((folder / "export.json").read_text(encoding="utf-8")) == json.loads(json.dumps(summary))
    part = load_part(ImageData(), "test", 1, resolution=16, num_classes=10, classes=DIGITS, normalization=THEIRS)
    found = [
        (wanted(part.images.pixels.prepare(x, 16)).argmax(1) == y) for x, y in part.images.batches(64, device="cpu")
    ]
    accuracy = torch.cat(found).double().mean().item()
    assert list(summary["formats"]) == ["safetensors", *TORCH]
    for entry in summary["formats"].values():
        proof = entry["proof"]
        assert proof["batches"] == [1, 3]
        assert proof["max_difference"] <= proof["tolerance"]
        assert (proof["agreement"], proof["labelled"]) == (1, 364)
        assert proof["accuracy_before"] == proof["accuracy_after"] == pytest.approx(accuracy)
        assert (folder / entry["file"]).exists()
    assert summary["formats"]["torchscript"]["latency"]["seconds"] > 0
    assert summary["torch_latency"]["low"] <= summary["torch_latency"]["high"]
    assert summary["preprocessing"] == {
        "size": 16,
        "channels": 1,
        "mean": [60.0],
        "std": [90.0],
        "center_crop": 1.0,
        "interpolation": "bilinear",
    }


def test_text_and_card(exported: tuple[Path, dict[str, Any]]) -> None:
    folder, summary = exported
    text = summary_text(summary)
    assert "times as fast" not in text
    slow = {"speedup": {"over": "onnx", "median": 0.5, "low": 0.4, "high": 0.6}, "seconds": 1e-3}
    eight = {"onnx_int8": summary["formats"]["timm"] | {"latency": slow}}
    told = summary_text(summary | {"formats": summary["formats"] | eight})
    assert "\nonnx_int8: 0.50 times as fast as onnx (0.40 to 0.60); slower: keep the float format\n" in told
    assert "proved at batch 1 and 3 on 364 images of digits, test part" in text
    assert "\ntorchscript   model.torchscript.pt" in text
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlibrary_name: effnas\npipeline_tag: image-classification\nlicense: apache-2.0\n")
    for part in (
        "`effnas export x`",
        "| torchscript | model.torchscript.pt |",
        "not measured",
        "mbconv e2 se0.25",
        "## Limits",
    ):
        assert part in card


def run_card(folder: Path, photo: Path, skip: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """What the code on a card says of a photograph, by its title."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    found: dict[str, Tensor] = {}
    space: dict[str, Any] = {}
    for title, code in re.findall(r"^([^\n]+):\n\n```python\n(.+?)\n```$", text, re.MULTILINE | re.DOTALL):
        if title.strip("`") in skip:
            continue
        path, modules = list(sys.path), set(sys.modules)
        exec(code.replace("THIS_FOLDER", str(folder)).replace("photo.jpg", str(photo)), space)
        sys.path[:] = path
        for name in {"network", "timm_model"} & (set(sys.modules) - modules):
            del sys.modules[name]
        if "logits" in space:
            found[title] = torch.as_tensor(space.pop("logits")).detach()
    return found


@pytest.mark.parametrize("inside", [None, pytest.param("preprocess_inside", marks=pytest.mark.slow), "resize_inside"])
def test_the_code_of_the_card_runs(inside: str | None, tmp_path: Path, photos: ImageData) -> None:
    file = weights(tmp_path, SMALL.with_(num_classes=2), classes=("class0", "class1"))
    options: dict[str, Any] = {"to": ["python", "torchscript", "torch_export"], "data": photos}
    export(file, tmp_path / "out", **options, **({inside: True} if inside else {}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript's
        found = run_card(tmp_path / "out", Path(str(photos.path)) / "test" / "class1" / "1.png")
    assert list(found) == ["With effnas", "`python`", "`torchscript`", "`torch_export`"]
    first = found["With effnas"]
    for logits in found.values():  # Pillow is not asked twice, but for the resize inside
        torch.testing.assert_close(logits, first, rtol=0.02, atol=0.02 * float(first.abs().max()))


def test_load_pretrained(exported: tuple[Path, dict[str, Any]], images: Tensor, tmp_path: Path) -> None:
    folder, _ = exported
    found: Any = effnas.load_pretrained(folder)
    assert isinstance(found, Network)
    assert not found.training
    close(found(images), images)
    assert (found.architecture, found.classes) == (SMALL, DIGITS)
    noise = Image.effect_noise((20, 16), 90).convert("L")
    noise.save(tmp_path / "x.png")
    ready = found.preprocessing(tmp_path / "x.png")
    assert ready.shape == (1, 1, 16, 16)
    torch.testing.assert_close(ready, found.preprocessing(noise))
    close(copy.deepcopy(found)(images), images)


def test_the_hubs_methods_work_on_folders(
    exported: tuple[Path, dict[str, Any]], images: Tensor, tmp_path: Path
) -> None:
    found: Any = effnas.load_pretrained(exported[0])
    found.classifier.weight.data.mul_(2)
    found.save_pretrained(tmp_path / "again")
    again = type(found).from_pretrained(tmp_path / "again")
    with torch.inference_mode():
        assert torch.equal(found(images), again(images))
    assert (tmp_path / "again" / "README.md").read_text(encoding="utf-8") == found.card
    assert sorted(p.name for p in (tmp_path / "again").iterdir()) == ["README.md", "config.json", "weights.safetensors"]


def test_a_run_says_its_data_and_numbers(tmp_path: Path) -> None:
    weights(tmp_path / "run")
    summary = {
        "accuracy": 0.91,
        "heldout_images": 287,
        "command": "effnas train\n\n--architecture 'a|b`.yaml'",
        "trained_on": {"_target_": "effnas.evaluate.data.image_data.ImageData", "source": "digits", "path": None},
    }
    (tmp_path / "run" / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    found = export(tmp_path / "run", tmp_path / "out", images=50)
    assert found["formats"]["python"]["proof"]["images"] == "50 images of digits, test part"
    assert found["reported"] == {"accuracy": 0.91, "heldout_images": 287}
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "held-out accuracy of its run (287 images" in card
    assert "91.00%" in card
    assert "| trained by | `effnas train --architecture 'a¦b'.yaml'` |\n" in card  # one row of the table
    summary["trained_on"]["source"], summary["trained_on"]["path"] = "folder", str(tmp_path / "gone")  # type: ignore[index]
    (tmp_path / "run" / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    found = export(tmp_path / "run", tmp_path / "out2")
    assert found["formats"]["python"]["proof"]["images"].startswith(
        "3 images of noise: the run's data cannot be read here"
    )
    assert found["formats"]["python"]["proof"]["accuracy_before"] is None


def test_a_searchs_best_weights(tmp_path: Path) -> None:
    file = weights(tmp_path / "search" / "weights")
    file.rename(file.with_name("trial-7.safetensors"))
    best = {"best": {"number": 7}, "confirmed_on": {"seeds": 3, "accuracy": 0.8}}
    (tmp_path / "search" / "summary.json").write_text(json.dumps(best), encoding="utf-8")
    assert export(tmp_path / "search", tmp_path / "out")["weights"].endswith("trial-7.safetensors")


def test_what_names_can_do_to_a_card_and_to_code(tmp_path: Path, images: Tensor) -> None:
    name = '"""\nimport os; {x} \\ <script>alert(\'ä\')</script> | `'
    file = weights(tmp_path, SMALL.with_(name=name), classes=("</table>", "a|b", "`", *"cdefghi"))
    export(file, tmp_path / "out", to=("python", "timm"))
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "<script>" not in card.partition("## The network")[0]
    assert "</table>" not in card
    close(effnas.load_pretrained(tmp_path / "out")(images), images)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["export", str(weights(tmp_path)), "--to", "python,timm", "--no-latency"][:4]
    words += ["--latency=false", "-o", str(tmp_path / "out"), "--json"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["formats"]) == ["safetensors", "python", "timm"]
    assert found["command"].startswith("effnas export ")
    assert main(words) == 2
    assert "is not empty (README.md, config.json, export.json, network.py, timm, …)" in capsys.readouterr().err


# -- proofs that fail ------------------------------------------------------------------------------------


def spoil(name: str, layer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exporter that loses a layer's weights."""
    row = FORMATS[name]

    def write(subject: Any, path: Path) -> None:
        found = dict(subject.module.named_modules())
        weight = (found.get(layer) or found[f"network.{layer}"]).weight.data
        weight[0] += 1
        row.write(subject, path)
        weight[0] -= 1

    monkeypatch.setitem(formats.FORMATS, name, replace(row, write=write))


def test_a_full_disk_is_not_the_networks_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(subject: Any, path: Path) -> None:
        try:
            raise OSError(28, "No space left on device", str(path))
        except OSError as error:
            raise RuntimeError("an exporter's own") from error

    monkeypatch.setitem(formats.FORMATS, "safetensors", replace(FORMATS["safetensors"], write=write))
    with pytest.raises(OSError, match=r"No space left on device: .*weights\.safetensors"):
        export(weights(tmp_path), tmp_path / "out", to="safetensors")
    assert not (tmp_path / "out" / ".staging").exists()


@pytest.mark.parametrize(
    "name", ["torchscript", pytest.param("torch_export", marks=pytest.mark.slow), "safetensors", "timm"]
)
def test_the_first_layer_that_differs_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(name, "stages.1.1.depthwise.conv", monkeypatch)
    rule = (
        rf"^to={name}: the proof failed: at batch 1 the logits differ by .* of the largest one \(allowed: 0.001\); the "
        r"first layer that differs is stages\.1\.1\.depthwise\.conv; nothing was written$"
    )
    with pytest.raises(UserError, match=rule):
        export(weights(tmp_path), tmp_path / "out", to=name)
    assert [path.name for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")] == []
    assert not (tmp_path / "out" / ".staging").exists()


@pytest.mark.slow
def test_the_first_layer_that_differs_of_onnx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    spoil("onnx", "head.conv", monkeypatch)
    with pytest.raises(UserError, match=r"the first layer that differs is head\.conv; nothing was written$"):
        export(weights(tmp_path), tmp_path / "out", to="onnx")


@pytest.mark.slow
def test_torchs_exporter_left_alone_is_why(tmp_path: Path, images: Tensor) -> None:
    """A second file of weights, and a frozen batch."""
    for package in ("onnx", "onnxscript"):
        pytest.importorskip(package)
    ort = pytest.importorskip("onnxruntime")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network(), (images[:2],), tmp_path / "plain.onnx", dynamo=True, verbose=False)
    assert (tmp_path / "plain.onnx.data").is_file()
    session = ort.InferenceSession(tmp_path / "plain.onnx", providers=["CPUExecutionProvider"])
    with pytest.raises(Exception, match=r"Got invalid dimensions for input"):
        session.run(None, {session.get_inputs()[0].name: images[:1].numpy()})


def test_a_frozen_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(subject: Any, path: Path) -> None:
        torch.export.save(torch.export.export(subject.module, (subject.example,)), path)

    monkeypatch.setitem(formats.FORMATS, "torch_export", replace(FORMATS["torch_export"], write=write))
    with pytest.raises(UserError, match=r"^to=torch_export: the proof failed: the export cannot run a batch of 1 \("):
        export(weights(tmp_path), tmp_path / "out", to="torch_export")


# -- networks of builders --------------------------------------------------------------------------------


class Odd(nn.Module):
    """Does what exporters cannot."""

    def __init__(self, kind: str, num_classes: int) -> None:
        super().__init__()
        self.kind, self.conv, self.classifier = kind, nn.Conv2d(1, 4, 3, 2, 1), nn.Linear(4, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        if self.kind == "operator":
            y = y * torch.linalg.svdvals(y).sum(-1)[..., None, None]
        if self.kind == "branch" and y.device.type != "meta" and y.sum().item() > 0:
            y = y * 2
        return self.classifier(y.mean((2, 3)))  # type: ignore[no-any-return]


def odd(
    depth: float, width: float, resolution: int, *, num_classes: int = 10, in_channels: int = 1, kind: str = "plain"
) -> nn.Module:
    return Odd(kind, num_classes)


def built(folder: Path, kind: str = "plain") -> tuple[BuiltNetwork, Path]:
    found = BuiltNetwork(functools.partial(odd, kind=kind), resolution=16, in_channels=1, num_classes=10, name="odd")
    torch.manual_seed(0)
    return found, save_weights(folder / "odd.safetensors", found.module(), architecture=found, normalization=THEIRS)


def test_networks_of_builders(tmp_path: Path, images: Tensor) -> None:
    own, file = built(tmp_path)
    export(file, tmp_path / "out", to=("torchscript", "torch_export"), network=own)
    with torch.inference_mode():
        found = effnas.load_pretrained(tmp_path / "out", own)(images)
    assert found.shape == (5, 10)
    with pytest.raises(UserError, match=r"config\.json: made by the builder .*, and a file never names code to run"):
        effnas.load_pretrained(tmp_path / "out")


def test_networks_of_builders_have_no_code_to_write(tmp_path: Path) -> None:
    own, file = built(tmp_path)
    for name in ("python", "timm"):
        with pytest.raises(UserError, match=rf"^to={name} writes the code of networks that are Architectures; odd is"):
            export(file, tmp_path / "out", to=name, network=own)


def test_the_operator_that_cannot_be_exported_is_named(tmp_path: Path) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    own, file = built(tmp_path, "operator")
    rule = r"^to=onnx: odd cannot be exported, because of the operator aten\._linalg_svd: "
    with pytest.raises(UserError, match=rule):
        export(file, tmp_path / "out", to="onnx", network=own)


def test_a_branch_that_cannot_be_exported_is_named(tmp_path: Path) -> None:
    own, file = built(tmp_path, "branch")
    rule = r"^to=torch_export: odd cannot be exported, because of what is done at .*test_export_job\.py:\d+ in forw"
    with pytest.raises(UserError, match=rule):
        export(file, tmp_path / "out", to="torch_export", network=own)


# -- mistakes --------------------------------------------------------------------------------------------


def test_a_run_that_has_not_finished(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(
        UserError, match=r"^.*/run: there is no weights\.safetensors in this folder; name a folder of e"
    ):
        export(tmp_path / "run", tmp_path / "out")
    (tmp_path / "run" / "checkpoint.pt").write_bytes(b"")
    rule = r"/run: the training there has not finished: it has checkpoint\.pt and no weights\.safetensors; run the same"
    with pytest.raises(UserError, match=rule):
        export(tmp_path / "run", tmp_path / "out")


@pytest.mark.parametrize("text", ["", '{"accuracy": 0.9', "[]", "[" * 100_000])
def test_a_summary_that_is_cut_off(text: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    weights(tmp_path / "run")
    (tmp_path / "run" / "summary.json").write_text(text, encoding="utf-8")
    found = export(tmp_path / "run", tmp_path / "out", to=())
    assert found["reported"] == {}
    assert "run/summary.json: is cut off, or not of effnas: what the run was trained on and has reached" in caplog.text


def test_memory_that_runs_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*given: Any, **options: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 600000000000 bytes")

    monkeypatch.setattr("effnas.evaluate.export.job.find_images", read)
    with pytest.raises(UserError, match=r"^out of memory with one image at resolution 100000: a smaller resolution"):
        export(weights(tmp_path), tmp_path / "out", resolution=100_000)


def test_weights_of_another_version(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    text = SMALL.to_yaml().replace("effnas_architecture: 1", "effnas_architecture: 0")
    save_file(network().state_dict(), tmp_path / "old.safetensors", {"effnas_architecture": text})
    with pytest.raises(
        UserError, match=r"old\.safetensors cannot be read \(.*format 0 is unknown; this version reads 1"
    ):
        export(tmp_path / "old.safetensors", tmp_path / "out")


def test_truncated_weights(tmp_path: Path) -> None:
    file = weights(tmp_path)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"is not a whole safetensors file .* it may be truncated"):
        export(file, tmp_path / "out")


def test_an_extra_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(formats.FORMATS, "onnx", replace(FORMATS["onnx"], needs=("onnx_of_nobody",)))
    rule = r"^to=onnx needs onnx_of_nobody, which is not installed: pip install 'effnas\[export\]'$"
    with pytest.raises(UserError, match=rule):
        export(weights(tmp_path), tmp_path / "out", to="onnx")


def test_images_of_other_classes(tmp_path: Path) -> None:
    file = weights(tmp_path, SMALL.with_(num_classes=12), classes=None)
    rule = r"^the data \(digits, test part\) has 10 classes, the weights .*weights\.safetensors have 12: exports are p"
    with pytest.raises(UserError, match=rule):
        export(file, tmp_path / "out", data=ImageData())


def test_damaged_numbers(tmp_path: Path) -> None:
    model = network()
    model.classifier.weight.data[0] = torch.nan  # type: ignore[union-attr, index]
    file = save_weights(tmp_path / "w.safetensors", model, architecture=SMALL, normalization=THEIRS)
    with pytest.raises(UserError, match=r"^weights: the network's output is not finite: .* is damaged"):
        export(file, tmp_path / "out")


def test_a_folder_that_is_not_empty(tmp_path: Path) -> None:
    file = weights(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match=r"/out: is not empty \(mine\.txt\); choose another folder with -o DIR, or "):
        export(file, tmp_path / "out")
    export(file, tmp_path / "out", restart=True)
    assert (tmp_path / "out" / "mine.1.txt").read_text(encoding="utf-8") == "mine"
    assert (tmp_path / "out" / "network.py").is_file()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / ".effnas").write_text("train\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"/other: holds the results of effnas train"):
        export(file, tmp_path / "other")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"to": "onxn"}, r"^to: unknown 'onxn'\. Did you mean 'onnx'\? Choose one of: safetensors, python, timm"),
        ({"images": 0}, r"^images must be between 1 and 10000000, got 0"),
        ({"threads": 0}, r"^threads must be between 1 and 4096, got 0"),
        ({"part": "most", "data": ImageData()}, r"^part: unknown 'most'"),
    ],
)
def test_options_that_are_wrong(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        export(weights(tmp_path), tmp_path / "out", **options)


def test_how_many_are_exported() -> None:
    with pytest.raises(UserError, match=r"^weights: none given; name a run's folder or a file: effnas export weights"):
        run_export()
    with pytest.raises(UserError, match=r"^weights: name one run's folder or one file of weights, got 2: a, b"):
        run_export(["a", "b"])


DAMAGES: list[tuple[Callable[[Path], object], str]] = [
    (lambda folder: (folder / "config.json").unlink(), r"has no config\.json; name a folder that effnas export wrote"),
    (lambda folder: (folder / "config.json").write_text("{"), r"config\.json: cannot be read as JSON"),
    (lambda folder: (folder / "config.json").write_text("{}"), r"config\.json: is not of effnas export"),
    (lambda folder: (folder / "weights.safetensors").unlink(), r"has config\.json but no weights\.safetensors"),
    (
        lambda folder: (folder / "config.json").write_text('{"effnas_export": 0}'),
        r"config\.json: an export of form 0; this version of effnas reads 1: export the network again",
    ),
    (
        lambda folder: (folder / "config.json").write_text('{"effnas_export": 1, "architecture": {}}'),
        r"config\.json: not an architecture",
    ),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES)
def test_folders_that_are_no_exports(
    damage: Callable[[Path], object], message: str, exported: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    import shutil

    for name in ("config.json", "weights.safetensors"):
        shutil.copy(exported[0] / name, tmp_path / name)
    damage(tmp_path)
    with pytest.raises(UserError, match=message):
        effnas.load_pretrained(tmp_path)


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"/none: there is no such folder; name one that effnas export wrote$"):
        effnas.load_pretrained(tmp_path / "none")
