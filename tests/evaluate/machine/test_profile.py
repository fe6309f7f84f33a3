"""Latency, memory and fvcore's count."""

from __future__ import annotations

import logging
import warnings

import pytest
import torch

from effnas.evaluate.evaluation import EvaluationError
from effnas.evaluate.machine.profile import profile
from effnas.space.architecture import Architecture
from effnas.space.cost import cost
from effnas.space.errors import UserError
from effnas.space.stage import Stage

SMALL = Architecture(
    stages=(
        Stage("conv", 8, skip="none"),
        Stage("ds", 16, stride=2, se_ratio=0.25),
        Stage("mbconv", 24, 2, kernel_size=5, stride=2, expand_ratio=3, se_ratio=0.25, skip="pool"),
    ),
    stem=8,
    head=64,
    resolution=33,
    num_classes=7,
)


def test_fvcore_agrees_with_our_macs_and_is_silent(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG), warnings.catch_warnings():
        warnings.simplefilter("error")
        counts = profile(SMALL, batch_size=3, repeats=2, warmup=0).fvcore
    assert counts["conv"] + counts["linear"] == cost(SMALL).macs
    assert counts["linear"] == 64 * 7
    assert counts["batch_norm"] > 0
    assert counts["total"] == sum(number for name, number in counts.items() if name != "total")
    assert not [record for record in caplog.records if record.name.startswith("fvcore")]
    assert capfd.readouterr() == ("", "")


def test_latency() -> None:
    result = profile(SMALL, batch_size=4, repeats=9, warmup=1, fvcore=False)
    assert 0 < result.latency_q1 <= result.latency <= result.latency_q3
    assert result.images_per_second == pytest.approx(4 / result.latency)
    assert (result.batch_size, result.resolution, result.repeats, result.device) == (4, 33, 9, "cpu")
    assert result.fvcore == {}


def test_larger_networks_take_longer() -> None:
    small, large = (profile(SMALL.with_(resolution=side), repeats=5, warmup=2, fvcore=False) for side in (16, 512))
    assert large.latency > 3 * small.latency  # about 1,000 times the MACs


def test_threads_are_stated_and_restored() -> None:
    before = torch.get_num_threads()
    for threads in (1, 2):
        assert profile(SMALL, threads=threads, repeats=2, warmup=0, fvcore=False).threads == threads
        assert torch.get_num_threads() == before
    assert profile(SMALL, repeats=2, warmup=0, fvcore=False).threads == before


def test_the_random_state_is_kept() -> None:
    before = torch.get_rng_state()
    profile(SMALL, repeats=2, warmup=0, fvcore=False)
    assert torch.equal(before, torch.get_rng_state())


def test_memory_is_that_of_the_live_activations() -> None:
    one, four = (profile(SMALL, batch_size=n, repeats=2, warmup=0, fvcore=False).peak_memory for n in (1, 4))
    assert one is not None
    assert four == 4 * one  # no weights in it
    assert one >= cost(SMALL).peak_memory  # which has BatchNorm folded
    # At most three maps of the widest layer at once, and less than all of them together
    assert one < 4 * cost(SMALL).activations


def test_memory_of_one_stem_by_hand() -> None:
    # 32×32×3 in; stem and head, each a convolution and an out-of-place BatchNorm, then 1×1 maps.
    plain = Architecture(
        stages=(Stage("conv", 4, stride=8, skip="none"),), stem=64, stem_stride=1, head=0, resolution=32, num_classes=2
    )
    peak = profile(plain, repeats=2, warmup=0, fvcore=False).peak_memory
    assert peak == 4 * 32 * 32 * (3 + 64 + 64)  # input, convolution's output, BatchNorm's output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size must be between 1 and"),
        ({"threads": 0}, "threads must be between 1 and"),
        ({"repeats": 1}, "repeats must be between 2 and"),
        ({"warmup": -1}, "warmup must be between 0 and"),
        ({"device": "cuda:99"}, "device .*unknown 'cuda:99'.*cpu"),
    ],
)
def test_mistakes(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        profile(SMALL, **arguments)  # type: ignore[arg-type]


def test_a_network_too_large_for_memory() -> None:
    huge = SMALL.with_(resolution=100_000, in_channels=10_000)
    with pytest.raises(EvaluationError, match="out of memory at batch size 1, resolution 100000"):
        profile(huge, repeats=2, warmup=0, fvcore=False)
