"""Images in files: folders of classes, parquet files, WebDataset tars."""

from __future__ import annotations

import io
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def picture(seed: int, size: tuple[int, int] = (32, 32), mode: str = "RGB") -> Image.Image:
    noise = np.random.RandomState(seed).randint(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(noise).convert(mode)


def encode(image: Image.Image, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


def write_folder(root: Path, classes: tuple[str, ...] = ("cat", "dog"), each: int = 10, kind: str = "jpg") -> Path:
    for name in classes:
        (root / name).mkdir(parents=True)
        for i in range(each):
            picture(1000 * zlib.crc32(name.encode()) % 2**31 + i).save(root / name / f"{i}.{kind}")
    return root


def write_parquet(path: Path, labels: Any, *, image: str = "image", label: str = "label", **columns: Any) -> Path:
    import datasets

    datasets.disable_progress_bars()
    data = {image: [{"bytes": encode(picture(i)), "path": None} for i in range(len(labels))], label: labels}
    features = columns.pop("features", None)
    datasets.Dataset.from_dict(data | columns, features=features).to_parquet(path)
    return path


def write_tar(path: Path, labels: list[int]) -> Path:
    with tarfile.open(path, "w") as tar:
        for i, label in enumerate(labels):
            for name, data in ((f"{i:04d}.jpg", encode(picture(i), "JPEG")), (f"{i:04d}.cls", str(label).encode())):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return path
