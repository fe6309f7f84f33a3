"""Pictures of every depth, number of bands and orientation."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_files import encode, picture
from PIL import Image

from effnas.evaluate.data import DatasetImages, ImageData
from effnas.evaluate.data.decode import decode_image
from effnas.evaluate.data.load import load_part, load_split, load_test
from effnas.space.errors import UserError


def folder(path: Path, **fields: Any) -> ImageData:
    return ImageData(source="folder", path=str(path), **fields)


def stored(data: ImageData | DatasetImages, channels: int) -> torch.Tensor:
    """Every image of the training part."""
    split = load_split(data, channels)
    return torch.cat([x for part in (split.train, split.heldout) for x, _ in part.batches(64, device="cpu")])


# -- depth -----------------------------------------------------------------------------------------------


def write_depths(top: Path, high: int, save: Any, count: int = 4) -> list[np.ndarray[Any, Any]]:
    """Two classes of grey ramps; only one image reaches ``high``."""
    ramps = [np.linspace(0, high if i == 1 else high / 3, 64).reshape(8, 8) for i in range(count)]
    for name in ("a", "b"):
        (top / name).mkdir(parents=True)
        for i, ramp in enumerate(ramps):
            save(ramp, top / name / f"{i}")
    return ramps


def save_png(ramp: Any, path: Path) -> None:
    Image.fromarray(ramp.astype(np.uint16)).save(path.with_suffix(".png"))


def save_tiff(ramp: Any, path: Path) -> None:
    Image.fromarray(ramp.astype(np.uint16)).save(path.with_suffix(".tif"))


def save_big_endian(ramp: Any, path: Path) -> None:
    Image.frombytes("I;16B", (8, 8), ramp.astype(">u2").tobytes()).save(path.with_suffix(".tif"))


def save_int32(ramp: Any, path: Path) -> None:
    Image.fromarray(ramp.astype(np.int32)).save(path.with_suffix(".tif"))


def save_float(ramp: Any, path: Path) -> None:
    Image.fromarray(ramp.astype(np.float32)).save(path.with_suffix(".tif"))


def save_npy(ramp: Any, path: Path) -> None:
    np.save(path.with_suffix(".npy"), ramp.astype(np.uint16))


def save_colour_tiff(ramp: Any, path: Path) -> None:
    path.with_suffix(".tif").write_bytes(tiff(np.stack([ramp.astype(np.uint16)] * 3, -1), photometric=2))


def png(samples: np.ndarray[Any, Any], colour: int, filters: tuple[int, ...] = (0, 1, 2, 3, 4)) -> bytes:
    """A PNG file of 16 bits and colour, its rows filtered in turn; Pillow writes none."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, bands = samples.shape
    rows = samples.astype(">u2").tobytes()
    plain = np.zeros((height + 1, width + 1, bands * 2), int)
    plain[1:, 1:] = np.frombuffer(rows, np.uint8).reshape(height, width, bands * 2)
    body = b""
    for y in range(height):
        kind = filters[y % len(filters)]
        left, above, between = plain[y + 1, :-1], plain[y, 1:], plain[y, :-1]
        guess = left + above - between
        near = np.stack([left, above, between])
        nearest = np.take_along_axis(near, np.abs(near - guess).argmin(0)[None], 0)[0]
        guesses = (0 * left, left, above, (left + above) // 2, nearest)
        body += bytes([kind]) + ((plain[y + 1, 1:] - guesses[kind]) % 256).astype(np.uint8).tobytes()
    head = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")


def save_colour_png(ramp: Any, path: Path) -> None:
    path.with_suffix(".png").write_bytes(png(np.stack([ramp.astype(np.uint16)] * 3, -1), 2))


def save_transparent_png(ramp: Any, path: Path) -> None:
    path.with_suffix(".png").write_bytes(png(np.stack([ramp.astype(np.uint16)] * 2, -1), 4))


SAVERS = (save_png, save_tiff, save_big_endian, save_int32, save_float, save_npy, save_colour_tiff, save_colour_png)
SAVERS += (save_transparent_png,)


@pytest.mark.parametrize("save", SAVERS)
@pytest.mark.parametrize(("high", "white"), [(255, 255), (4095, 4095), (4000, 4095), (1023, 1023), (65535, 65535)])
def test_samples_are_scaled_by_the_bit_depth_that_holds_them(
    tmp_path: Path, save: Any, high: int, white: int, caplog: pytest.LogCaptureFixture
) -> None:
    ramps = write_depths(tmp_path, high, save)
    images = stored(folder(tmp_path), 1)[:, 0].numpy()
    for ramp in ramps:  # every one by the same factor, though only one reaches the white of the set
        wanted = ramp.astype(np.uint16) * (255 / white)
        assert min(np.abs(image - wanted).max() for image in images) <= 1
    assert f"{tmp_path}: samples of more than 8 bits go up to {high:,}: they are taken as " in caplog.text
    assert f"white is {white:,}" in caplog.text


def test_floats_up_to_one_are_fractions(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ramps = write_depths(tmp_path, 1, save_float)
    images = stored(folder(tmp_path), 3)[:, 1].numpy()
    assert min(np.abs(image - ramps[1] * 255).max() for image in images) <= 1
    assert "they are taken as floats, white is 1" in caplog.text


def test_the_test_part_is_scaled_as_the_training_part(tmp_path: Path) -> None:
    write_depths(tmp_path / "train", 4095, save_png)
    write_depths(tmp_path / "test", 200, save_png)
    for test in (
        load_test(folder(tmp_path), 1),
        load_part(folder(tmp_path), "test", 1, resolution=8, num_classes=2).images,
    ):
        assert test is not None
        assert next(test.batches(8, device="cpu"))[0].max() == round(200 * 255 / 4095)


@pytest.mark.parametrize("memory_mb", [0, 100])
def test_streamed_images_are_scaled_alike(tmp_path: Path, memory_mb: int) -> None:
    write_depths(tmp_path, 4095, save_tiff)
    assert stored(folder(tmp_path, memory_mb=memory_mb, workers=0), 1).max() == 255


@pytest.mark.parametrize("worst", [-1, float("nan"), float("inf")])
def test_samples_that_have_no_depth(tmp_path: Path, worst: float) -> None:
    write_depths(tmp_path, 1, lambda ramp, path: save_float(np.where(ramp == ramp.max(), worst, ramp), path))
    with pytest.raises(
        UserError, match=r"8 of 8 images .*/a/1.tif: samples from .* to .*: they must be 0 to 1, or 0 t"
    ):
        load_split(folder(tmp_path), 1)


def test_eight_bits_are_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_depths(tmp_path, 100, lambda ramp, path: Image.fromarray(ramp.astype(np.uint8)).save(f"{path}.png"))
    assert stored(folder(tmp_path), 1).max() == 100
    assert not caplog.records


# -- orientation -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_every_orientation_is_turned_upright(orientation: int, kind: str) -> None:
    pixels = np.zeros((16, 16), dtype=np.uint8)
    pixels[:8, :8], pixels[:8, 8:] = 250, 120  # no two of its turns are alike
    exif = Image.Exif()
    exif[0x0112] = orientation
    out = io.BytesIO()
    Image.fromarray(pixels).convert("RGB").save(out, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    turns: dict[int, Any] = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.T,
        6: np.rot90(pixels, -1),
        7: pixels[::-1, ::-1].T,
        8: np.rot90(pixels),
    }
    upright = decode_image(out.getvalue(), 1, 16)[0].astype(int)
    assert np.abs(upright - turns[orientation]).max() < 40
    bands = np.repeat(pixels[..., None], 5, -1)
    assert (decode_image(tiff(bands, orientation=orientation), 5, 16)[4] == turns[orientation]).all()


# -- bands -----------------------------------------------------------------------------------------------


def tiff(
    samples: np.ndarray[Any, Any],
    *,
    order: str = "<",
    compression: int = 1,
    planar: int = 1,
    photometric: int = 1,
    predictor: int = 1,
    rows: int = 5,
    tile: int = 0,
    orientation: int = 1,
) -> bytes:
    """A TIFF file as other programs write it: bands, byte orders, strips and tiles that Pillow does not."""
    height, width, bands = samples.shape
    planes = [samples] if planar == 1 else [samples[..., band : band + 1] for band in range(bands)]
    blocks = []
    for plane in planes:
        if tile:
            padded = np.pad(plane, ((0, -height % tile), (0, -width % tile), (0, 0)))
            cut = [padded[y : y + tile, x : x + tile] for y in range(0, height, tile) for x in range(0, width, tile)]
        else:
            cut = [plane[y : y + rows] for y in range(0, height, rows)]
        if predictor == 3:
            cut = [float_differences(block, plane.shape[-1]) for block in cut]
        if predictor == 2:
            cut = [np.diff(block, axis=1, prepend=np.zeros_like(block[:, :1])) for block in cut]
        blocks += [block.astype(block.dtype.newbyteorder(order)).tobytes() for block in cut]
    if compression == 8:
        blocks = [zlib.compress(block) for block in blocks]
    places = [8 + sum(map(len, blocks[:i])) for i in range(len(blocks))]
    kind = {"u": 1, "i": 2, "f": 3}[samples.dtype.kind]
    tags: dict[int, tuple[int, ...]] = {256: (width,), 257: (height,), 258: (samples.dtype.itemsize * 8,) * bands}
    tags |= {259: (compression,), 262: (photometric,), 274: (orientation,), 277: (bands,), 284: (planar,)}
    tags |= {317: (predictor,), 339: (kind,) * bands}
    extra = bands - (3 if photometric == 2 else 1)
    tags |= {338: (0,) * extra} if extra else {}
    sizes = tuple(map(len, blocks))
    tags |= {322: (tile,), 323: (tile,), 324: tuple(places), 325: sizes} if tile else {273: tuple(places), 278: (rows,)}
    tags |= {} if tile else {279: sizes}
    body = b"".join(blocks)
    body += bytes(len(body) % 2)
    table = struct.pack(order + "H", len(tags))
    for tag, values in sorted(tags.items()):
        letter = "I" if tag in (273, 279, 324, 325) else "H"
        packed = struct.pack(f"{order}{len(values)}{letter}", *values)
        if len(packed) > 4:
            place, body = 8 + len(body), body + packed + bytes(len(packed) % 2)
            packed = struct.pack(order + "I", place)
        table += struct.pack(order + "HHI", tag, 4 if letter == "I" else 3, len(values)) + packed.ljust(4, b"\0")
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(order + "I", 8 + len(body)) + body + table + bytes(4)


def float_differences(block: np.ndarray[Any, Any], bands: int) -> np.ndarray[Any, Any]:
    rows, size = len(block), block.dtype.itemsize
    heaviest = block.astype(block.dtype.newbyteorder(">")).reshape(rows, -1).view(np.uint8).reshape(rows, -1, size)
    apart = heaviest.swapaxes(1, 2).reshape(rows, -1, bands)
    return np.diff(apart, axis=1, prepend=np.zeros_like(apart[:, :1])).reshape(rows, -1)


def bands_of(count: int, dtype: Any = np.uint8, seed: int = 0) -> np.ndarray[Any, Any]:
    high = 256 if dtype == np.uint8 else 4096
    return np.random.RandomState(seed).randint(0, high, (20, 20, count)).astype(dtype)


@pytest.mark.parametrize("count", [2, 4, 5, 8, 13])
@pytest.mark.parametrize(
    "how",
    [
        {},
        {"order": ">"},
        {"compression": 8},
        {"compression": 8, "predictor": 2},
        {"planar": 2},
        {"planar": 2, "compression": 8, "predictor": 2},
        {"tile": 16, "compression": 8, "predictor": 2, "order": ">"},
        {"tile": 16, "planar": 2},
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.uint32, np.float32, np.float64])
def test_tiff_files_of_many_bands(count: int, how: dict[str, Any], dtype: Any) -> None:
    if np.dtype(dtype).kind == "f" and "predictor" in how:
        how = {**how, "predictor": 1 if "tile" in how else 3}
    samples = bands_of(count, dtype)
    white = 255 if dtype == np.uint8 else 4095
    decoded = decode_image(tiff(samples, **how), count, 20, white=white)
    assert np.abs(decoded.transpose(1, 2, 0) - samples.astype(float) * (255 / white)).max() <= 0.5001


@pytest.mark.parametrize(("colour", "bands"), [(2, 3), (6, 4)])
def test_png_files_of_deep_colour(colour: int, bands: int) -> None:
    samples = np.random.RandomState(0).randint(0, 4096, (17, 17, bands)).astype(np.uint16)
    for filters in ((0,), (1,), (2,), (3,), (4,), (4, 3, 2, 1, 0)):
        decoded = decode_image(png(samples, colour, filters), 3, 17, white=4095).transpose(1, 2, 0)
        assert np.abs(decoded - samples[..., :3] * (255 / 4095)).max() <= 0.5001
    with Image.open(io.BytesIO(png(samples, colour))) as image:  # what Pillow makes of it
        assert (np.asarray(image) == samples >> 8).all()


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_arrays_in_files(tmp_path: Path, first: bool, dtype: Any) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(4):
            samples = bands_of(6, dtype, i) if np.dtype(dtype).kind == "u" else bands_of(6, np.uint8, i) / dtype(255)
            np.save(tmp_path / name / f"{i}.npy", np.moveaxis(samples, -1, 0) if first else samples)
    images = stored(folder(tmp_path), 6)
    assert images.shape == (8, 6, 20, 20)
    wanted = bands_of(6, np.uint8 if np.dtype(dtype).kind == "f" else dtype, 2)
    wanted = wanted if dtype != np.uint16 else (wanted * (255 / 4095) + 0.5).astype(np.uint8)
    assert any(np.abs(image.numpy().transpose(1, 2, 0) - wanted.astype(float)).max() <= 1 for image in images)
    pixels = load_split(folder(tmp_path), 6).train.pixels
    assert len(pixels.mean) == len(pixels.std) == 6
    train = next(load_split(folder(tmp_path), 6).train.batches(64, device="cpu"))[0].double()
    assert pixels.mean == pytest.approx(train.mean((0, 2, 3)).tolist())
    assert pixels.std == pytest.approx(train.permute(1, 0, 2, 3).flatten(1).std(1, correction=0).tolist())


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_a_set_of_any_ordinary_mode_is_read_in_grey_and_colour(tmp_path: Path, mode: str) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(3):
            picture(i, mode="RGB").convert(mode).save(tmp_path / name / f"{i}.{'tif' if mode == 'CMYK' else 'png'}")
    for channels in (1, 3):
        assert stored(folder(tmp_path), channels).shape[1] == channels


def test_alpha_is_a_channel_where_the_network_takes_four(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(3):
            picture(i, mode="RGBA").save(tmp_path / name / f"{i}.png")
    assert stored(folder(tmp_path), 4)[:, 3].unique().tolist() == [255]
    assert stored(folder(tmp_path), 3).shape[1] == 3


@pytest.mark.parametrize(("bands", "channels", "said"), [(13, 3, 13), (13, 12, 13), (5, 1, 5), (2, 3, 2), (4, 13, 4)])
def test_a_network_of_other_channels_is_one_message(tmp_path: Path, bands: int, channels: int, said: int) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(3):
            (tmp_path / name / f"{i}.tif").write_bytes(tiff(bands_of(bands)))
    rule = (
        f": images have {said} channels; the architecture takes {channels}: set space.in_channels={said} in a search, "
        f"--in-channels {said} in effnas train$"
    )
    with pytest.raises(UserError, match=rule):
        load_split(folder(tmp_path), channels)


def test_arrays_from_python_of_many_channels() -> None:
    images, labels = np.stack([bands_of(7, seed=i) for i in range(8)]), [0, 1] * 4
    for given in (images, torch.from_numpy(images).permute(0, 3, 1, 2), list(images), list(zip(images, labels))):  # noqa: B905
        data = DatasetImages(given if isinstance(given, list) and isinstance(given[0], tuple) else (given, labels))
        assert sorted(x.numpy().tobytes() for x in stored(data, 7)) == sorted(
            np.ascontiguousarray(x.transpose(2, 0, 1)).tobytes() for x in images
        )
    with pytest.raises(UserError, match=r"images have 7 channels; the architecture takes 3: set space.in_channels=7 "):
        load_split(DatasetImages((images, labels)), 3)


# -- what is broken --------------------------------------------------------------------------------------


@pytest.mark.parametrize("save", [lambda: tiff(bands_of(5)), lambda: npy(bands_of(5)), lambda: encode(picture(0))])
def test_cut_files_are_unreadable(tmp_path: Path, save: Any) -> None:
    whole = save()
    for cut in (3, 9, 60, len(whole) // 2):
        with pytest.raises(Exception, match=r".") as caught:
            decode_image(whole[:cut], 3 if whole[:4] == b"\x89PNG" else 5, 20)
        assert not isinstance(caught.value, AssertionError)


def npy(samples: np.ndarray[Any, Any]) -> bytes:
    out = io.BytesIO()
    np.save(out, samples)
    return out.getvalue()


def test_arrays_that_are_no_images() -> None:
    for bad in (np.zeros(5), np.zeros((2, 2, 2, 2)), np.zeros((0, 4)), np.zeros((4, 4), complex)):
        with pytest.raises(ValueError, match=r"an array of .* of the shape .*, which is not an image's"):
            decode_image(npy(bad), 1, 4)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        decode_image(npy(np.array([[print]], dtype=object)), 1, 4)
