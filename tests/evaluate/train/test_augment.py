"""Augmentation: crops, flips, policies, erasing, mixup and CutMix, each against Pillow, NumPy or the paper."""

from __future__ import annotations

import hashlib
import math
import random

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from effnas.evaluate.data.pixels import Pixels
from effnas.evaluate.train.augment import (
    Augment,
    Mix,
    erase_rectangles,
    flip_images,
    random_boxes,
    random_resized_crops,
    resized_crops,
    shift_images,
)
from effnas.evaluate.train.policies import POLICIES, Policy, Step, policy
from effnas.evaluate.train.recipe import Training

RGB = Pixels(3, 24, mean=(125.0, 120.0, 110.0), std=(60.0, 61.0, 62.0))
GREY = Pixels(1, 24, mean=(33.0,), std=(78.0,))


def smooth(count: int, channels: int = 3, side: int = 24, seed: int = 0) -> Tensor:
    """Uint8 images with structure at several scales; their channels differ."""
    noise = torch.rand(count, channels, 6, 6, generator=torch.Generator().manual_seed(seed)) * 255
    return torch.nn.functional.interpolate(noise, size=side, mode="bicubic").clamp(0, 255).byte()


def seeded(seed: int, function, *args):
    torch.manual_seed(seed)
    return function(*args)


# -- the whole -------------------------------------------------------------------------------------


@pytest.mark.parametrize("resolution", [24, 16, 40])
@pytest.mark.parametrize("pixels", [RGB, GREY])
def test_with_everything_off_an_image_is_what_is_measured(pixels: Pixels, resolution: int) -> None:
    images = smooth(5, pixels.channels)
    assert torch.equal(Augment(pixels)(images, resolution), pixels.prepare(images, resolution))


def test_the_result_is_normalised() -> None:
    images = smooth(4)
    result = Augment(RGB)(images, 24)
    expected = (images.numpy() - np.float32([[[125]], [[120]], [[110]]])) / np.float32([[[60]], [[61]], [[62]]])
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_every_policy_follows_the_seed_of_torch_and_nothing_else(name: str, channels: int) -> None:
    pixels = Pixels(channels, 24, (120.0,) * channels, (60.0,) * channels, flip=True)
    augment = Augment(pixels, name, crop_scale=(0.3, 1.0), erase=0.5)
    images = smooth(32, channels)
    before = images.clone()
    random.seed(1)
    np.random.seed(1)
    first = seeded(7, augment, images, 20)
    random.seed(2)
    np.random.seed(2)
    states = random.getstate(), np.random.get_state()[1].tolist()
    assert torch.equal(first, seeded(7, augment, images, 20))
    assert states == (random.getstate(), np.random.get_state()[1].tolist())
    assert not torch.equal(first, seeded(8, augment, images, 20))
    assert torch.equal(images, before), "the stored images belong to the set"
    assert first.shape == (32, channels, 20, 20)
    assert first.dtype == torch.float32
    levels = first * 60 + 120
    assert levels.min() >= -1e-3
    assert levels.max() <= 255 + 1e-3


@pytest.mark.parametrize("name", POLICIES[1:])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_policy_changes_most_images_and_each_in_its_own_way(name: str, channels: int) -> None:
    same = smooth(1, channels, 32).expand(256, -1, -1, -1)
    plain = Augment(Pixels(channels, 32, (0.0,) * channels, (1.0,) * channels))(same, 32)
    result = seeded(
        3, Augment(Pixels(channels, 32, (0.0,) * channels, (1.0,) * channels), name, magnitude=15), same, 32
    )
    changed = (result - plain).abs().mean((1, 2, 3)) > 1
    assert 0.5 < changed.float().mean() < 1, "and some are left alone"
    assert len({image.numpy().tobytes() for image in result}) > 25, "a batch that shared one draw would have 1"


def test_the_recipe_says_what_is_done() -> None:
    recipe = Training(augment="randaugment", augment_magnitude=4, augment_layers=3, crop_scale=[0.5, 1], erase=0.1)
    assert Augment.of(recipe, RGB) == Augment(RGB, "randaugment", 4, 3, (0.5, 1.0), 0.1)


# -- shifts, flips, crops, erasing -----------------------------------------------------------------


def test_shifts_move_by_all_offsets_and_take_in_zeros() -> None:
    images = smooth(200, 3, 8) // 2 + 100  # nowhere zero
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)))
    offsets = []
    for image, around in zip(seeded(0, shift_images, images, 1).numpy(), padded, strict=True):
        fits = [(y, x) for y in range(3) for x in range(3) if (around[:, y : y + 8, x : x + 8] == image).all()]
        assert len(fits) == 1
        offsets += fits
    counts = np.unique(offsets, axis=0, return_counts=True)[1]
    assert len(counts) == 9
    assert counts.min() > 200 / 9 - 4 * math.sqrt(200 / 9)


