"""Image folders as people have them: hidden copies, links, strange names, parts and classes that look alike."""

from __future__ import annotations

import csv
import json
import logging
import os
import shutil
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from image_files import encode, picture, write_folder, write_parquet, write_tar

from effnas.evaluate.data import ImageData
from effnas.evaluate.data.load import load_part, load_split, load_test
from effnas.space.errors import UserError


def folder(path: Path | str, source: str = "folder", **fields: Any) -> ImageData:
    return ImageData(source=source, path=str(path), **fields)


def count(data: ImageData) -> int:
    split = load_split(data, 3)
    return len(split.train) + len(split.heldout)


def classes(data: ImageData) -> tuple[str, ...]:
    return load_split(data, 3).classes


def write_flat(top: Path, number: int = 3, suffix: str = "png") -> Path:
    top.mkdir(parents=True, exist_ok=True)
    for i in range(number):
        picture(i).save(top / f"{i}.{suffix}")
    return top


# -- what is an image ------------------------------------------------------------------------------------


HIDDEN = (".ipynb_checkpoints", "@eaDir", "__MACOSX", ".thumbnails", "$RECYCLE.BIN", "lost+found", ".git", "@EADIR")


@pytest.mark.parametrize("name", HIDDEN)
def test_hidden_and_system_folders_are_left_out_and_counted(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    write_folder(tmp_path)
    shutil.copytree(tmp_path / "cat", tmp_path / "cat" / name)
    shutil.copytree(tmp_path / "dog", tmp_path / "dog" / "below" / name / "deeper")
    shutil.copytree(tmp_path / "dog", tmp_path / name / "dog")
    shutil.rmtree(tmp_path / "dog" / "below" / name / "deeper" / "below", ignore_errors=True)
    assert (count(folder(tmp_path)), classes(folder(tmp_path))) == (20, ("cat", "dog"))
    assert f"{tmp_path}: 20 images in 2 classes; " in caplog.text
    assert "in hidden folders)" in caplog.text


def test_the_line_that_says_what_was_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_folder(tmp_path)
    (tmp_path / "cat" / "notes.txt").write_text("a cat")
    (tmp_path / "dog" / "list.csv").write_text("a,b")
    (tmp_path / "cat" / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (tmp_path / "dog" / "._3.jpg").write_bytes(b"\0\5\x16\7")
    write_flat(tmp_path / "cat" / ".cache", 4)
    write_flat(tmp_path, 1)
    assert count(folder(tmp_path)) == 20
    line = "20 images in 2 classes; 9 files left out ("
    assert line in caplog.text
    for reason in ("2 not images", "2 hidden", "4 in hidden folders", "1 beside the folders of the classes"):
        assert reason in caplog.text


def test_nothing_left_out_is_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        count(folder(write_folder(tmp_path)))
    assert [record.levelname for record in caplog.records if "images in 2 classes" in record.message] == ["INFO"]


@pytest.mark.parametrize("suffix", ["jfif", "JFIF", "jpe", "JPG", "avif", "AVIF", "TIF", "webp", "bin", "", "txt"])
def test_an_image_is_known_by_its_content(tmp_path: Path, suffix: str) -> None:
    write_folder(tmp_path, each=3)
    kind = {"avif": "AVIF", "tif": "TIFF", "webp": "WEBP"}.get(suffix.lower(), "JPEG")
    for i in range(3, 7):
        (tmp_path / "cat" / (f"{i}.{suffix}" if suffix else str(i))).write_bytes(encode(picture(i), kind))
    assert count(folder(tmp_path, max_corrupt=0)) == 10


def test_what_is_called_an_image_and_is_none_is_counted_as_damaged(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "cat" / "3.jpg").write_bytes(b"<html>")
    (tmp_path / "dog" / "4.jpg").unlink()
    (tmp_path / "dog" / "4.jpg").symlink_to(tmp_path / "gone.jpg")
    with pytest.raises(UserError, match=r"2 of 20 images cannot be read.*cat/3.jpg: not an image; .*dog/4.jpg: "):
        load_split(folder(tmp_path), 3)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    write_folder(tmp_path)
    os.mkfifo(tmp_path / "cat" / "pipe.jpg")
    assert count(folder(tmp_path)) == 20


def test_other_programs_are_not_run_on_files(tmp_path: Path) -> None:
    write_folder(tmp_path)
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"
    (tmp_path / "cat" / "a.eps").write_bytes(postscript)
    (tmp_path / "cat" / "b.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    assert count(folder(tmp_path, max_corrupt=0)) == 20
    (tmp_path / "cat" / "a.jpg").write_bytes(postscript)
    assert load_split(folder(tmp_path, max_corrupt=0.1), 3).skipped == (str(tmp_path / "cat" / "a.jpg"),)


# -- links -----------------------------------------------------------------------------------------------


def test_linked_folders_are_followed(tmp_path: Path) -> None:
    write_folder(tmp_path / "photos")
    write_folder(tmp_path / "elsewhere", ("more", "emu"))
    (tmp_path / "photos" / "cat" / "more").symlink_to(tmp_path / "elsewhere" / "more")
    (tmp_path / "photos" / "emu").symlink_to(tmp_path / "elsewhere" / "emu", target_is_directory=True)
    assert (count(folder(tmp_path / "photos")), classes(folder(tmp_path / "photos"))) == (40, ("cat", "dog", "emu"))
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    assert count(folder(tmp_path / "link")) == 40


def test_links_that_lead_back_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_folder(tmp_path)
    (tmp_path / "cat" / "up").symlink_to(tmp_path)
    (tmp_path / "cat" / "again").symlink_to(tmp_path / "cat")
    (tmp_path / "dog" / "self").symlink_to(tmp_path / "dog" / "self")
    write_flat(tmp_path / "dog" / "old", 2)
    (tmp_path / "dog" / "a_link").symlink_to(tmp_path / "dog" / "old")
    assert count(folder(tmp_path)) == 22
    assert "3 links to folders read already" in caplog.text


# -- names -----------------------------------------------------------------------------------------------


def test_a_link_to_where_it_is_makes_no_class(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "all").symlink_to(".")
    (tmp_path / "above").symlink_to("..")
    assert (count(folder(tmp_path)), classes(folder(tmp_path))) == (20, ("cat", "dog"))


def test_a_file_of_several_names_counts_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_folder(tmp_path)
    for i, path in enumerate(sorted((tmp_path / "cat").iterdir())):
        (tmp_path / "cat" / f"z{i}.png").symlink_to(path.name)
        os.link(path, tmp_path / "cat" / f"y{i}.png")
    assert count(folder(tmp_path)) == 20
    assert "20 files left out (20 links to files read already)" in caplog.text


def test_two_classes_are_not_one_folder(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "cow").symlink_to("dog")
    with pytest.raises(UserError, match=r"cow and \S+dog are one folder: two classes must not have the same images"):
        load_split(folder(tmp_path), 3)


def test_a_test_part_is_not_the_training_part(tmp_path: Path) -> None:
    write_folder(tmp_path / "train")
    (tmp_path / "test").symlink_to("train")
    with pytest.raises(UserError, match=r"test/cat and \S+train/cat are one folder: images that are trained on cannot"):
        load_test(folder(tmp_path), 3)


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    write_folder(tmp_path / "train")
    write_folder(tmp_path / "test", each=2)
    odd = os.fsencode(tmp_path / "train" / "cat" / "0.jpg").replace(b"0.jpg", b"caf\xe9\n.jpg")
    os.rename(tmp_path / "train" / "cat" / "0.jpg", odd)
    for part in ("train", "test"):
        top = os.fsencode(tmp_path / part)
        os.rename(top + b"/cat", top + b"/ch\xe4t")
    data = folder(tmp_path, normalize=[0, 1])
    assert classes(data) == ("ch\\xe4t", "dog")
    assert len(load_test(data, 3) or ()) == 4
    found = load_part(data, "all", 3, resolution=8, num_classes=2, classes=("dog", "ch\\xe4t"))
    names = list(found.names())
    assert sum("ch\\xe4t" in name for name in names) == 10
    assert any(name.endswith("caf\\xe9\\n.jpg") for name in names)
    with open(tmp_path / "names.csv", "w", encoding="utf-8") as file:
        csv.writer(file).writerows([name] for name in names)
    assert json.loads(json.dumps(names, ensure_ascii=False).encode()) == names
    odd = os.fsencode(tmp_path) + b"/s\xe9t"
    os.rename(tmp_path / "train", odd)
    lost = folder(os.fsdecode(odd) + "/no")
    assert lost.title.encode().endswith(b"/s\\xe9t/no")
    with pytest.raises(UserError, match=r"no such file or folder: .*/s\\xe9t/no"):
        load_split(lost, 3)
    assert count(folder(os.fsdecode(odd))) == 20


def test_packed_files_whose_names_are_not_utf8_are_one_message(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", [0, 1] * 5)
    odd = os.fsencode(tmp_path) + b"/\xe9.parquet"
    os.rename(path, odd)
    with pytest.raises(UserError, match=r"the name of .*/\\xe9.parquet is not UTF-8, which Arrow cannot open: rename"):
        load_split(folder(os.fsdecode(odd), "files"), 3)


def test_unicode_forms_of_one_name_are_one_class(tmp_path: Path) -> None:
    composed, parted = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    write_folder(tmp_path / "train", (composed, "dog"))
    write_folder(tmp_path / "test", (parted, "dog"), 2)
    data = folder(tmp_path, normalize=[0, 1])
    assert classes(data) == (composed, "dog")
    assert len(load_test(data, 3) or ()) == 4
    found = load_part(data, "test", 3, resolution=8, num_classes=2, classes=("dog", parted))
    assert found.classes == ("dog", composed)
    write_folder(tmp_path / "train", (parted,), 5)  # a Mac's copy beside the other one
    other = folder(tmp_path, split_seed=1)
    assert (classes(other), count(other)) == ((composed, "dog"), 25)


@pytest.mark.parametrize("path", ["x" * 300, "~nobody-at-all/x", "a\0b"])
def test_paths_that_lead_nowhere(path: str) -> None:
    with pytest.raises(UserError, match=r"data.path: no such file or folder: "):
        load_split(folder(path), 3)


# -- parts and classes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["train", "training", "test", "val", "dev", "Train", "testing", "valid"])
def test_a_class_may_be_called_like_a_part(tmp_path: Path, name: str) -> None:
    write_folder(tmp_path, ("bus", "car", name))
    assert set(classes(folder(tmp_path))) == {"bus", "car", name}
    assert load_test(folder(tmp_path), 3) is None


def refused_as_ambiguous(path: Path) -> None:
    for source in ("folder", "files"):
        with pytest.raises(
            UserError, match=r"can be read in two ways: as splits \(.*train.*\), or as the \d class"
        ) as c:
            load_split(folder(path, source), 3)
        assert str(c.value).endswith("set data.layout=splits or data.layout=classes")


def test_a_class_called_train_with_folders_below_is_told_apart_by_the_user(tmp_path: Path) -> None:
    for name in ("bus", "car", "train"):
        write_folder(tmp_path / name, ("2019", "2020"), 3)
    refused_as_ambiguous(tmp_path)
    assert classes(folder(tmp_path, layout="classes")) == ("bus", "car", "train")
    assert classes(folder(tmp_path, layout="splits")) == ("2019", "2020")
    with pytest.raises(UserError, match=r"data.layout: unknown 'split'. Did you mean 'splits'\?"):
        folder(tmp_path, layout="split")


def test_classes_train_and_test_beside_others_are_told_apart_by_the_user(tmp_path: Path) -> None:
    write_folder(tmp_path, ("bus", "train", "test"))
    refused_as_ambiguous(tmp_path)
    assert classes(folder(tmp_path, layout="classes")) == ("bus", "test", "train")
    with pytest.raises(UserError, match=r"data.layout=splits: .* has no folder train/CLASS with images; its folders"):
        load_split(folder(tmp_path, layout="splits"), 3)


def test_a_test_part_beside_the_classes_is_told_apart_by_the_user(tmp_path: Path) -> None:
    write_folder(tmp_path)
    write_folder(tmp_path / "test")
    with pytest.raises(
        UserError, match=r"can be read in two ways: as splits \(test\), or as the 3 classes cat, dog, t"
    ):
        load_split(folder(tmp_path), 3)


def test_a_folder_beside_the_parts_is_left_out_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for part in ("train", "val"):
        write_folder(tmp_path / part)
    write_flat(tmp_path / "samples")
    (tmp_path / "docs").mkdir()
    assert count(folder(tmp_path)) == 20
    assert "3 files left out (3 in folders that are no part: samples)" in caplog.text


def test_parts_without_folders_of_classes(tmp_path: Path) -> None:
    write_flat(tmp_path / "train")
    write_flat(tmp_path / "test")
    with pytest.raises(UserError, match=r"no images in the folders of .*train; images must be in one folder per class"):
        load_split(folder(tmp_path), 3)


def test_test_and_val_without_a_training_part(tmp_path: Path) -> None:
    write_folder(tmp_path / "test")
    write_folder(tmp_path / "val")
    with pytest.raises(UserError, match=r"has no training part \(train/CLASS/a.jpg\), only test, val"):
        load_split(folder(tmp_path), 3)


@pytest.mark.parametrize("levels", ["data", "archive/data", "x/y/z"])
def test_a_folder_given_a_level_too_high_is_found(tmp_path: Path, levels: str) -> None:
    write_folder(tmp_path / levels / "train")
    write_folder(tmp_path / levels / "test", each=2)
    (tmp_path / "README.txt").write_text("unpacked")
    write_folder(tmp_path / "__MACOSX" / levels / "train")
    assert (classes(folder(tmp_path)), count(folder(tmp_path))) == (("cat", "dog"), 20)
    assert len(load_test(folder(tmp_path), 3) or ()) == 4


def test_parts_in_folders_of_their_own_name(tmp_path: Path) -> None:
    write_folder(tmp_path / "train" / "train")
    write_flat(tmp_path / "test" / "test")
    assert (classes(folder(tmp_path)), count(folder(tmp_path))) == (("cat", "dog"), 20)
    assert load_test(folder(tmp_path), 3) is None


def test_classes_a_level_lower_are_pointed_at(tmp_path: Path) -> None:
    write_folder(tmp_path / "photos")
    rule = (
        r"has one class, 'photos'; .* at least 2. If the folders in it are the classes \(cat, dog\), set data.path=.*"
    )
    with pytest.raises(UserError, match=rule + "/photos$"):
        load_split(folder(tmp_path), 3)


@pytest.mark.parametrize("source", ["folder", "files"])
def test_stray_packed_files_do_not_beat_a_folder_of_images(tmp_path: Path, source: str) -> None:
    write_folder(tmp_path / "train")
    write_folder(tmp_path / "test", each=2)
    write_tar(tmp_path / "images.tar", [0, 1] * 2)
    write_parquet(tmp_path / "train" / "metadata.parquet", [0, 1] * 2)
    (tmp_path / "labels.csv").write_text("a,b")
    assert (classes(folder(tmp_path, source)), count(folder(tmp_path, source))) == (("cat", "dog"), 20)
    assert len(load_test(folder(tmp_path, source), 3) or ()) == 4
    assert classes(folder(tmp_path, "webdataset")) == ("0", "1")
    assert classes(folder(tmp_path, "parquet")) == ("0", "1")


def test_a_source_takes_its_own_files_alone(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "a.tar", [0, 1])
    with pytest.raises(UserError, match=r"no .parquet files in .*: choose data=folder for a folder of images"):
        load_split(folder(tmp_path, "parquet"), 3)
    with pytest.raises(UserError, match=r"a.tar must be a folder, or a .parquet file$"):
        load_split(folder(tar, "parquet"), 3)
    with pytest.raises(UserError, match=r"a.tar must be a folder of images$"):
        load_split(folder(tar), 3)


# -- the test part ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("below", [".", "unknown", "test"])
@pytest.mark.parametrize("val", [True, False])
def test_a_test_part_without_labels_is_left_out(
    tmp_path: Path, below: str, val: bool, caplog: pytest.LogCaptureFixture
) -> None:
    write_folder(tmp_path / "train")
    write_flat(tmp_path / "test" / below)
    if val:
        write_folder(tmp_path / "val", each=4)
    test = load_test(folder(tmp_path), 3)
    assert (None if test is None else len(test)) == (8 if val else None)
    assert f"{tmp_path / 'test'}" in caplog.text
    assert "has no labels (its images are in no folders of classes): it is not measured" in caplog.text
    assert classes(folder(tmp_path)) == ("cat", "dog")


def test_an_empty_test_part_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_folder(tmp_path / "train")
    (tmp_path / "test" / "cat").mkdir(parents=True)
    assert load_test(folder(tmp_path), 3) is None
    assert f"{tmp_path / 'test'} holds no images: it is not measured" in caplog.text


def test_unknown_classes_of_the_test_part_say_how_to_leave_it_out(tmp_path: Path) -> None:
    write_folder(tmp_path / "train")
    write_folder(tmp_path / "test", ("cat", "emu", "fox"), 2)
    rule = r"has classes that the training part lacks: emu, fox; test=false leaves the test part out$"
    with pytest.raises(UserError, match=rule):
        load_test(folder(tmp_path), 3)


@pytest.mark.parametrize("kind", ["hidden", "none", "no column", "no rows"])
def test_a_packed_test_part_without_labels_is_left_out(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    import datasets

    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    write_parquet(tmp_path / "train.parquet", [0, 1] * 5)
    path = tmp_path / "test.parquet"
    labels = {"hidden": [-1] * 4, "none": [None] * 4, "no rows": []}.get(kind, [0] * 4)
    write_parquet(
        path,
        labels,
        features=None if kind == "no column" else features,
        **{"label": "row"} if kind == "no column" else {},
    )
    assert load_test(folder(tmp_path, "parquet"), 3) is None
    assert "test.parquet" in caplog.text
    assert "it is not measured" in caplog.text
    write_parquet(tmp_path / "val.parquet", [0, 1, 1])
    assert len(load_test(folder(tmp_path, "parquet", split_seed=1), 3) or ()) == 3
