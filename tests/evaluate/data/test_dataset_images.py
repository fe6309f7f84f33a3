"""Data sets that are there in Python: what is read from them, what they are known by, and every mistake with them."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from effnas import Architecture, SearchSpace, Stage, UserError, run_search
from effnas.evaluate.data import DatasetImages, ImageData
from effnas.evaluate.data.load import load_part, load_split, load_test
from effnas.evaluate.measure.job import run_evaluate
from effnas.evaluate.proxy import Proxy
from effnas.evaluate.train.job import run_train
from effnas.evaluate.train.recipe import Training

NOISE = np.random.RandomState(0).randint(0, 256, (24, 6, 8, 3), dtype=np.uint8)
LABELS = np.arange(24) % 3
NET = Architecture((Stage("mbconv", 8, stride=2),), resolution=8, in_channels=1, num_classes=10, stem=8)
QUIET: dict[str, Any] = {"device": "cpu", "threads": 1, "quiet": True}
SHORT = Training(epochs=1, batch_size=128, lr=0.1)


def digits() -> tuple[Any, Any]:
    """Training and test part of scikit-learn's digits as arrays, whose source is the bundled one."""
    from effnas.evaluate.data.digits import digits_table

    tables: Any = [digits_table(part) for part in ("train", "test")]
    return tuple((table.images, table.labels) for table in tables)  # type: ignore[return-value]


