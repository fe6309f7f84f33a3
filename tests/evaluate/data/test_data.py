"""Data sets: their parts, their sources, their pixels, and every mistake a user makes with them."""

from __future__ import annotations

import io
import re
import struct
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from image_files import encode, picture, write_folder, write_parquet, write_tar
from PIL import Image
from torch.utils.data import DataLoader

from effnas.evaluate.data import ImageData
from effnas.evaluate.data.decode import decode_image
from effnas.evaluate.data.load import load_part, load_split, load_test
from effnas.evaluate.data.split import Part, Split
from effnas.space.architecture import Architecture
from effnas.space.errors import UserError
from effnas.space.stage import Stage

CONF = Path(__file__).resolve().parents[3] / "conf" / "data"


def files(path: Path | str, **fields: Any) -> ImageData:
    return ImageData(source="files", path=str(path), **fields)


def all_of(images: Any, resolution: int = 8, batch_size: int = 64, **more: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Every image as it is measured, and its label."""
    batches = list(images.batches(batch_size, device="cpu", **more))
    return torch.cat([images.pixels.prepare(x, resolution) for x, _ in batches]), torch.cat([y for _, y in batches])


def stored(*sets: Any) -> list[bytes]:
    """The pixels of every image."""
    return [x.numpy().tobytes() for part in sets for batch, _ in part.batches(64, device="cpu") for x in batch]


def part(data: ImageData, name: str, channels: int = 3, **options: Any) -> Part:
    return load_part(data, name, channels, **{"resolution": 8, "num_classes": 10, **options})


def network(num_classes: int) -> Architecture:
    return Architecture((Stage("mbconv", 8),), num_classes=num_classes)


# -- digits: parts and batches ---------------------------------------------------------------------------


def test_digits_come_in_three_parts_that_make_up_the_whole() -> None:
    from sklearn.datasets import load_digits

    data = ImageData()
    split, test = load_split(data, 1), load_test(data, 1)
    assert len(split.train) + len(split.heldout) + len(test) == 1797
    assert abs(len(test) - 1797 / 5) < 10
    assert abs(len(split.heldout) - 0.2 * (1797 - len(test))) < 10
    assert split.classes == tuple("0123456789")
    assert split.train.num_classes == split.heldout.num_classes == test.num_classes == 10
    theirs = [image.tobytes() for image in (load_digits().images * 255 / 16).astype(np.uint8)]
    assert sorted(stored(split.train, split.heldout, test)) == sorted(theirs)
    labels = torch.cat([all_of(part)[1] for part in (split.train, split.heldout, test)])
    assert torch.equal(labels.bincount(), torch.tensor(load_digits().target).bincount())


def test_every_class_has_its_share_of_the_held_out_part() -> None:
    split = load_split(ImageData(holdout=0.25), 1)
    train, heldout = all_of(split.train)[1].bincount(), all_of(split.heldout)[1].bincount()
    assert torch.equal(heldout, ((train + heldout) * 0.25).round().to(heldout.dtype))


def test_batches_are_normalised_with_the_training_images() -> None:
    split = load_split(ImageData(), 1)
    images, labels = all_of(split.train)
    assert images.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert images.shape == (len(split.train), 1, 8, 8)
    assert abs(images.mean()) < 1e-4
    assert abs(images.std() - 1) < 1e-3
    assert abs(all_of(split.heldout)[0].mean()) < 0.1


def test_three_channels_of_a_grey_image_are_equal() -> None:
    images, _ = all_of(load_split(ImageData(), 3).train)
    assert images.shape[1] == 3
    assert torch.allclose(images[:, 0], images[:, 2], atol=1e-5)


def test_resolution_is_what_is_asked_and_the_picture_stays() -> None:
    heldout = load_split(ImageData(), 1).heldout
    small, large = all_of(heldout, 8)[0], all_of(heldout, 32)[0]
    assert large.shape[-2:] == (32, 32)
    back = torch.nn.functional.interpolate(large, size=(8, 8), mode="area")
    assert torch.corrcoef(torch.stack([small.flatten(), back.flatten()]))[0, 1] > 0.97


def test_a_seed_shuffles() -> None:
    train = load_split(ImageData(), 1).train
    plain, order = all_of(train)
    assert torch.equal(plain, all_of(train)[0])
    first, labels = all_of(train, shuffle=1)
    again, same = all_of(train, shuffle=1)
    other, _ = all_of(train, shuffle=2)
    assert torch.equal(first, again)
    assert torch.equal(labels, same)
    assert not torch.equal(first, other)
    assert not torch.equal(labels, order)
    assert torch.equal(labels.sort().values, order.sort().values)


def test_a_pass_can_begin_where_another_was_cut_short() -> None:
    train = load_split(ImageData(), 1).train
    whole = [y for _, y in train.batches(100, device="cpu", shuffle=3, drop_last=True)]
    rest = [y for _, y in train.batches(100, device="cpu", shuffle=3, drop_last=True, start=4)]
    assert len(rest) == len(whole) - 4
    assert all(torch.equal(a, b) for a, b in zip(rest, whole[4:], strict=True))


def test_shards_part_every_batch_among_them() -> None:
    train = load_split(ImageData(), 1).train
    whole = [y for _, y in train.batches(100, device="cpu", shuffle=3)]
    shards = [[y for _, y in train.batches(100, device="cpu", shuffle=3, shard=(i, 3))] for i in range(3)]
    for batch, *parts in zip(whole, *shards, strict=True):
        assert [len(part) for part in parts] == [len(batch) // 3 + (i < len(batch) % 3) for i in range(3)]
        assert torch.equal(torch.cat(parts), batch)


def test_a_centre_crop_is_what_is_left_of_the_border_and_resized(tmp_path: Path) -> None:
    for name in ("a", "b"):  # white, but for a black border of 4 pixels
        (tmp_path / name).mkdir()
        for i in range(4):
            pixels = np.pad(np.full((24, 24), 255, dtype=np.uint8), 4)
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    train: Any = load_split(files(tmp_path), 1).train
    inner = replace(train.pixels, center_crop=0.75, mean=(0.0,), std=(1.0,))
    images = next(train.batches(8, device="cpu"))[0]
    assert inner.prepare(images, 24).min() == 255
    assert replace(inner, center_crop=1.0).prepare(images, 32)[0, 0, 3, 3] == 0
    assert inner.prepare(images, 48).shape[-1] == 48


def test_bicubic_stays_within_the_range_of_pixels() -> None:
    train: Any = load_split(ImageData(), 1).train
    cubic = replace(train.pixels, interpolation="bicubic", mean=(0.0,), std=(1.0,))
    images = next(train.batches(64, device="cpu"))[0]
    large = cubic.prepare(images, 29)
    assert large.min() >= 0
    assert large.max() <= 255
    assert not torch.equal(large, replace(cubic, interpolation="bilinear").prepare(images, 29))


def test_drop_last_leaves_out_an_incomplete_batch_but_not_the_only_one() -> None:
    train = load_split(ImageData(), 1).train
    sizes = [len(y) for _, y in train.batches(100, device="cpu", drop_last=True)]
    assert sizes == [100] * (len(train) // 100)
    assert [len(y) for _, y in train.batches(5000, device="cpu", drop_last=True)] == [len(train)]


def test_equal_fields_share_one_decoded_copy() -> None:
    assert load_split(ImageData(holdout=0.3), 1) is load_split(ImageData(holdout=0.3), 1)
    assert load_split(ImageData(holdout=0.3), 1) is not load_split(ImageData(holdout=0.3, split_seed=1), 1)


def test_split_seed_alone_decides_what_is_held_out() -> None:
    one, two = load_split(ImageData(split_seed=1), 1), load_split(ImageData(split_seed=2), 1)
    assert not torch.equal(all_of(one.heldout)[0], all_of(two.heldout)[0])
    other = load_split(ImageData(split_seed=1, crop=1, workers=0), 1)
    assert torch.equal(all_of(one.heldout)[0], all_of(other.heldout)[0])


def test_limit_takes_classes_in_proportion_and_smaller_limits_from_larger_ones(tmp_path: Path) -> None:
    write_folder(tmp_path, ("many",), 60, "png")
    write_folder(tmp_path, ("few",), 20, "png")
    seen = {}
    for limit in (20, 40):
        split = load_split(files(tmp_path, limit=limit), 1)
        labels = torch.cat([all_of(split.train)[1], all_of(split.heldout)[1]])
        assert labels.bincount().tolist() == [limit // 4, limit * 3 // 4]  # few, many
        seen[limit] = set(stored(split.train, split.heldout))
    assert len(seen[40]) == 40
    assert seen[20] < seen[40]


def test_limit_keeps_two_of_a_rare_class(tmp_path: Path) -> None:
    write_folder(tmp_path, ("many",), 50)
    write_folder(tmp_path, ("rare",), 2)
    split = load_split(files(tmp_path, limit=4), 1)
    assert all_of(split.train)[1].tolist() == all_of(split.heldout)[1].tolist() == [0, 1]


# -- files ---------------------------------------------------------------------------------------------


def test_a_folder_of_classes(tmp_path: Path) -> None:
    split = load_split(files(write_folder(tmp_path)), 3)
    assert split.classes == ("cat", "dog")
    assert (len(split.train), len(split.heldout), split.skipped) == (16, 4, ())
    images, labels = all_of(split.train, 32)
    assert images.shape == (16, 3, 32, 32)
    assert labels.bincount().tolist() == [8, 8]


def test_a_folder_with_a_test_part_which_load_does_not_read(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", ("a", "b", "c"))
    write_folder(tmp_path / "val", ("a", "c"), 3)
    for file in (tmp_path / "val").rglob("*.jpg"):
        file.write_bytes(b"nothing")
    assert len(load_split(files(tmp_path), 3).train) == 24
    with pytest.raises(UserError, match=r"test part: 6 of 6 images cannot be read"):
        load_test(files(tmp_path), 3)


def test_test_labels_are_numbered_as_in_the_training_part(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", ("a", "b", "c"))
    write_folder(tmp_path / "test", ("a", "c"), 3)
    test = load_test(files(tmp_path), 3)
    assert all_of(test)[1].tolist() == [0, 0, 0, 2, 2, 2]
    assert test.num_classes == 3


def test_parquet_files_with_parts_in_their_names(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train-00000-of-00002.parquet", [0, 1] * 5)
    write_parquet(tmp_path / "train-00001-of-00002.parquet", [0, 1] * 5)
    write_parquet(tmp_path / "test.parquet", [1, 0, 1])
    split = load_split(files(tmp_path, image="image", label="label"), 3)
    assert (len(split.train), len(split.heldout), split.classes) == (16, 4, ("0", "1"))
    assert all_of(load_test(files(tmp_path), 3))[1].tolist() == [1, 0, 1]


def test_one_parquet_file_with_other_columns_and_a_strange_name(tmp_path: Path) -> None:
    import datasets

    folder = tmp_path / "set [1] *"
    folder.mkdir()
    features = datasets.Features(
        {"pixels": datasets.Image(), "kind": datasets.ClassLabel(names=["x", "y"]), "note": datasets.Value("string")}
    )
    path = write_parquet(
        folder / "all.parquet", [0, 1] * 5, image="pixels", label="kind", note=["n"] * 10, features=features
    )
    assert load_split(files(path), 1).classes == ("x", "y")


def test_webdataset_tars(tmp_path: Path) -> None:
    write_tar(tmp_path / "birds-train-000.tar", [0, 1, 2] * 4)
    write_tar(tmp_path / "birds-train-001.tar", [2, 1, 0] * 4)
    write_tar(tmp_path / "birds-val-000.tar", [2, 0])
    split = load_split(files(tmp_path), 3)
    assert (len(split.train), len(split.heldout), split.classes) == (18, 6, ("0", "1", "2"))
    assert all_of(load_test(files(tmp_path), 3))[1].tolist() == [2, 0]


def test_cifar10_decodes_the_rows_of_the_limit_alone(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []

    def count(*arguments: Any) -> Any:
        decoded.append(arguments)
        return decode_image(*arguments)

    monkeypatch.setattr("effnas.evaluate.data.decode.decode_image", count)
    split = load_split(files(shared_data / "cifar10", image="image", label="label", limit=500, num_classes=10), 3)
    assert len(decoded) == 500
    assert (len(split.train), len(split.heldout)) == (400, 100)
    assert split.classes[0] == "airplane"
    assert all_of(split.heldout)[1].bincount().tolist() == [10] * 10
    assert split.train.pixels.size == 32  # type: ignore[attr-defined]


def test_nothing_is_fetched_for_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []  # counted, not only refused: the libraries swallow failed requests

    def refuse(*arguments: object) -> None:
        tried.append(arguments)
        raise OSError("no network")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    assert len(load_split(files(write_parquet(tmp_path / "a.parquet", [0, 1] * 5)), 3).train) == 8
    assert len(load_split(files(write_tar(tmp_path / "b.tar", [0, 1] * 5)), 3).train) == 8
    assert not tried


def test_sets_above_memory_mb_stream_the_same_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    path = write_parquet(tmp_path / "a.parquet", [0, 1] * 20)
    kept, streamed = load_split(files(path, crop=2), 3), load_split(files(path, crop=2, memory_mb=0), 3)
    assert all_of(kept.heldout)[1].tolist() == all_of(streamed.heldout)[1].tolist()
    for seed in (None, 1, 2):  # the workers stay between passes, and a pass given up leaves nothing behind
        next(streamed.train.batches(4, device="cpu", shuffle=0))
        ours = all_of(streamed.train, 16, 5, shuffle=seed, drop_last=True)
        theirs = all_of(kept.train, 16, 5, shuffle=seed, drop_last=True)
        assert torch.equal(ours[1], theirs[1])
        assert torch.allclose(ours[0], theirs[0], atol=1e-4)


def test_what_cannot_be_read_is_left_out_alike_in_memory_and_streamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("effnas.evaluate.data.load.STATISTICS_SAMPLE", 7)  # a sample: every second image
    write_folder(tmp_path, each=10)
    for name in ("cat/3.jpg", "dog/4.jpg"):
        (tmp_path / name).write_bytes(b"")
    data = files(tmp_path, crop=2, max_corrupt=0.1)
    kept, streamed = load_split(data, 3), load_split(replace(data, memory_mb=0, workers=0), 3)
    assert len(kept.train) == len(streamed.train) == 16
    assert torch.equal(kept.train.labels, streamed.train.labels)
    assert kept.train.pixels == streamed.train.pixels
    for how in ({"shuffle": 1}, {"shuffle": 2, "drop_last": True}, {"shuffle": 3, "balanced": True}, {"shard": (1, 2)}):
        ours, theirs = (list(split.train.batches(5, device="cpu", **how)) for split in (kept, streamed))  # type: ignore[arg-type]
        assert [len(labels) for _, labels in ours] == [len(labels) for _, labels in theirs]
        assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(ours, theirs, strict=True))
    assert sum(len(labels) for _, labels in kept.train.batches(1, device="cpu")) < 16


def test_a_streamed_set_leaves_the_global_random_numbers_alone(tmp_path: Path) -> None:
    train = load_split(files(write_folder(tmp_path), memory_mb=0, workers=0), 3).train
    assert isinstance(train._loader, DataLoader)  # type: ignore[attr-defined]
    state = torch.get_rng_state()
    all_of(train, shuffle=0)
    assert torch.equal(state, torch.get_rng_state())


# -- normalisation -------------------------------------------------------------------------------------


def test_normalisation_is_given_or_the_weights_or_measured() -> None:
    theirs = ((100.0,), (50.0,))
    measured, weights = load_split(ImageData(), 1), load_split(ImageData(), 1, theirs)
    given = ImageData(normalize=[127, 128])  # type: ignore[arg-type]
    assert load_split(given, 1, theirs).train.pixels.std == (128.0,)
    assert (weights.heldout.pixels.mean, weights.train.pixels.std) == theirs
    assert torch.allclose(
        all_of(load_split(given, 1).train)[0] * 128 + 127, all_of(weights.train)[0] * 50 + 100, atol=1e-3
    )
    pixels = torch.frombuffer(bytearray(b"".join(stored(measured.train))), dtype=torch.uint8).double()
    assert measured.train.pixels.mean == pytest.approx([pixels.mean().item()])
    assert measured.train.pixels.std == pytest.approx([pixels.std(correction=0).item()])
    test = load_test(ImageData(), 1, theirs)
    assert test is not None
    assert (test.pixels.mean, test.pixels.std) == theirs


def test_imagenets_normalisation_is_torchvisions() -> None:
    train = load_split(ImageData(normalize="imagenet"), 3).train
    images = next(train.batches(4, device="cpu"))[0]
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    assert torch.allclose(train.pixels.prepare(images, 8), (images / 255 - mean) / std, atol=1e-5)


def test_images_are_decoded_once_for_all_normalisations(monkeypatch: pytest.MonkeyPatch) -> None:
    load_split(ImageData(split_seed=7), 1)
    monkeypatch.setattr("effnas.evaluate.data.decode.decode_image", None)
    assert load_split(ImageData(split_seed=7, normalize=[1, 2]), 1).train.pixels.mean == (1.0,)  # type: ignore[arg-type]
    assert load_split(ImageData(split_seed=7), 1, ((3.0,), (4.0,))).train.pixels.mean == (3.0,)


def test_a_streamed_set_is_normalised_as_asked(tmp_path: Path) -> None:
    data = files(write_folder(tmp_path), memory_mb=0, workers=0, normalize=[0, 1])
    assert all_of(load_split(data, 3).train, 32)[0].unique().tolist() == list(range(256))


# -- one part, to measure a network on -------------------------------------------------------------------


def test_the_parts_of_the_training_part_are_those_of_a_training() -> None:
    data, split = ImageData(limit=200), load_split(ImageData(limit=200), 1)
    found = {name: part(data, name, 1, normalization=((0.0,), (1.0,))) for name in ("heldout", "train", "all")}
    assert stored(found["heldout"].images) == stored(split.heldout)
    assert stored(found["train"].images) == stored(split.train)
    assert sorted(stored(found["all"].images)) == sorted(stored(split.train, split.heldout))
    test = part(data, "test", 1)
    assert stored(test.images) == stored(load_test(data, 1))
    assert test.images.pixels.mean == split.train.pixels.mean  # nothing else is known: measured


def test_a_part_that_there_is_not() -> None:
    with pytest.raises(UserError, match=r"part: unknown 'tests'. Did you mean 'test'\? Choose one of: test, held"):
        part(ImageData(), "tests", 1)


def test_a_lone_test_part_is_enough(tmp_path: Path) -> None:
    write_parquet(tmp_path / "validation.parquet", [0, 3, 1])
    write_folder(tmp_path / "folders" / "val", ("a", "b"), 2)
    numbers = part(files(tmp_path, normalize=[0, 1]), "test", num_classes=5)
    assert (all_of(numbers.images)[1].tolist(), numbers.classes) == ([0, 3, 1], tuple("01234"))
    assert list(numbers.names()) == ["row 0", "row 1", "row 2"]
    folders = part(files(tmp_path / "folders", normalize="imagenet"), "test", num_classes=2)
    assert (all_of(folders.images)[1].tolist(), folders.classes) == ([0, 0, 1, 1], ("a", "b"))
    assert [Path(name).name for name in folders.names()] == ["0.jpg", "1.jpg", "0.jpg", "1.jpg"]
    rule = r"data.normalize: not set, the weights do not say .* cannot be measured \(.*no training part.*\): set data"
    with pytest.raises(UserError, match=rule):
        part(files(tmp_path), "test")
    with pytest.raises(UserError, match="has no training part"):
        part(files(tmp_path, normalize=[0, 1]), "heldout")


def test_classes_are_numbered_as_the_network_does(tmp_path: Path) -> None:
    write_folder(tmp_path / "test", ("a", "c"), 2)
    data = files(tmp_path, normalize=[0, 1])
    known = part(data, "test", num_classes=3, classes=("c", "b", "a"))
    assert (all_of(known.images)[1].tolist(), known.classes) == ([2, 2, 0, 0], ("c", "b", "a"))
    assert part(data, "test", num_classes=2, classes=("0", "1")).classes == ("a", "c")
    with pytest.raises(UserError, match=r"has classes that the weights lack: c; the weights have: a, b$"):
        part(data, "test", num_classes=2, classes=("a", "b"))
    write_folder(tmp_path / "train", ("a", "b", "c"), 2)  # now it is the training part that numbers
    assert all_of(part(data, "test", num_classes=3).images)[1].tolist() == [0, 0, 2, 2]


def test_labels_beyond_the_classes(tmp_path: Path) -> None:
    write_parquet(tmp_path / "test.parquet", [0, 12])
    assert len(part(files(tmp_path, normalize=[0, 1]), "test").classes) == 13  # more than the network's 10
    with pytest.raises(UserError, match=r"data.num_classes=5, but the labels of .*, test part run from 0 to 12"):
        part(files(tmp_path, normalize=[0, 1], num_classes=5), "test")
    (tmp_path / "below").mkdir()
    write_parquet(tmp_path / "below" / "test.parquet", [0, -1])
    with pytest.raises(UserError, match="it holds -1 to 0"):
        part(files(tmp_path / "below", normalize=[0, 1]), "test")


@pytest.mark.parametrize(
    ("fields", "resolution", "size"),
    [
        ({}, 20, 20),  # all is seen: decoded to what is needed
        ({}, 48, 40),  # and never enlarged before it has to be
        ({"center_crop": 0.875}, 28, 32),
        ({"center_crop": 0.875}, 224, 256),
        ({"center_crop": 0.875}, 260, 297),
        ({"center_crop": 0.875, "image_size": 30}, 28, 30),
    ],
)
def test_the_centre_crop_has_the_resolution(tmp_path: Path, fields: dict[str, Any], resolution: int, size: int) -> None:
    (tmp_path / "test").mkdir()
    for name in ("a", "b"):
        (tmp_path / "test" / name).mkdir()
        picture(0, (60, 40)).save(tmp_path / "test" / name / "0.png")
    found = part(files(tmp_path, normalize=[0, 1], **fields), "test", resolution=resolution, num_classes=2)
    images, _ = next(found.images.batches(2, device="cpu"))
    assert images.shape == (2, 3, size, size)
    assert found.images.pixels.prepare(images, resolution).shape[-1] == resolution
    if "image_size" not in fields and "center_crop" in fields:  # nothing is resized but by decoding
        at = (size - resolution) // 2
        inner = images[..., at : at + resolution, at : at + resolution]
        assert torch.equal(found.images.pixels.prepare(images, resolution), inner.float())


@pytest.mark.parametrize("memory_mb", [0, 100])
def test_names_leave_out_what_cannot_be_read(tmp_path: Path, memory_mb: int) -> None:
    write_folder(tmp_path / "test", each=10)
    (tmp_path / "test" / "cat" / "3.jpg").write_bytes(b"junk")
    data = files(tmp_path, normalize=[0, 1], max_corrupt=0.1, memory_mb=memory_mb, workers=0)
    found = part(data, "test", num_classes=2)
    labels = all_of(found.images, 32)[1]
    names = [Path(name) for name in found.names()]
    assert len(labels) == len(names) == 19
    assert [name.parent.name for name in names] == [("cat", "dog")[label] for label in labels]
    assert tmp_path / "test" / "cat" / "3.jpg" not in names


# -- pixels --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_every_mode_becomes_grey_or_colour(mode: str) -> None:
    kind = {"CMYK": "TIFF", "YCbCr": "JPEG"}.get(mode, "PNG")
    flat = encode(Image.new("RGB", (9, 9), (255, 255, 255)).convert(mode), kind)
    for channels in (1, 3):
        pixels = decode_image(flat, channels, 9)
        assert pixels.shape == (channels, 9, 9)
        assert pixels.dtype == np.uint8
        assert pixels.min() >= 253


def test_sixteen_bits_keep_their_upper_eight() -> None:
    image = Image.fromarray(np.full((4, 4), 0x80FF, dtype=np.uint16))
    assert np.unique(decode_image(encode(image), 1, 4)).tolist() == [0x80]


def test_a_palette_with_transparency(recwarn: pytest.WarningsRecorder) -> None:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([10, 20, 30] * 256)
    out = io.BytesIO()
    image.save(out, "PNG", transparency=b"\x00\xff")
    assert decode_image(out.getvalue(), 3, 4)[:, 0, 0].tolist() == [10, 20, 30]
    assert not recwarn


def test_exif_turns_an_image_upright() -> None:
    pixels = np.zeros((8, 8, 3), dtype=np.uint8)
    pixels[:4] = 255  # bright above
    exif = Image.Exif()
    exif[0x0112] = 3  # turned by 180 degrees
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", exif=exif)
    upright = decode_image(out.getvalue(), 1, 8)[0]
    assert upright[0].max() < 50
    assert upright[-1].min() > 200


def test_exif_turns_by_a_quarter_before_the_centre_is_taken() -> None:
    pixels = np.zeros((8, 24, 3), dtype=np.uint8)
    pixels[:, 8:16] = 255
    pixels[:4, 8:16] = 100
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", exif=exif, quality=100, subsampling=0)
    upright = decode_image(out.getvalue(), 1, 8)[0]
    assert upright[:, 5:].max() < 130
    assert upright[:, :3].min() > 225


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (3, 2)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_the_smallest_images(size: tuple[int, int], kind: str) -> None:
    for channels in (1, 3):
        pixels = decode_image(encode(Image.new("RGB", size, (200, 200, 200)), kind), channels, 9)
        assert pixels.shape == (channels, 9, 9)
        assert set(pixels.flatten().tolist()) <= {199, 200, 201}


def test_a_jpeg_in_cmyk() -> None:
    red = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    assert decode_image(encode(red, "JPEG"), 3, 8)[:, 4, 4].tolist() == pytest.approx([255, 0, 0], abs=8)


def test_sixteen_bits_of_colour_and_of_the_other_byte_order() -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)  # 2 × 2, 16 bits, RGB
    row = b"\x00" + struct.pack(">HHH", 0x80FF, 0x1000, 0xFFFF) * 2
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(row * 2)) + chunk(b"IEND", b"")
    assert decode_image(png, 3, 2)[:, 0, 0].tolist() == [0x80, 0x10, 0xFF]
    big = Image.frombytes("I;16B", (2, 2), b"\x80\xff" * 4)
    assert np.unique(decode_image(encode(big, "TIFF"), 1, 2)).tolist() == [0x80]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (lambda: encode(picture(0))[:-100], "image file is truncated"),
        (lambda: encode(picture(0), "JPEG")[:-300], "image file is truncated"),
        (lambda: encode(picture(0), "JPEG")[:40], ""),
        (
            lambda: encode(Image.new("F", (4, 4), -1), "TIFF"),
            "samples from -1 to -1: they must be 0 to 1, or 0 to the ",
        ),
        (lambda: b"", "not an image"),
        (lambda: b"GIF89a", ""),
    ],
)
def test_what_cannot_be_read_is_reported_by_name(tmp_path: Path, broken: Any, reason: str) -> None:
    write_folder(tmp_path, each=4)
    (tmp_path / "cat" / "3.jpg").write_bytes(broken())
    data = files(tmp_path, max_corrupt=0)
    fails(data, "1 of 8 images cannot be read", f"{tmp_path}/cat/3.jpg: {reason}")
    assert load_split(files(tmp_path, max_corrupt=0.2), 3).skipped == (str(tmp_path / "cat" / "3.jpg"),)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_the_centre_square_is_kept(kind: str) -> None:
    pixels = np.zeros((100, 300), dtype=np.uint8)
    pixels[:, 100:200] = 200
    assert decode_image(encode(Image.fromarray(pixels), kind), 1, 20)[0, :, 1:-1].min() > 190


def test_stored_size_is_the_median_shorter_side_or_what_is_asked(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i, size in enumerate([(40, 20), (24, 60), (30, 30)]):
            picture(i, size).save(tmp_path / name / f"{i}.png")
    assert load_split(files(tmp_path), 3).train.pixels.size == 24  # type: ignore[attr-defined]
    assert load_split(files(tmp_path, image_size=10), 3).train.pixels.size == 10  # type: ignore[attr-defined]


def test_images_of_one_colour_give_finite_numbers(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(3):
            Image.new("L", (4, 4), 7).save(tmp_path / name / f"{i}.png")
    assert torch.equal(all_of(load_split(files(tmp_path), 1).train, 4)[0], torch.zeros(4, 1, 4, 4))


# -- mistakes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"source": "dgits"}, r"data.source: unknown 'dgits'. Did you mean 'digits'\?"),
        ({"source": "files"}, r"data.path: data.source=files needs a path: set data.path=<file or folder>"),
        ({"source": "hub"}, r"data.path: data.source=hub needs a path: set data.path=<name, like uoft-cs/cifar10>"),
        ({"path": "/x"}, r"data.path=/x has no meaning for data.source=digits: leave it out, or choose another source"),
        ({"source": "files", "path": "x", "subset": "y"}, r"data.subset=y has no meaning for data.source=files"),
        ({"source": "files", "path": 3}, r"data.path must be a string or null, got 3"),
        ({"limit": "abc"}, r"data.limit must be a whole number, got 'abc'"),
        ({"limit": 1}, r"data.limit must be at least 4, got 1"),
        ({"limit": 19}, r"data.limit must be at least 20, two images for each of the 10 classes, got 19"),
        ({"holdout": 1.5}, r"data.holdout must be in \(0, 1\), got 1.5"),
        ({"holdout": 0}, r"data.holdout must be in \(0, 1\), got 0"),
        ({"split_seed": -1}, r"data.split_seed must be between 0 and 4294967295, got -1"),
        ({"num_classes": 1}, r"data.num_classes must be at least 2, got 1"),
        ({"num_classes": 100}, r"data.num_classes=100, but digits has 10 classes: 0, 1, 2, 3, 4, …"),
        ({"image_size": 0}, r"data.image_size must be between 1 and 8192, got 0"),
        ({"center_crop": 0}, r"data.center_crop must be in \(0, 1\], got 0"),
        ({"interpolation": "nearest"}, r"data.interpolation: unknown 'nearest'. Choose one of: bilinear, bicubic"),
        (
            {"normalize": "cifar"},
            r"data.normalize must be null, imagenet, or \[mean, std\] in .*; got 'cifar'",
        ),
        ({"normalize": [1, 2, 3]}, r"data.normalize must be null, imagenet, or .*; got \[1, 2, 3\]"),
        ({"normalize": [[1, 2], 3]}, r"data.normalize must be null, imagenet, or .*; got \[\[1, 2\], 3\]"),
        ({"normalize": [300, 1]}, r"data.normalize: mean must be in \[0, 255\], got 300"),
        ({"normalize": [127, 0]}, r"data.normalize: std must be in \(0, inf\], got 0"),
        (
            {"normalize": "imagenet"},
            r"data.normalize has 3 channels, the architecture takes images of 1: give",
        ),
        ({"flip": "yes"}, r"data.flip must be true or false, got 'yes'"),
        ({"crop": -1}, r"data.crop must be at least 0, got -1"),
        ({"crop": 8}, r"data.crop must be less than the stored image's side, 8 pixels, got 8"),
        ({"max_corrupt": 2}, r"data.max_corrupt must be in \[0, 1\], got 2"),
        ({"memory_mb": 1.5}, r"data.memory_mb must be a whole number, got 1.5"),
        ({"workers": True}, r"data.workers must be a whole number, got True"),
    ],
)
def test_fields_out_of_range(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_split(ImageData(**fields), 1)


def test_channels_that_images_do_not_have() -> None:
    with pytest.raises(UserError, match=r"images have 1 or 3 channels; the architecture takes 4: set space.in_chann"):
        load_split(ImageData(), 4)


def test_a_network_with_another_number_of_classes() -> None:
    split = load_split(ImageData(), 1)
    split.check(network(10))
    with pytest.raises(UserError, match=r"^the data has 10 classes, the architecture 1000: set space.num_classes=10$"):
        split.check(network(1000))


def fails(data: ImageData, *texts: str) -> None:
    """Loading is refused with every one of the texts in the message."""
    with pytest.raises(UserError, match=re.escape(texts[0])) as caught:
        load_split(data, 3)
    for text in texts[1:]:
        assert text in str(caught.value)


def test_nothing_at_the_path(tmp_path: Path) -> None:
    fails(files(tmp_path / "gone"), f"data.path: no such file or folder: {tmp_path / 'gone'}")


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1,2")
    fails(files(tmp_path / "a.csv"), "a.csv must be a folder, or a .parquet or .tar file")


def test_a_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    fails(files(tmp_path), f"no images in the folders of {tmp_path}")


def test_images_without_class_folders(tmp_path: Path) -> None:
    picture(0).save(tmp_path / "a.jpg")
    fails(files(tmp_path), "images must be in one folder per class (CLASS/a.jpg)")


def test_one_class(tmp_path: Path) -> None:
    fails(files(write_folder(tmp_path, ("cat",))), "has one class, 'cat'; a classifier needs at least 2")


def test_a_class_too_small_to_be_split(tmp_path: Path) -> None:
    write_folder(tmp_path)
    write_folder(tmp_path, ("emu",), 1)
    fails(files(tmp_path), "class 'emu' has 1 image in the training part; at least 2 are needed")


def test_a_test_class_that_training_lacks(tmp_path: Path) -> None:
    write_folder(tmp_path / "train")
    write_folder(tmp_path / "test", ("cat", "emu"), 2)
    with pytest.raises(UserError, match="has classes that the training part lacks: emu"):
        load_test(files(tmp_path), 3)


def test_no_test_part(tmp_path: Path) -> None:
    folder = files(write_folder(tmp_path / "a"))
    file = files(write_parquet(tmp_path / "train.parquet", [0, 1] * 3))
    for data in (folder, file):
        assert load_test(data, 3) is None
        with pytest.raises(UserError, match=r"has no test part \(test or val beside train.*: part=all measures all of"):
            part(data, "test", num_classes=2)


def test_no_training_part(tmp_path: Path) -> None:
    write_parquet(tmp_path / "validation.parquet", [0, 1] * 3)
    fails(files(tmp_path), "has no training part", "only validation.parquet; give a single file to train on all of it")


def test_few_corrupt_images_are_skipped_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_folder(tmp_path)
    broken = tmp_path / "cat" / "3.jpg"
    broken.write_bytes(broken.read_bytes()[:300])
    split = load_split(files(tmp_path, max_corrupt=0.05), 3)
    assert split.skipped == (str(broken),)
    assert len(split.train) + len(split.heldout) == 20
    assert sum(len(all_of(part)[1]) for part in (split.train, split.heldout)) == 19
    assert f"skipped 1 images that cannot be read: {broken}" in caplog.text


def test_many_corrupt_images_are_an_error_that_names_them(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "cat" / "3.jpg").write_bytes(b"")
    (tmp_path / "dog" / "4.jpg").write_bytes(b"<html>")
    counted = "2 of 20 images cannot be read (10.0%; data.max_corrupt=0.05 allows 5.0%)"
    fails(files(tmp_path, max_corrupt=0.05), counted, "cat/3.jpg: not an image; ", "dog/4.jpg: not an image")


def test_corrupt_rows_go_by_their_numbers(tmp_path: Path) -> None:
    import datasets

    images = [{"bytes": encode(picture(i)) if i != 7 else b"junk", "path": None} for i in range(20)]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    table = datasets.Dataset.from_dict({"image": images, "label": [0, 1] * 10}, features=features)
    table.to_parquet(tmp_path / "a.parquet")
    assert load_split(files(tmp_path / "a.parquet", max_corrupt=0.05), 3).skipped == ("row 7",)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_streamed_set_skips_and_counts_as_it_goes(tmp_path: Path, workers: int) -> None:
    write_folder(tmp_path, each=50)
    streamed = {
        limit: load_split(files(tmp_path, max_corrupt=limit, memory_mb=0, workers=workers), 3) for limit in (0.1, 0)
    }
    for i in range(5):
        (tmp_path / "cat" / f"{i}.jpg").write_bytes(b"")
    split = streamed[0.1]
    for _ in range(2):  # met twice, counted once
        seen = len(all_of(split.train, 32)[1]) + len(all_of(split.heldout, 32)[1])
        assert seen == 95
    assert sorted(split.train.skipped) == [str(tmp_path / "cat" / f"{i}.jpg") for i in range(5)]  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"of 100 images cannot be read .*data.max_corrupt=0 allows 0.0%"):
        [all_of(part) for part in (streamed[0].train, streamed[0].heldout)]


def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", [0, 1] * 5)
    fails(files(path, image="photo"), "data.image:", "has no column 'photo'; it has: image, label")
    fails(files(path, label="kind"), "data.label:", "has no column 'kind'; it has: image, label")
    other = write_parquet(tmp_path / "b.parquet", [0, 1] * 5, label="species")
    fails(files(other), "no label column that can be identified; set data.label to one of: image, species")


def test_a_column_that_holds_no_images(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", [0, 1] * 5, size=[3] * 10)
    fails(files(path, image="size"), f"data.image: column 'size' of {path} holds no images")
    fails(files(path, image="label"), f"data.image and data.label are the same column of {path}: 'label'")


def test_a_file_without_rows(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    fails(files(write_parquet(tmp_path / "a.parquet", [], features=features)), "a.parquet: no images in it")


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (["cat", "dog"] * 5, "it holds string"),
        ([0.0, 1.0] * 5, "it holds float64"),
        ([1, 2] * 5, "without gaps; it holds 2 values from 1 to 2"),
        ([0, 2] * 5, "without gaps; it holds 2 values from 0 to 2"),
        ([0, 1, None] * 5, "5 of 15 rows have no label"),
    ],
)
def test_labels_that_do_not_number_classes(tmp_path: Path, labels: list[Any], text: str) -> None:
    rule = "column 'label' must hold a ClassLabel or whole numbers from 0 to classes − 1"
    fails(files(write_parquet(tmp_path / "a.parquet", labels)), rule, text)


def test_a_test_label_out_of_range(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", [0, 1] * 5)
    write_parquet(tmp_path / "test.parquet", [0, 5])
    with pytest.raises(UserError, match="it holds 0 to 5, and there are 2 classes"):
        load_test(files(tmp_path), 3)


def test_a_truncated_parquet_file(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", [0, 1] * 5)
    path.write_bytes(path.read_bytes()[:-200])
    fails(files(path), f"data.path: {path} cannot be read: ", "arquet")


def test_a_truncated_tar(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [0, 1] * 5)
    path.write_bytes(path.read_bytes()[:700])
    fails(files(path), f"data.path: {path} cannot be read: ")


def test_a_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    fails(
        ImageData(source="hub", path="some/set"), "data.path: the hub's data set 'some/set' cannot be read: ", "ffline"
    )


def test_hub_splits_and_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    features = datasets.Features({"img": datasets.Image(), "fine": datasets.ClassLabel(names=["x", "y"])})
    rows = {"img": [{"bytes": encode(picture(i)), "path": None} for i in range(10)], "fine": [0, 1] * 5}
    part = datasets.Dataset.from_dict(rows, features=features)
    asked = []

    def load(name: str, subset: str | None) -> dict[str, Any]:
        asked.append((name, subset))
        return {"train": part, "validation": part.select([0, 1, 2])}

    monkeypatch.setattr(datasets, "load_dataset", load)
    data = ImageData(source="hub", path="some/set", subset="small")
    assert (len(load_split(data, 3).train), load_split(data, 3).classes) == (8, ("x", "y"))
    assert all_of(load_test(data, 3))[1].tolist() == [0, 1, 0]
    assert set(asked) == {("some/set", "small")}
    monkeypatch.setattr(datasets, "load_dataset", lambda *_: {"test": part})
    fails(ImageData(source="hub", path="other/set"), "'other/set' has no training part; it has: test")


# -- fields --------------------------------------------------------------------------------------------


def test_a_data_set_is_described_without_torch() -> None:
    code = "import sys; from effnas.evaluate.data import DatasetImages, ImageData; ImageData(normalize='imagenet'); "
    code += "sys.exit(bool({'torch', 'datasets', 'sklearn'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_what_checkpoints_know_a_data_set_by_stays_as_it_was() -> None:
    assert repr(ImageData("files", "x", limit=20)) == (
        "ImageData(source='files', path='x', subset=None, image=None, label=None, layout=None, limit=20, holdout=0.2, "
        "split_seed=0, num_classes=None, image_size=None, center_crop=1.0, interpolation='bilinear', normalize=None, "
        "flip=False, crop=0, max_corrupt=0.01, memory_mb=2048, workers=2)"
    )


# -- configs -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["digits", "cifar10", "folder", "parquet", "webdataset", "hub"])
def test_configs_are_the_fields(name: str) -> None:
    text = (CONF / f"{name}.yaml").read_text(encoding="utf-8")
    body = yaml.safe_load(text)
    assert body.pop("_target_") == "effnas.evaluate.data.ImageData"
    if name == "digits":
        assert isinstance(load_split(ImageData(**body), 1), Split)
    else:
        with pytest.raises(UserError, match=r"data.path: data.source=(folder|parquet|webdataset|hub) needs a path"):
            ImageData(**body)
    lines = text.splitlines()
    assert lines[0].startswith("# ")
    assert all(re.search(r"\S  # \S", line) for line in lines[2:])