def test_half_of_the_images_are_mirrored() -> None:
    images = smooth(1000, 1, 6)
    result = seeded(0, flip_images, images)
    mirrored = (result == images.flip(-1)).flatten(1).all(1)
    assert ((result == images).flatten(1).all(1) | mirrored).all()
    assert abs(int(mirrored.sum()) - 500) < 4 * math.sqrt(250)


def test_crops_have_the_areas_and_aspects_of_the_field() -> None:
    boxes, found = seeded(0, random_boxes, 20_000, (0.08, 1.0), (3 / 4, 4 / 3))
    left, top, width, height = boxes.T
    assert found.float().mean() > 0.999
    assert min(left.min(), top.min()) >= 0
    assert max((left + width).max(), (top + height).max()) <= 1 + 1e-6
    area, aspect = width * height, width / height
    assert 0.08 - 1e-6 < area.min() < 0.09
    assert area.max() <= 1 + 1e-6
    assert 3 / 4 - 1e-5 < aspect.min() < 0.76
    assert 1.32 < aspect.max() < 4 / 3 + 1e-5
    assert abs(float(aspect.log().mean())) < 0.005, "as likely wide as high"
    # Where every box fits, the area is uniform; and the free room is used uniformly.
    boxes, found = seeded(1, random_boxes, 20_000, (0.1, 0.5), (3 / 4, 4 / 3))
    assert found.all()
    left, top, width, height = boxes.T
    for value, low, high in ((width * height, 0.1, 0.5), (left / (1 - width), 0, 1), (top / (1 - height), 0, 1)):
        quartiles = torch.quantile(value, torch.tensor([0.25, 0.5, 0.75])).numpy()
        np.testing.assert_allclose(quartiles, low + (high - low) * np.array([0.25, 0.5, 0.75]), atol=0.02)


def test_a_box_that_never_fits_is_the_whole_image() -> None:
    boxes, found = random_boxes(50, (1.0, 1.0), (3 / 4, 4 / 3))
    assert not found.any()
    assert torch.equal(boxes, torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(50, 4))
    images = smooth(3)
    np.testing.assert_allclose(random_resized_crops(images, 24, (1.0, 1.0)).numpy(), images.numpy(), atol=1e-3)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("resolution", [7, 24, 60])
def test_crops_are_pillows(interpolation: str, resolution: int) -> None:
    images = torch.randint(0, 256, (4, 3, 48, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.25, 0.5, 0.5, 0.375], [0.1, 0.2, 0.61, 0.7], [0.9, 0.9, 0.02, 0.03]])
    result = resized_crops(images, boxes, resolution, interpolation).numpy()
    for image, (left, top, width, height), got in zip(images.numpy(), (48 * boxes).tolist(), result, strict=True):
        box = (left, top, left + width, top + height)
        for channel, values in zip(image, got, strict=True):
            picture = Image.fromarray(channel.astype(np.float32))
            expected = picture.resize((resolution,) * 2, Image.Resampling[interpolation.upper()], box=box)
            np.testing.assert_allclose(values, np.asarray(expected).clip(0, 255), atol=0.02)


def test_images_of_a_batch_are_cropped_apart() -> None:
    same = smooth(1).expand(64, -1, -1, -1)
    result = seeded(0, Augment(RGB, crop_scale=(0.08, 1.0)), same, 16)
    assert len({image.numpy().tobytes() for image in result}) == 64


def test_erasing_puts_the_mean_colour_into_a_rectangle() -> None:
    images = torch.rand(2000, 1, 32, 32, generator=torch.Generator().manual_seed(0)) + 1
    result = seeded(0, erase_rectangles, images, 0.25)
    gone = result == 0
    assert torch.equal(result[~gone], images[~gone])
    hit = gone.flatten(1).any(1)
    assert abs(int(hit.sum()) - 500) < 4 * math.sqrt(2000 * 0.25 * 0.75) + 5  # a box is not found now and then
    for rectangle in gone[hit][:, 0]:
        rows, columns = rectangle.any(1), rectangle.any(0)
        assert torch.equal(rectangle, rows[:, None] & columns[None, :])
    area = gone[hit].float().mean((1, 2, 3))
    assert 0.02 - 0.015 < area.min() < 0.05
    assert 0.28 < area.max() < 0.33 + 0.02
    assert torch.equal(erase_rectangles(images, 0.0), images)


