import pytest

from effnas.space.architecture import Architecture
from effnas.space.errors import UserError
from effnas.space.multipliers import round_filters, round_repeats
from effnas.space.stage import Stage
from effnas.space.zoo import zoo

NETWORK = Architecture(
    (Stage("mbconv", 16, 1), Stage("mbconv", 40, 2, stride=2, expand_ratio=6), Stage("mbconv", 320, 3)),
    dropout=0.2,
)


@pytest.mark.parametrize(
    ("channels", "width", "expected"),
    [
        (40, 1.1, 48),  # 44 is half-way between 40 and 48: up
        (32, 1.1, 32),  # 35.2: down, and 32 is more than 0.9 · 35.2
        (24, 1.1, 24),  # 26.4: down, 24 ≥ 23.76
        (16, 1.7, 32),  # 27.2: 24 would be less than 0.9 · 27.2 = 24.48
        (1280, 1.1, 1408),
        (32, 0.1, 8),  # never below 8
        (12, 1.0, 12),  # no multiplier, no rounding
        (12, 1.01, 16),  # 12.12: to 16
        (40, 1.21**0.5, 48),  # 1.1 but for the last bit
        (40, 1.1 - 1e-15, 48),
    ],
)
def test_round_filters(channels, width, expected):
    assert round_filters(channels, width) == expected


def test_round_filters_never_falls_and_stays_near():
    previous = 0
    for i in range(10, 4000):
        width = i / 1000 + 1e-4
        rounded = round_filters(100, width)
        assert rounded >= previous
        assert rounded % 8 == 0
        assert rounded >= 0.9 * 100 * width
        previous = rounded


@pytest.mark.parametrize(
    ("repeats", "depth", "expected"),
    [(1, 1.1, 2), (2, 1.4, 3), (5, 1.4, 7), (3, 1.0, 3), (4, 0.1, 1), (3, 1.0000000001, 3), (3, 1.001, 4), (1, 0.5, 1)],
)
def test_round_repeats(repeats, depth, expected):
    assert round_repeats(repeats, depth) == expected


def test_scaled_by_hand():
    scaled = NETWORK.scaled(width=1.1, depth=1.2, resolution=260, dropout=0.3)
    assert [stage.channels for stage in scaled.stages] == [16, 48, 352]
    assert [stage.repeats for stage in scaled.stages] == [2, 3, 4]
    assert (scaled.stem, scaled.head, scaled.resolution, scaled.dropout) == (32, 1408, 260, 0.3)
    assert scaled.stages[1].expand_ratio == 6
    assert scaled.stages[1].stride == 2


def test_fixed_ends_keep_stem_head_and_the_outer_repeats_but_not_their_channels():
    scaled = NETWORK.with_(fixed_ends=True).scaled(width=2.0, depth=2.0, resolution=224)
    assert (scaled.stem, scaled.head) == (32, 1280)
    assert [stage.repeats for stage in scaled.stages] == [1, 4, 3]
    assert [stage.channels for stage in scaled.stages] == [32, 80, 640]
    assert scaled.fixed_ends


def test_no_head_stays_none_and_dropout_stays_where_none_is_given():
    scaled = NETWORK.with_(head=0, dropout=0.35).scaled(width=2.0, depth=1.0, resolution=224)
    assert scaled.head == 0
    assert scaled.dropout == 0.35


def test_ones_are_the_identity_for_any_width():
    odd = NETWORK.with_(stem=13, head=1001, stages=(Stage("conv", 7), Stage("ds", 19, 2)))
    assert odd.scaled(1.0, 1.0, 224) == odd


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: round_filters(0, 1.0), "channels must be at least 1, got 0"),
        (lambda: round_filters(8, 0), r"width multiplier must be in \(0, inf\], got 0"),
        (lambda: round_filters(8, float("nan")), "width multiplier must be a finite number, got nan"),
        (lambda: round_filters(8, 1e12), "width multiplier must be at most 1e9, got 1e\\+12"),
        (lambda: round_repeats(1.5, 1.0), "repeats must be a whole number, got 1.5"),
        (lambda: round_repeats(1, -2.0), r"depth multiplier must be in \(0, inf\], got -2.0"),
        (lambda: NETWORK.scaled(1.0, "x", 224), "depth multiplier must be a finite number, got 'x'"),
        (lambda: NETWORK.scaled(1e6, 1.0, 224), "channels must be between 1 and 1000000"),
        (lambda: NETWORK.scaled(1.0, 1.0, 0), "resolution must be between 1 and 100000, got 0"),
    ],
)
def test_mistakes(call, message):
    with pytest.raises(UserError, match=message):
        call()


@pytest.mark.parametrize(
    ("repeats", "depth", "up", "nearest"),
    [(1, 1.2, 2, 1), (2, 1.2, 3, 2), (3, 1.2, 4, 4), (4, 1.4, 6, 6), (2, 0.6, 2, 1), (1, 0.2, 1, 1), (2, 1.25, 3, 3)],
)
def test_rounding_of_repeats(repeats, depth, up, nearest):
    assert (round_repeats(repeats, depth), round_repeats(repeats, depth, "nearest")) == (up, nearest)


def test_tinynet_b_has_its_authors_repeats():
    """TinyNet-B, depth 1.1, rounded to the nearest: [1, 2, 2, 3, 3, 4, 1] (timm 1.0)."""
    b0 = zoo("efficientnet_b0")
    stages = b0.scaled(1.0, 1.1, 188, depth_rounding="nearest").stages
    assert [stage.repeats for stage in stages] == [1, 2, 2, 3, 3, 4, 1]
    assert [stage.repeats for stage in b0.scaled(1.0, 1.1, 188).stages] == [2, 3, 3, 4, 4, 5, 2]


def test_no_such_rounding():
    with pytest.raises(UserError, match=r"depth_rounding: unknown 'down'. .*Choose one of: up, nearest"):
        round_repeats(2, 1.5, "down")