class Items(Dataset[Any]):
    """A map-style data set of what is given."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, row: int) -> Any:
        return self.items[row]


def pictures(make: Callable[[Any], Any] = Image.fromarray) -> list[Any]:
    return [(make(image), int(label)) for image, label in zip(NOISE, LABELS, strict=True)]


def hugging_face(**columns: Any) -> Any:
    import datasets

    datasets.disable_progress_bars()
    features = datasets.Features({"img": datasets.Image(), "kind": datasets.ClassLabel(names=["a", "b", "c"])})
    rows = {"img": [Image.fromarray(image) for image in NOISE], "kind": LABELS.tolist()}
    return datasets.Dataset.from_dict(rows | columns, features=features)


def stored(data: DatasetImages | ImageData, channels: int = 3) -> list[bytes]:
    """The pixels of every image of the training part, sorted."""
    split = load_split(data, channels)
    sets = split.train, split.heldout
    return sorted(x.numpy().tobytes() for part in sets for batch, _ in part.batches(64, device="cpu") for x in batch)


# -- what is read ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        (NOISE, LABELS),
        (NOISE, LABELS.tolist()),
        (NOISE.transpose(0, 3, 1, 2), torch.tensor(LABELS)),
        ((NOISE / 255).astype(np.float32), LABELS.astype(np.uint8)),
        (torch.tensor(NOISE), LABELS),
        (torch.tensor(NOISE).permute(0, 3, 1, 2) / 255, torch.tensor(LABELS)),
        ([Image.fromarray(image) for image in NOISE], LABELS),
        (list(NOISE), LABELS),
        pictures(),
        Items(pictures()),
        Items(pictures(torch.tensor)),
        Items(pictures(lambda image: (torch.tensor(image).permute(2, 0, 1) / 255).double())),
        Subset(Items([*pictures(), None]), range(24)),
        TensorDataset(torch.tensor(NOISE), torch.tensor(LABELS)),
    ],
    ids=map(str, range(14)),
)
def test_every_form_gives_the_same_images(given: Any) -> None:
    data, plain = DatasetImages(given, holdout=0.25), DatasetImages((NOISE, LABELS), holdout=0.25)
    split = load_split(data, 3)
    assert (len(split.train), len(split.heldout), split.classes) == (18, 6, ("0", "1", "2"))
    assert stored(data) == stored(plain)
    ours, theirs = (next(load_split(one, 3).train.batches(18, device="cpu")) for one in (data, plain))
    assert torch.equal(ours[0], theirs[0])
    assert torch.equal(ours[1], theirs[1])


def test_a_grey_image_and_one_with_an_opacity() -> None:
    grey, clear = NOISE[..., 0], np.concatenate([NOISE, NOISE[..., :1]], axis=-1)
    assert stored(DatasetImages((grey, LABELS)), 1) == stored(DatasetImages((grey[:, None], LABELS)), 1)
    assert stored(DatasetImages((grey, LABELS)), 1) == stored(DatasetImages((torch.tensor(grey)[..., None], LABELS)), 1)
    assert stored(DatasetImages((clear, LABELS))) == stored(DatasetImages((NOISE, LABELS)))


def test_where_both_ends_may_be_channels_each_library_has_its_way() -> None:
    narrow = NOISE[:, :3]  # (N, 3, 8, 3)
    assert load_split(DatasetImages((narrow, LABELS), image_size=3), 3)
    table = DatasetImages((narrow, LABELS)).train
    assert table.fetch(np.arange(1))[0][1].shape == (3, 8, 3)
    table = DatasetImages((torch.tensor(narrow), LABELS)).train
    assert table.fetch(np.arange(1))[0][1].shape == (8, 3, 3)


def test_a_hugging_face_data_set_and_a_dictionary_of_them() -> None:
    import datasets

    whole = hugging_face()
    data = DatasetImages(whole)
    assert load_split(data, 3).classes == ("a", "b", "c")
    assert stored(data) == stored(DatasetImages((NOISE, LABELS)))
    both = DatasetImages(
        datasets.DatasetDict(train=whole, validation=whole.select(range(3))), image="img", label="kind"
    )
    assert both.train == data.train
    test = load_test(both, 3)
    assert test is not None
    assert [y.tolist() for _, y in test.batches(3, device="cpu")] == [[0, 1, 2]]
    alone = DatasetImages({"test": whole})
    assert load_part(alone, "test", 3, resolution=8, num_classes=3, normalization=((0.0,) * 3, (1.0,) * 3)).classes
    with pytest.raises(UserError, match=r"data.train: there is no training part; give one: DatasetImages\(train=…\)"):
        load_split(alone, 3)


def test_the_names_of_the_classes() -> None:
    names = ("cat", "dog", "emu")
    torchvision = Items(pictures())
    torchvision.classes = list(names)  # type: ignore[attr-defined]
    assert load_split(DatasetImages(torchvision), 3).classes == names
    data = DatasetImages((NOISE, LABELS), (NOISE[:2], LABELS[:2]), classes=names)
    assert load_split(data, 3).classes == data.test.classes == names
    assert load_split(DatasetImages(torchvision, classes=["x", "y", "z"]), 3).classes == ("x", "y", "z")
    assert load_split(DatasetImages(hugging_face(), classes=["a", "b", "c"]), 3).classes == ("a", "b", "c")


def test_a_test_part_that_is_alone() -> None:
    data = DatasetImages(test=(NOISE[:4], [0, 2, 1, 2]), normalize="imagenet")
    found = load_part(data, "test", 3, resolution=8, num_classes=5)
    assert (len(found.images), found.classes, list(found.names())) == (
        4,
        tuple("01234"),
        [f"row {i}" for i in range(4)],
    )
    data = DatasetImages(test=(NOISE[:4], [0, 2, 1, 2]), classes=("a", "b", "c"), normalize="imagenet")
    found = load_part(data, "test", 3, resolution=8, num_classes=3, classes=("c", "b", "a"))
    assert [y.tolist() for _, y in found.images.batches(4, device="cpu")] == [[2, 0, 1, 0]]


def test_there_may_be_no_test_part() -> None:
    assert load_test(DatasetImages((NOISE, LABELS)), 3) is None
    with pytest.raises(UserError, match=r"^the given ndarray has no test part"):
        load_part(DatasetImages((NOISE, LABELS)), "test", 3, resolution=8, num_classes=3)


def test_a_picture_is_left_as_it_was() -> None:
    image = Image.new("RGB", (9, 5))
    image.info["exif"] = Image.Exif().tobytes()
    data = DatasetImages([(image, 0), (image, 1)] * 2)
    load_split(data, 1)
    assert (image.size, image.mode, np.asarray(image).sum()) == ((9, 5), "RGB", 0)


def test_a_streamed_set_reads_the_items_anew() -> None:
    data = DatasetImages(Items(pictures()))
    for workers in (0, 2):
        assert stored(replace(data, memory_mb=0, workers=workers)) == stored(data)


def test_a_broken_picture_is_counted(tmp_path: Path) -> None:
    Image.fromarray(NOISE[0]).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:-150])
    with (
        Image.open(tmp_path / "a.png") as broken,
        pytest.raises(UserError, match=r"the given list: 1 of 25 images cannot be read .*: row 24: "),
    ):
        load_split(DatasetImages([*pictures(), (broken, 0)], max_corrupt=0), 3)


# -- what it is known by -----------------------------------------------------------------------------------


def test_content_is_the_identity() -> None:
    data = DatasetImages((NOISE, LABELS))
    other = NOISE.copy()
    other[3, 0, 0, 0] ^= 1
    same = [(NOISE.transpose(0, 3, 1, 2), LABELS), Items(pictures(torch.tensor)), (NOISE / 255, LABELS)]
    for given in same:
        assert DatasetImages(given) == data
        assert repr(DatasetImages(given)) == repr(data)
        assert hash(DatasetImages(given)) == hash(data)
    differ = [(other, LABELS), (NOISE, LABELS[::-1]), (NOISE[:23], LABELS[:23]), (NOISE[::-1], LABELS)]
    seen = {repr(data), *(repr(DatasetImages(given)) for given in differ)}
    seen |= {repr(DatasetImages((NOISE, LABELS), classes=tuple("abc"))), repr(replace(data, holdout=0.3))}
    seen |= {repr(DatasetImages((NOISE, LABELS), (NOISE, LABELS)))}
    assert len(seen) == 1 + len(differ) + 3


def test_what_is_done_to_an_array_later_changes_nothing() -> None:
    array = NOISE.copy()
    data = DatasetImages((array, LABELS))
    array[:] = 0
    assert stored(data) == stored(DatasetImages((NOISE, LABELS)))


def test_it_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    data = DatasetImages(Items(pictures()), crop=1)
    monkeypatch.setattr("effnas.evaluate.data.dataset_table._digest", None)
    again = replace(data, crop=2)
    assert again.train is data.train
    other = pickle.loads(pickle.dumps(data))
    assert other == data
    assert stored(other) == stored(data)


def test_a_data_set_of_a_file_is_known_by_the_bytes(tmp_path: Path) -> None:
    import datasets

    paths = []
    for i, image in enumerate(NOISE[:4]):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
        paths.append(str(tmp_path / f"{i}.png"))
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    made = datasets.Dataset.from_dict({"image": paths, "label": [0, 1, 0, 1]}, features=features)
    before = repr(DatasetImages(made))
    Image.fromarray(NOISE[9]).save(paths[3])
    assert repr(DatasetImages(made)) != before


# -- a search, a training, an evaluation -------------------------------------------------------------------


def tiny_space() -> SearchSpace:
    stage = {"block": "mbconv", "channels": {"base": 8, "times": [1.0, 2.0]}}
    return SearchSpace("own", [stage], resolution=8, in_channels=1, num_classes=10, stem=8, head=16)


def test_a_search_on_arrays_that_resumes_only_on_its_own(tmp_path: Path) -> None:
    train, test = digits()
    data = DatasetImages(train, test, limit=200)

    def search(data: DatasetImages, trials: int) -> Any:
        proxy = Proxy(data, SHORT, device="cpu", threads=1)
        return run_search(tiny_space(), proxy, trials=trials, output=tmp_path, quiet=True)

    assert search(data, 1)["complete"] == 1
    assert search(DatasetImages(train, test, limit=200), 2)["complete"] == 2
    images = train[0].copy()
    images[0] += 1
    with pytest.raises(UserError, match="another search"):
        search(DatasetImages((images, train[1]), test, limit=200), 3)


@pytest.mark.slow
def test_worker_processes_of_a_search_get_it(tmp_path: Path) -> None:
    data = DatasetImages(TensorDataset(*map(torch.tensor, digits()[0])), limit=100)
    proxy = Proxy(data, SHORT, device="cpu", threads=1)
    summary = run_search(tiny_space(), proxy, trials=2, workers=2, output=tmp_path, quiet=True)
    assert summary["complete"] == 2


def test_training_and_evaluation_are_those_of_the_same_images_by_name(tmp_path: Path) -> None:
    train, test = digits()
    summaries = []
    for name, data in (("ours", DatasetImages(train, test, limit=300)), ("bundled", ImageData(limit=300))):
        trained = run_train(NET, data, SHORT, output=tmp_path / name, **QUIET)
        weights = tmp_path / name / "weights.safetensors"
        given = DatasetImages(test=test) if name == "ours" else data
        measured = run_evaluate(
            None,
            weights,
            given,
            latency_batch=None,
            device="cpu",
            threads=1,
            output=tmp_path / f"{name}-test",
            quiet=True,
        )
        assert measured["top1"] == pytest.approx(trained["test_accuracy"])
        summaries.append([trained[key] for key in ("accuracy", "loss", "test_accuracy", "test_loss")])
        assert measured["data"] == ("the given ndarray" if name == "ours" else "digits")
    assert summaries[0] == summaries[1]
    record = json.loads((tmp_path / "ours" / "summary.json").read_text(encoding="utf-8"))
    assert record["classes"] == 10


def test_the_page_tells_the_truth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "training.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(from sklearn.*?)^```$", page, re.M | re.S)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "training.md", "exec"), {})
    assert json.loads((tmp_path / "outputs" / "evaluate" / "summary.json").read_text(encoding="utf-8"))["top1"] > 0.2


def test_a_training_on_other_images_is_refused(tmp_path: Path) -> None:
    train, _ = digits()
    run_train(NET, DatasetImages(train, limit=100), SHORT, output=tmp_path, **QUIET)
    with pytest.raises(UserError, match="data"):
        run_train(NET, DatasetImages((train[0], train[1][::-1]), limit=100), SHORT, output=tmp_path, **QUIET)


# -- mistakes ----------------------------------------------------------------------------------------------


def test_something_that_is_no_data_set_of_ours() -> None:
    text = r"data must be of type ImageData .*, or DatasetImages\(train, test\) around arrays .*, got TensorDataset"
    given: Any = TensorDataset(torch.zeros(4, 1, 8, 8), torch.arange(4))
    for call in (lambda: Proxy(given, SHORT), lambda: load_split(given, 1), lambda: run_train(NET, given, SHORT)):
        with pytest.raises(UserError, match=text):
            call()


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(pictures())


class Broken(Items):
    def __getitem__(self, row: int) -> Any:
        raise OSError("disk gone")


class Augmented(Items):
    def __getitem__(self, row: int) -> Any:
        return np.random.randint(0, 256, (8, 8, 3), dtype=np.uint8), row % 2


def one(image: Any = NOISE[0], label: Any = 0) -> list[Any]:
    return [(NOISE[0], 1), (image, label)]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, r"^data.train must be a pair \(images, labels\), a map-style data set .*, got int$"),
        ("folder", r"^data.train must be a pair .*, got str$"),
        (Stream(), r"^data.train must be a pair .* \(with __len__ and __getitem__\) .*, got Stream$"),
        (DataLoader(Items(pictures())), r"^data.train must be a pair .*, got DataLoader$"),
        ({"extra": 3}, r"^data.train has no split named train or test; it has: extra$"),
        (NOISE, r"^data.train: labels are missing; give a pair \(images, labels\), got ndarray$"),
        (torch.tensor(NOISE), r"^data.train: labels are missing; .*, got Tensor$"),
        ((NOISE, LABELS[:9]), r"^data.train: there must be one label per image, got 24 images and 9 labels$"),
        ((list(NOISE), LABELS[:9]), r"^data.train: there must be one label per image, got 24 images and 9 labels$"),
        (
            (NOISE, np.eye(24)),
            r"labels must be whole numbers .*, one per image, got the shape \(24, 24\)",
        ),
        ((NOISE, LABELS / 1), r"labels must be whole numbers from 0 to classes − 1, got float64"),
        ((NOISE, ["a", "b"] * 12), r"labels must be whole numbers from 0 to classes − 1, got <U1"),
        ((NOISE, [[0], [1, 2]] * 12), r"labels must be whole numbers .*, got lists of different lengths"),
        ((NOISE, LABELS + 1), r"whole numbers from 0 to classes − 1 without gaps; it holds 3 values from 1 to 3"),
        ((NOISE, LABELS * 2), r"whole numbers from 0 to classes − 1 without gaps; it holds 3 values from 0 to 4"),
        ((NOISE[:0], LABELS[:0]), r"^data.train: no images in it$"),
        ([], r"^data.train: no images in it$"),
        ((NOISE[0, 0], [0] * 8), r"images must be arrays or tensors \(N, H, W\), .*, got the shape \(8, 3\)"),
        ((NOISE[:, :0], LABELS), r"images must be .*, got the shape \(24, 0, 8, 3\)"),
        ((NOISE.astype(np.int64), LABELS), r"^data.train: images must be uint8, or floats in 0 to 1, got int64$"),
        ((NOISE / 1.0, LABELS), r"images must be uint8, or floats in 0 to 1, got floats from 0 to 255: scale them so"),
        ((NOISE / 255 - 0.5, LABELS), r"got floats from -0.5 to 0.5: .* leave normalisation to data.normalize"),
        ((NOISE * np.nan, LABELS), r"got floats from nan to nan"),
        (("folder", LABELS), r"images must be arrays or tensors .*, got str"),
        (Items([NOISE[0], NOISE[1]]), r"^data.train, row 0: an item must be a pair \(image, label\), got ndarray$"),
        (Items([(NOISE[0], 0, 1)]), r"^data.train, row 0: an item must be a pair \(image, label\), got tuple of 3$"),
        (Items([{"image": NOISE[0]}]), r"^data.train, row 0: an item must be a pair \(image, label\), got dict$"),
        (one("a.jpg"), r"^data.train, row 1: an image must be a Pillow image, .*, got str$"),
        (one(NOISE), r"^data.train, row 1: an image must be a Pillow image, .*, got the shape \(24, 6, 8, 3\)$"),
        (one(NOISE[0] / 1.0), r"^data.train, row 1: an image must be uint8, or floats in 0 to 1, got floats from"),
        (one(label="cat"), r"^data.train, row 1: labels must be whole numbers from 0 to classes − 1, got 'cat'$"),
        (one(label=1.0), r"^data.train, row 1: labels must be whole numbers from 0 to classes − 1, got 1.0$"),
        (one(label=[1, 0]), r"^data.train, row 1: labels must be whole numbers from 0 .*, got \[1, 0\]$"),
        (one(label=None), r"^data.train, row 1: labels must be whole numbers from 0 .*, got None$"),
        (Broken([1, 2]), r"^data.train, row 0: cannot be read: OSError: disk gone$"),
        (
            Augmented([1, 2] * 20),
            r"^data.train: the data set returns different images each time .* and use data.flip, data",
        ),
        (None, r"^give data.train or data.test: a pair \(images, labels\) or a data set$"),
    ],
)
def test_what_cannot_be_a_data_set(given: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        DatasetImages(given)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"classes": "abc"}, r"data.classes must be at least 2 different names, got 'abc'"),
        ({"classes": ["a"]}, r"data.classes must be .*, got \['a'\]"),
        ({"classes": ["a", "a", "b"]}, r"data.classes must be .*, got \['a', 'a', 'b'\]"),
        ({"classes": [1, 2, 3]}, r"data.classes must be .*, got \[1, 2, 3\]"),
        ({"classes": ["a", "b"]}, r"it holds 0 to 2, and there are 2 classes"),
        ({"image": "img"}, r"data.image=img names a column, but only a datasets.Dataset has columns; leave it out"),
        ({"label": "kind"}, r"data.label=kind names a column, but only a datasets.Dataset has columns; leave it out"),
        ({"test": (NOISE, LABELS + 1)}, r"data.test: labels must be .*; it holds 1 to 3, and there are 3 classes"),
        ({"test": NOISE}, r"data.test: labels are missing"),
        ({"holdout": 0}, r"data.holdout must be in \(0, 1\), got 0"),
    ],
)
def test_fields_that_do_not_fit(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        DatasetImages((NOISE, LABELS), **fields)


def test_mistakes_that_loading_finds() -> None:
    with pytest.raises(UserError, match=r"^the given ndarray has one class, '0'; a classifier needs at least 2$"):
        load_split(DatasetImages((NOISE, LABELS * 0)), 3)
    with pytest.raises(UserError, match=r"^the given list: class '1' has 1 image in the training part; at least 2"):
        load_split(DatasetImages([(NOISE[0], 0), (NOISE[1], 0), (NOISE[2], 1)]), 3)
    with pytest.raises(UserError, match=r"^data.num_classes=7, but the given ndarray has 3 classes: 0, 1, 2$"):
        load_split(DatasetImages((NOISE, LABELS), num_classes=7), 3)
    with pytest.raises(UserError, match="images have 1 or 3 channels; the architecture takes 4"):
        load_split(DatasetImages((NOISE, LABELS)), 4)


def test_hugging_face_mistakes() -> None:
    whole = hugging_face()
    with pytest.raises(UserError, match=r"^data.image: data.train has no column 'photo'; it has: img, kind$"):
        DatasetImages(whole, image="photo")
    with pytest.raises(UserError, match=r"^data.train: the transform of a datasets.Dataset is not applied; apply it"):
        DatasetImages(whole.with_transform(lambda rows: rows))
    with pytest.raises(UserError, match=r"^data.train: its classes \(a, b, c\) differ from .* \(x, y, z\)$"):
        DatasetImages(whole, classes=["x", "y", "z"])
    with pytest.raises(UserError, match=r"^data.train: no images in it$"):
        DatasetImages(whole.select([]))


@pytest.mark.filterwarnings("ignore:Got pickle error")  # torch says it too, before it raises
def test_what_does_not_pickle_cannot_be_sent_to_processes(tmp_path: Path) -> None:
    items = Items(pictures())
    items.transform = lambda image: image  # type: ignore[attr-defined]
    data = DatasetImages(items, memory_mb=0, workers=1)
    train: Any = load_split(replace(data, normalize="imagenet"), 3).train
    train._loader.multiprocessing_context = "spawn"  # as where processes are not forked
    with pytest.raises(
        UserError, match=r"^the data set cannot be sent to the processes that decode it: .*data.workers=0$"
    ):
        next(train.batches(4, device="cpu"))
    proxy = Proxy(data, SHORT, device="cpu")
    with pytest.raises(UserError, match=r"evaluator Proxy cannot be sent to a worker process: .* or use workers=1$"):
        run_search(tiny_space(), proxy, trials=2, workers=2, output=tmp_path, quiet=True)