# -- policies --------------------------------------------------------------------------------------


def pillow(name: str, value: float, image: Image.Image) -> Image.Image:
    """The published operation, by the library that the papers used."""
    affine = {
        "shear_x": (1, value, 0, 0, 1, 0),
        "shear_y": (1, 0, 0, value, 1, 0),
        "translate_x": (1, 0, value * image.width, 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, value * image.height),
    }
    if name in affine:
        return image.transform(image.size, Image.Transform.AFFINE, affine[name], Image.Resampling.BILINEAR)
    factors = {
        "brightness": ImageEnhance.Brightness,
        "color": ImageEnhance.Color,
        "contrast": ImageEnhance.Contrast,
        "sharpness": ImageEnhance.Sharpness,
    }
    if name in factors:
        return factors[name](image).enhance(value)
    return {
        "identity": lambda: image,
        "rotate": lambda: image.rotate(value, Image.Resampling.BILINEAR),
        "posterize": lambda: ImageOps.posterize(image, int(value)),
        "solarize": lambda: ImageOps.solarize(image, int(value)),
        "auto_contrast": lambda: ImageOps.autocontrast(image),
        "equalize": lambda: ImageOps.equalize(image),
    }[name]()


OPERATIONS = [
    *[(n, v) for n in ("shear_x", "shear_y") for v in (0.3, -0.99)],
    *[(n, v) for n in ("translate_x", "translate_y") for v in (0.45, -0.25)],
    *[("rotate", v) for v in (30, -135)],
    *[(n, v) for n in ("brightness", "color", "contrast", "sharpness") for v in (0.01, 0.1, 1.0, 1.9)],
    *[("posterize", v) for v in (8, 6, 4, 2, 1)],
    *[("solarize", v) for v in (256, 128, 26, 0)],
    *[(n, 0) for n in ("identity", "auto_contrast", "equalize")],
]


@pytest.mark.parametrize(("name", "value"), OPERATIONS)
def test_operations_are_pillows(name: str, value: float) -> None:
    images = smooth(3, side=32, seed=5) // 2 + 40  # room for the contrast to grow
    one = Policy(((Step(name, (value, value)),),))
    result = (one(images.float() / 255) * 255).permute(0, 2, 3, 1).numpy()
    if name.startswith(("shear", "translate", "rotate")):  # how much of a pixel comes from within
        inside = one(torch.ones(1, 1, 32, 32))[0, 0].numpy()
    else:
        inside = np.ones((32, 32))
    for image, got in zip(images.permute(0, 2, 3, 1).numpy(), result, strict=True):
        expected = np.asarray(pillow(name, value, Image.fromarray(image))).astype(np.float32)
        # Pillow rounds in between; and where a pixel is partly from outside, it repeats the border or leaves black.
        np.testing.assert_allclose(got[inside > 0.9999], expected[inside > 0.9999], atol=2)
        assert (expected[inside < 0.0001] == 0).all()
    assert (inside > 0.9999).mean() > 0.3


@pytest.mark.parametrize(("name", "value"), [o for o in OPERATIONS if o[0] not in ("color", "contrast")])
def test_grey_images_go_through_the_same_operations(name: str, value: float) -> None:
    grey = smooth(2, 1)
    one = Policy(((Step(name, (value, value)),),))
    coloured = one(grey.expand(-1, 3, -1, -1).float() / 255)
    torch.testing.assert_close(one(grey.float() / 255).expand(-1, 3, -1, -1), coloured)


def test_grey_images_have_contrast_but_no_colour() -> None:
    grey = smooth(2, 1).float() / 255
    assert torch.equal(Policy(((Step("color", (0.1, 0.1)),),))(grey.clone()), grey)
    mean = grey.mean((1, 2, 3), keepdim=True)
    torch.testing.assert_close(Policy(((Step("contrast", (0.5, 0.5)),),))(grey.clone()), (grey + mean) / 2)


def test_a_channel_of_one_value_keeps_it() -> None:
    white = torch.ones(2, 3, 8, 8)
    for name in ("auto_contrast", "equalize"):
        assert torch.equal(Policy(((Step(name),),))(white.clone()), white)


