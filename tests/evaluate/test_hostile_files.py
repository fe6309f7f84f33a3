"""Archives, tables, images and their folders that are damaged at random, or made to be hostile."""

from __future__ import annotations

import gzip
import io
import json
import random
import resource
import tarfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import encode, picture, write_folder, write_parquet, write_tar
from PIL import Image

from effnas.evaluate.accel_archive import benchmark_space, read_archive
from effnas.evaluate.data import ImageData
from effnas.evaluate.data.load import load_split, load_test
from effnas.evaluate.table_files import read_columns
from effnas.evaluate.tabular import Tabular
from effnas.space.errors import UserError
from effnas.space.space import load_space


def archive_of(top: Path, member: bytes, name: str = "a.json") -> Path:
    path = top / "archive.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        info = tarfile.TarInfo(name)
        info.size = len(member)
        tar.addfile(info, io.BytesIO(member))
    return path


def document(number: int = 0) -> dict[str, Any]:
    space = benchmark_space()
    rng = random.Random(number)
    decisions = {name: rng.choice(list(kind.choices)) for name, kind in space.distributions.items()}
    return {"architecture": decisions, "metrics": {"val_top1": 60 + number % 9}, "platform_perf": {}}


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        (b"[" * 90_000, "a.json is not JSON: "),
        (b'{"a":' * 20_000, "a.json is not JSON: "),
        (b"9" * 5000, "a.json is not JSON: "),
        (b" " * 200_000, "a.json has 200,000 bytes, more than 100,000"),
    ],
)
def test_members_that_are_too_deep_or_too_long(tmp_path: Path, member: bytes, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        read_archive(archive_of(tmp_path, member))


@pytest.mark.parametrize("digits", [310, 400, 4000])
def test_numbers_of_hundreds_of_digits(tmp_path: Path, digits: int) -> None:
    text = json.dumps(document()).replace('"val_top1": 60', f'"val_top1": {"9" * digits}')
    with pytest.raises(UserError, match=r"a.json: val_top1 must be a finite number, got 9999"):
        read_archive(archive_of(tmp_path, text.encode()))


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE])
def test_headers_that_say_they_are_huge_take_no_memory(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = kind, 1 << 30
    path = tmp_path / "archive.tar.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        for _ in range(64):
            file.write(bytes(1 << 20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(
        UserError, match=r"archive.tar.gz: truncated, or not a tar archive: a header of 1,073,7\d+,\d+ b"
    ):
        read_archive(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kilobytes
    plain = tmp_path / "images.tar"
    plain.write_bytes(gzip.decompress(path.read_bytes()))
    with pytest.raises(UserError, match=r"data.path: .*images.tar cannot be read: .* a header of 1,073,7"):
        load_split(ImageData(source="webdataset", path=str(plain)), 3)


# -- damaged at random -----------------------------------------------------------------------------------

MANY = 300


def damage(data: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, cut off, doubled or put in."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at, length = rng.randrange(len(out) + 1), rng.choice((1, 1, 2, 4, 16, 200))
        what = rng.randrange(6)
        if what == 0:
            out[at : at + length] = rng.randbytes(length)
        elif what == 1:
            del out[at : at + length]
        elif what == 2:
            out[at:at] = out[at : at + length]
        elif what == 3:
            out[at:at] = rng.choice((b"\xff" * length, bytes(length), b"9" * length, b'"', b",", b"\n", b"[" * length))
        elif what == 4 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        else:
            del out[at:]
    return bytes(out)


def withstands(read: Callable[[], object], seed: int) -> None:
    """What comes is a result or the user's mistake."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about what is odd in a file that it reads all the same
        text = ""
        try:
            read()
        except UserError as error:
            text = str(error)
        except BaseException as error:
            raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
        text.encode()


def saved(kind: str, mode: str = "RGB", **more: Any) -> bytes:
    out = io.BytesIO()
    picture(1, mode=mode).save(out, kind, **more)
    return out.getvalue()


@pytest.mark.slow
def test_image_folders_withstand_damage(tmp_path: Path) -> None:
    npy, deep = io.BytesIO(), io.BytesIO()
    np.save(npy, np.arange(32 * 32 * 3, dtype=np.uint16).reshape(32, 32, 3))
    Image.fromarray(np.arange(1024, dtype=np.uint16).reshape(32, 32)).save(deep, "PNG")
    kinds = [saved(kind) for kind in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "AVIF", "TGA", "ICO")]
    kinds += [saved("TIFF", compression="tiff_lzw"), saved("TIFF", "CMYK"), saved("PNG", "P"), npy.getvalue()]
    kinds += [deep.getvalue(), saved("JPEG2000"), saved("PCX"), saved("QOI"), saved("SGI"), saved("DDS")]
    names = ["a.jpg", "b", "c.tif", "d.npy", "e.txt", "f.png", "\udce9.png", "g.bin"]
    for seed in range(MANY):
        rng, top = random.Random(seed), tmp_path / str(seed)
        write_folder(top, each=2)
        for _ in range(4):
            (top / rng.choice(("cat", "dog")) / rng.choice(names)).write_bytes(damage(rng.choice(kinds), rng))
        data = ImageData(source="folder", path=str(top), max_corrupt=rng.choice((0.0, 0.5, 1.0)), image_size=8)
        channels = rng.choice((1, 3, 3, 4))
        withstands(lambda data=data, channels=channels: load_split(data, channels), seed)  # type: ignore[misc]


@pytest.mark.slow
def test_folders_of_any_layout_are_read_or_refused(tmp_path: Path) -> None:
    names = ["train", "test", "val", "cat", "dog", ".hidden", "__MACOSX", "data", "Train", "unknown"]
    image = encode(picture(0, (8, 8)))
    for seed in range(MANY):
        rng, top = random.Random(seed), tmp_path / str(seed)
        top.mkdir()
        folders = [top]
        for _ in range(rng.randint(1, 12)):
            below = rng.choice(folders[-4:]) / rng.choice(names)
            if not below.exists():
                below.symlink_to(rng.choice(folders)) if rng.random() < 0.15 else below.mkdir()
            folders.append(below)
            for i in range(rng.choice((0, 0, 2, 3))):
                (below / f"{i}.png").write_bytes(image)
        data = ImageData(
            source=rng.choice(("folder", "files")), path=str(top), layout=rng.choice((None, "splits", "classes"))
        )
        withstands(lambda data=data: (load_split(data, 3), load_test(data, 3)), seed)  # type: ignore[misc]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["parquet", "tar"])
def test_packed_images_withstand_damage(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write = {"parquet": write_parquet, "tar": write_tar}[kind]
    whole = write(tmp_path / f"whole.{kind}", [0, 1] * 3).read_bytes()  # type: ignore[operator]
    source = {"parquet": "parquet", "tar": "webdataset"}[kind]
    for seed in range(MANY):
        file = tmp_path / f"{seed}.{kind}"
        file.write_bytes(damage(whole, random.Random(seed)))
        data = ImageData(source=source, path=str(file), max_corrupt=1.0, image_size=8)
        withstands(lambda data=data: load_split(data, 3), seed)  # type: ignore[misc]
        file.unlink()


@pytest.mark.slow
def test_archives_withstand_damage(tmp_path: Path) -> None:
    documents = {f"{i}.json": json.dumps(document(i)).encode() for i in range(100)}
    for seed in range(MANY):
        rng, out = random.Random(seed), io.BytesIO()
        broken = rng.choice(list(documents))
        with tarfile.open(fileobj=out, mode="w") as tar:
            for name, member in documents.items():
                member = damage(member, rng) if name == broken and seed % 2 else member
                info = tarfile.TarInfo(name)
                info.size = len(member)
                tar.addfile(info, io.BytesIO(member))
        data = out.getvalue() if seed % 2 else damage(out.getvalue()[:20_000], rng)
        file = tmp_path / "a.tar.gz"
        file.write_bytes(gzip.compress(data, 1) if seed % 3 else data)
        withstands(lambda file=file: read_archive(file), seed)  # type: ignore[misc]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv", "json", "jsonl", "parquet"])
def test_tables_withstand_damage(tmp_path: Path, kind: str) -> None:
    space = load_space("tiny")
    rng = random.Random(0)
    rows = [
        {name: rng.choice(list(d.choices)) for name, d in space.distributions.items()} | {"accuracy": rng.random()}
        for _ in range(10)
    ]
    if kind == "csv":
        lines = [",".join(rows[0])] + [",".join(map(str, row.values())) for row in rows]
        whole = "\n".join(lines).encode()
    elif kind == "parquet":
        import pandas as pd

        sink = io.BytesIO()
        texts = [{name: str(value) for name, value in row.items()} for row in rows]
        pd.DataFrame(texts).set_index(next(iter(texts[0]))).to_parquet(sink)  # with pandas' own record of its index
        whole = sink.getvalue()
    else:
        whole = (json.dumps(rows) if kind == "json" else "\n".join(map(json.dumps, rows))).encode()
    for seed in range(MANY):
        file = tmp_path / f"{seed}.{kind}"
        file.write_bytes(damage(whole, random.Random(seed)))
        withstands(lambda file=file: read_columns(file), seed)  # type: ignore[misc]
        withstands(lambda file=file: Tabular(str(file), space).prepare(), seed)  # type: ignore[misc]