def test_rows_sides_and_chances_are_drawn_for_each_image() -> None:
    steps = Step("brightness", (0.25, 0.5), 0.5), Step("identity")
    rows = (steps, (Step("brightness", (0.75, 0.75)), Step("brightness", (0.1, 0.1), 0.2)))
    levels = seeded(0, Policy(rows), torch.ones(4000, 1, 4, 4))[:, 0, 0, 0].numpy()
    expected = {1.0: 1 / 4, 0.25: 1 / 8, 0.5: 1 / 8, 0.75: 0.4, 0.075: 0.1}
    values, counts = np.unique(levels.round(4), return_counts=True)
    assert {round(float(v), 4) for v in values} == set(expected)
    for value, count in zip(values, counts, strict=True):
        share = expected[round(float(value), 4)]
        assert abs(count - 4000 * share) < 4 * math.sqrt(4000 * share * (1 - share))
    twice = seeded(0, Policy((rows[1],), draws=2), torch.ones(4000, 1, 4, 4))[:, 0, 0, 0]
    assert (twice < 0.57).all(), "0.75 is applied in each of two draws"


# Digests of the tables of torchvision 0.29 (``AutoAugment(policy).policies``), written as below, names in snake case.
TABLES = {"imagenet": "b7cabe6b58fcfa67", "cifar10": "495557717c5f6415", "svhn": "e549690e24a607d3"}


@pytest.mark.parametrize("data", TABLES)
def test_autoaugment_has_the_published_tables(data: str) -> None:
    from kornia.augmentation.auto.autoaugment import autoaugment

    table = getattr(autoaugment, f"{data}_policy")
    text = "\n".join(" ".join(f"{n} {c:g} {'-' if m is None else m}" for n, c, m in pair) for pair in table)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == TABLES[data]
    rows = policy(f"autoaugment_{data}".removesuffix("_imagenet"), 9, 2, 32).rows
    assert len(rows) == 25
    assert [[s.chance for s in row] for row in rows] == [[c for _, c, _ in pair] for pair in table]


def test_autoaugment_has_the_ranges_of_the_paper() -> None:
    imagenet = policy("autoaugment", 9, 2, 224).rows
    assert imagenet[0] == (Step("posterize", (7, 7), 0.4), Step("rotate", (27.0, -27.0), 0.6))
    assert imagenet[1] == (Step("solarize", (128, 128), 0.6), Step("auto_contrast", (0, 0), 0.6))
    assert imagenet[13] == (Step("solarize", (0, 0), 0.6), Step("equalize", (0, 0), 1.0)), "invert is solarize at 0"
    assert imagenet[14][0].values == pytest.approx((0.82, 0.82))  # color 4
    assert imagenet[14][1] == Step("contrast", (0.1 + 1.8 * 0.8,) * 2, 1.0)
    assert imagenet[18][0] == Step("shear_x", (0.15, -0.15), 0.6)
    cifar10 = policy("autoaugment_cifar10", 9, 2, 32).rows
    assert cifar10[1][1].name == "translate_x"
    assert cifar10[1][1].values == pytest.approx((0.9 * 150 / 331, -0.9 * 150 / 331))
    svhn = policy("autoaugment_svhn", 9, 2, 32).rows
    assert svhn[0] == (Step("shear_x", (0.12, -0.12), 0.9), Step("solarize", (0, 0), 0.2))


def test_randaugment_has_its_operations_at_one_strength() -> None:
    nine = policy("randaugment", 9, 3, 224)
    assert nine.draws == 3
    values = {row[0].name: row[0].values for row in nine.rows}
    assert {row[0].chance for row in nine.rows} == {1.0}
    assert values == {  # the 14 of the paper; magnitudes[9] of torchvision.transforms.RandAugment, solarize of 256
        "identity": (0, 0),
        "auto_contrast": (0, 0),
        "equalize": (0, 0),
        "shear_x": pytest.approx((0.09, -0.09)),
        "shear_y": pytest.approx((0.09, -0.09)),
        "translate_x": pytest.approx((0.135952, -0.135952), rel=1e-4),
        "translate_y": pytest.approx((0.135952, -0.135952), rel=1e-4),
        "rotate": pytest.approx((9, -9)),
        "brightness": pytest.approx((1.27, 0.73)),
        "color": pytest.approx((1.27, 0.73)),
        "contrast": pytest.approx((1.27, 0.73)),
        "sharpness": pytest.approx((1.27, 0.73)),
        "posterize": (7, 7),
        "solarize": pytest.approx((179.2, 179.2)),
    }


def test_randaugment_grows_with_its_magnitude_from_almost_nothing() -> None:
    images = smooth(512, 3, 24)
    pixels = Pixels(3, 24, (0.0,) * 3, (1.0,) * 3)
    plain = images.float()
    weak, middle, strong = (
        float((seeded(0, Augment(pixels, "randaugment", m, 1), images, 24) - plain).abs().mean()) for m in (1, 10, 30)
    )
    assert weak < middle < strong
    rows = [row for row in policy("randaugment", 0, 1, 24).rows if row[0].name not in ("auto_contrast", "equalize")]
    torch.testing.assert_close(Policy(tuple(rows))(plain / 255) * 255, plain, atol=1e-3, rtol=0)


def test_trivialaugment_has_the_wide_space() -> None:
    rows = [row[0] for row in policy("trivialaugment", 9, 2, 224).rows]
    assert len(rows) == 14 * 31
    strongest = {step.name: step.values for step in rows[-14:]}
    assert strongest["rotate"] == (135, -135)
    assert strongest["shear_x"] == (0.99, -0.99)
    assert strongest["translate_y"] == pytest.approx((32 / 224, -32 / 224))
    assert strongest["color"] == pytest.approx((1.99, 0.01))
    assert strongest["posterize"] == (2, 2)
    assert strongest["solarize"] == (0, 0)
    assert sorted({step.values[0] for step in rows if step.name == "posterize"}) == [2, 3, 4, 5, 6, 7, 8]
    small = {row[0].name: row[0].values for row in policy("trivialaugment", 9, 2, 16).rows}
    assert small["translate_x"] == (1, -1), "never beyond the image"


# -- mixing ----------------------------------------------------------------------------------------


def batch(count: int, side: int = 16) -> tuple[Tensor, Tensor]:
    """Image i has the level i everywhere, and its class is i."""
    levels = torch.arange(count)
    return levels.float().view(-1, 1, 1, 1).expand(-1, 3, side, side).contiguous(), levels


def test_without_mixing_labels_stay_labels() -> None:
    images, labels = batch(4)
    mixed, targets = Mix(0.0, 0.0, 10)(images, labels)
    assert mixed is images
    assert targets is labels


def test_mixup_averages_images_as_it_averages_labels() -> None:
    images, labels = batch(5)
    shares = []
    for seed in range(400):
        mixed, targets = seeded(seed, Mix(0.4, 0.0, 7), images, labels)
        assert targets.shape == (5, 7)
        torch.testing.assert_close(targets.sum(1), torch.ones(5))
        torch.testing.assert_close(mixed[:, 0, 0, 0], targets @ torch.arange(7.0))
        assert (mixed == mixed[:, :1, :1, :1]).all()
        shares.append(float(targets[0, 0]))
    # Beta(α, α): mean 1/2, variance 1 / (4 (2α + 1))
    assert np.mean(shares) == pytest.approx(0.5, abs=0.06)
    assert np.var(shares) == pytest.approx(1 / (4 * 1.8), rel=0.12)
    assert torch.equal(images, batch(5)[0])


def test_cutmix_pastes_the_area_that_the_labels_say() -> None:
    images, labels = batch(6)
    stays = []
    for seed in range(300):
        mixed, targets = seeded(seed, Mix(0.0, 1.0, 6), images, labels)
        torch.testing.assert_close(targets.sum(1), torch.ones(6))
        partner = (mixed == images.flip(0)).float().mean((1, 2, 3))
        torch.testing.assert_close(partner, targets.flip(1).diagonal())
        torch.testing.assert_close(1 - partner, (mixed == images).float().mean((1, 2, 3)))
        where = mixed[0, 0] == 5
        assert torch.equal(where, where.any(1)[:, None] & where.any(0)[None, :]), "a rectangle"
        stays.append(float(targets[0, 0]))
    assert min(stays) < 0.2
    assert max(stays) > 0.95
    assert torch.equal(images, batch(6)[0])


def test_with_both_a_batch_takes_one_of_them() -> None:
    images, labels = batch(4)
    cut = 0
    for seed in range(200):
        mixed, targets = seeded(seed, Mix(5.0, 5.0, 4), images, labels)
        assert torch.equal(mixed, seeded(seed, Mix(5.0, 5.0, 4), images, labels)[0])
        pure = ((mixed == images) | (mixed == images.flip(0))).all()
        cut += int(pure)
        torch.testing.assert_close(mixed.mean((1, 2, 3)), targets @ torch.arange(4.0))
    assert abs(cut - 100) < 4 * math.sqrt(50)


def test_mixed_labels_work_with_label_smoothing() -> None:
    images, labels = batch(4)
    _, targets = seeded(1, Mix(0.4, 0.0, 4), images, labels)
    logits = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    loss = torch.nn.functional.cross_entropy(logits, targets, label_smoothing=0.1)
    smoothed = 0.9 * targets + 0.1 / 4
    assert float(loss) == pytest.approx(float(-(smoothed * logits.log_softmax(1)).sum(1).mean()), rel=1e-5)
