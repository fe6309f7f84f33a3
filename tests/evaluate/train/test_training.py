"""The training engine: optimizers, schedules, averages, determinism, failures."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from effnas.evaluate.data.pixels import Pixels
from effnas.evaluate.evaluation import EvaluationError, Stopped
from effnas.evaluate.machine.device import find_device
from effnas.evaluate.train.accuracy import measure_accuracy
from effnas.evaluate.train.history import TrainingResult
from effnas.evaluate.train.optimizers import MovingAverage, RMSpropTF, make_optimizer, parameter_groups
from effnas.evaluate.train.recipe import Training
from effnas.evaluate.train.train import train
from effnas.space.architecture import Architecture
from effnas.space.errors import UserError
from effnas.space.network import build
from effnas.space.stage import Stage


class Images:
    """An ImageSet of tensors."""

    pixels = Pixels(1, 8, mean=(0.0,), std=(1.0,))

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels
        self.num_classes = int(labels.max()) + 1
        self.served: list[int] = []

    def __len__(self) -> int:
        return len(self.labels)

    def batches(
        self,
        batch_size: int,
        *,
        device: str | torch.device,
        shuffle: int | None = None,
        drop_last: bool = False,
        start: int = 0,
        shard: tuple[int, int] = (0, 1),
    ) -> Iterator[tuple[Tensor, Tensor]]:
        n = len(self)
        order = (
            torch.arange(n) if shuffle is None else torch.randperm(n, generator=torch.Generator().manual_seed(shuffle))
        )
        for part in torch.split(order, batch_size)[start:]:
            if drop_last and len(part) < batch_size:
                return
            self.served.append(len(part))
            rows = torch.tensor_split(part, shard[1])[shard[0]]
            yield self.images[rows].to(device), self.labels[rows].to(device)


def stripes(n: int, seed: int = 0) -> Images:
    """Two classes, horizontal or vertical stripes in noise, 8×8."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 2
    wave = torch.tensor([1.0, -1.0]).repeat(4)
    pattern = torch.stack([wave[:, None].expand(8, 8), wave[None, :].expand(8, 8)])
    return Images(pattern[labels][:, None] + 0.5 * torch.randn(n, 1, 8, 8, generator=generator), labels)


def tiny(**changes: Any) -> Architecture:
    fields: dict[str, Any] = {
        "stages": (Stage("mbconv", 8, 2, expand_ratio=2, se_ratio=0.25),),
        "stem": 8,
        "stem_stride": 1,
        "head": 16,
        "dropout": 0.2,
        "drop_path": 0.2,
        "resolution": 8,
        "in_channels": 1,
        "num_classes": 2,
    }
    return Architecture(**{**fields, **changes})


@pytest.fixture(autouse=True)
def in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless a recipe says bf16: sums are compared here."""
    monkeypatch.setattr("effnas.evaluate.train.choosing.native_bf16", lambda device: False)


def quiet(epoch: int, accuracy: float) -> None:
    pass


def run(training: Training, seed: int = 0, **changes: Any) -> tuple[TrainingResult, nn.Module]:
    torch.manual_seed(7)
    model = build(tiny(**changes))
    result = train(model, stripes(96), stripes(64, seed=1), training, resolution=8, seed=seed, report=quiet)
    return result, model


# -- optimizers -------------------------------------------------------------------------------------


def test_rmsprop_is_tensorflows() -> None:
    weight = torch.tensor([0.5, -2.0, 3.0], requires_grad=True)
    optimizer = RMSpropTF([weight], lr=0.1, decay=0.9, momentum=0.8, eps=1e-3, weight_decay=0.01)
    w = weight.detach().numpy().astype(np.float64)
    s, m = np.ones(3), np.zeros(3)  # TensorFlow starts the mean square at one
    for gradient, lr in (([0.3, -0.02, 5.0], 0.1), ([-0.1, 0.4, 0.0], 0.05)):
        optimizer.param_groups[0]["lr"] = lr
        weight.grad = torch.tensor(gradient)
        optimizer.step()
        g = np.array(gradient) + 0.01 * w
        s = 0.9 * s + 0.1 * g * g
        m = 0.8 * m + lr * g / np.sqrt(s + 1e-3)
        w = w - m
        np.testing.assert_allclose(weight.detach().numpy(), w, rtol=1e-5)


def test_rmsprop_leaves_weights_without_a_gradient_alone_and_its_state_can_be_saved() -> None:
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = RMSpropTF([used, unused], lr=0.1)
    used.grad = torch.ones(2)
    optimizer.step()
    assert torch.equal(unused.data, torch.ones(2))
    assert not torch.equal(used.data, torch.ones(2))
    twin = nn.Parameter(used.detach().clone())
    other = RMSpropTF([twin, nn.Parameter(torch.ones(2))], lr=0.1)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    twin.grad = torch.ones(2)
    optimizer.step()
    other.step()
    assert torch.equal(used.data, twin.data)


def test_biases_and_batchnorm_do_not_decay() -> None:
    model = build(tiny())
    decayed, plain = parameter_groups(model, 1e-2)
    names = {id(p): name for name, p in model.named_parameters()}
    assert {p.ndim for p in decayed["params"]} == {2, 4}
    assert (decayed["weight_decay"], plain["weight_decay"]) == (1e-2, 0)
    assert all(names[id(p)].endswith("bias") or ".bn." in names[id(p)] for p in plain["params"])
    assert len(decayed["params"]) + len(plain["params"]) == len(names)


def test_a_frozen_weight_is_not_trained() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)).requires_grad_(True)
    model[0].requires_grad_(False)
    assert len(make_optimizer(Training(optimizer="adamw"), model).param_groups[0]["params"]) == 1


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("sgd", torch.optim.SGD, {"nesterov": True, "weight_decay": 0.3}),
        ("adamw", torch.optim.AdamW, {"betas": (0.9, 0.999), "weight_decay": 0.3}),
        ("rmsprop", RMSpropTF, {"decay": 0.9, "momentum": 0.9, "eps": 1e-3}),
    ],
)
def test_optimizers_by_name(name: str, kind: type, expected: dict[str, Any]) -> None:
    optimizer = make_optimizer(Training(optimizer=name, weight_decay=0.3), build(tiny()))
    assert isinstance(optimizer, kind)
    assert {key: optimizer.param_groups[0][key] for key in expected} == expected


def test_learning_rates_fall_towards_the_input() -> None:
    two = (Stage("mbconv", 8, expand_ratio=2), Stage("mbconv", 16, 2, expand_ratio=2))
    model = build(tiny(stages=two))
    scale = {id(p): g["lr_scale"] for g in parameter_groups(model, 0.1, 0.5) for p in g["params"]}
    for part, expected in ((model.classifier, 1), (model.head, 1), (model.stages[1], 0.5), (model.stages[0], 0.25)):
        assert {scale[id(p)] for p in part.parameters()} == {expected}
    assert {scale[id(p)] for p in model.stem.parameters()} == {0.125}
    assert len(scale) == len(list(model.parameters()))


# -- schedules --------------------------------------------------------------------------------------


def test_cosine_with_warm_up() -> None:
    training = Training(epochs=10, batch_size=512, lr=0.1, schedule="cosine", warmup_epochs=1.5)
    rates = [training.lr_at(step, 10) for step in range(100)]
    peak = 0.2  # 512 images a step
    assert rates[0] == pytest.approx(peak / 15)
    assert rates[14] == pytest.approx(peak)
    assert rates[15] == pytest.approx(peak)
    assert rates[15 + 17] == pytest.approx(peak * 0.5 * (1 + math.cos(math.pi * 0.2)))
    assert 0 < rates[99] < 0.001 * peak
    assert rates[15:] == sorted(rates[15:], reverse=True)


def test_exponential_is_the_papers_staircase() -> None:
    training = Training(epochs=350, batch_size=4096, lr=0.016, schedule="exponential", warmup_epochs=5)
    assert training.lr_at(50, 10) == pytest.approx(0.256 * 0.97**2)  # epoch 5: two stairs, under the warm-up
    assert training.lr_at(71, 10) == pytest.approx(0.256 * 0.97**2)
    assert training.lr_at(72, 10) == pytest.approx(0.256 * 0.97**3)
    assert training.lr_at(3499, 10) == pytest.approx(0.256 * 0.97**145)
    assert training.lr_at(24, 10) == pytest.approx(0.256 * 25 / 50)


def test_the_stairs_are_where_they_should_be_in_spite_of_rounding() -> None:
    training = Training(epochs=1000, batch_size=256, lr=1, schedule="exponential", warmup_epochs=0, decay_rate=0.999)
    for stair in range(1, 400):  # stair n begins at step 24 n of 10 a epoch
        assert training.lr_at(24 * stair, 10) == pytest.approx(0.999**stair, rel=1e-9)
        assert training.lr_at(24 * stair - 1, 10) == pytest.approx(0.999 ** (stair - 1), rel=1e-9)


def test_lr_follows_the_batch_in_use() -> None:
    training = Training(epochs=1, batch_size=256, lr=0.4, warmup_epochs=0)
    assert training.lr_at(0, 10, batch_size=64) == pytest.approx(0.1)


def test_warm_up_to_the_very_end() -> None:
    training = Training(epochs=2, batch_size=256, lr=1.0, warmup_epochs=2)
    assert [training.lr_at(step, 2) for step in range(4)] == pytest.approx([0.25, 0.5, 0.75, 1.0])


# -- moving average ---------------------------------------------------------------------------------


def test_decay_of_the_average_warms_up() -> None:
    model = nn.BatchNorm1d(1)
    assert model.running_mean is not None
    average = MovingAverage(model, 0.25)
    expected = 1.0
    with torch.no_grad():
        for t, value in enumerate((2.0, -1.0, 4.0), 1):
            model.weight.fill_(value)
            model.running_mean.fill_(10 * value)
            average.update()
            decay = min(0.25, (1 + t) / (10 + t))  # 2/11, 0.25, 0.25
            expected = decay * expected + (1 - decay) * value
            assert average.model.weight.item() == pytest.approx(expected)  # type: ignore[operator]
    # BatchNorm's mean starts at 0 instead of 1, and moves with the same decays
    assert average.model.running_mean.item() == pytest.approx(10 * (expected - 2 / 11 / 16))  # type: ignore


def test_what_is_measured_is_the_average_and_the_model_ends_as_it() -> None:
    torch.manual_seed(0)
    model = build(tiny())
    result = train(
        model,
        stripes(96),
        (held := stripes(64, seed=1)),
        Training(epochs=2, batch_size=32, ema_decay=0.99),
        resolution=8,
        seed=0,
        report=quiet,
    )
    assert (result.accuracy, result.loss) == measure_accuracy(model, held, batch_size=32, resolution=8)
    plain, other = run(Training(epochs=2, batch_size=32))
    assert plain.train_loss != result.train_loss or plain.loss != result.loss
    assert not torch.equal(next(other.parameters()), next(model.parameters()))


# -- the loop ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "training",
    [
        Training(epochs=6, batch_size=16, lr=0.4),
        Training(epochs=6, batch_size=16, lr=0.05, optimizer="adamw", clip_norm=1.0, memory_format="contiguous"),
        Training(epochs=6, batch_size=16, lr=0.1, optimizer="rmsprop", schedule="exponential", ema_decay=0.9),
        Training(epochs=6, batch_size=16, lr=0.4, precision="bf16", label_smoothing=0.1),
    ],
    ids=["sgd", "adamw", "rmsprop", "bf16"],
)
def test_learns(training: Training) -> None:
    result, _ = run(training)
    assert result.accuracy is not None
    assert result.accuracy > 0.9  # chance is 0.5
    assert (result.epochs, result.steps) == (6, 36)
    assert result.images_per_second > 0


def test_same_seed_same_weights_other_seed_other_weights() -> None:
    training = Training(epochs=2, batch_size=32)
    (first, a), (second, b), (third, c) = run(training), run(training), run(training, seed=1)
    assert (first.accuracy, first.loss, first.train_loss) == (second.accuracy, second.loss, second.train_loss)
    assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
    assert third.loss != first.loss
    assert not torch.equal(next(a.parameters()), next(c.parameters()))


def test_the_callers_random_state_is_kept_and_does_not_matter() -> None:
    results = []
    for outside in (1, 2):
        torch.manual_seed(7)
        model = build(tiny())
        torch.manual_seed(outside)
        before = torch.get_rng_state()
        training = Training(epochs=1, batch_size=32)
        results.append(train(model, stripes(96), None, training, resolution=8, seed=3, report=quiet).train_loss)
        assert torch.equal(before, torch.get_rng_state())
    assert results[0] == results[1]


def test_reports_after_each_measured_epoch() -> None:
    seen: list[tuple[int, float]] = []
    result = train(
        build(tiny()),
        stripes(40),
        stripes(20),
        Training(epochs=5, batch_size=16, eval_every=2),
        resolution=8,
        seed=0,
        report=lambda epoch, accuracy: seen.append((epoch, accuracy)),
    )
    assert [epoch for epoch, _ in seen] == [2, 4, 5]
    assert seen[-1][1] == result.accuracy


def test_stopped_passes() -> None:
    def stop(epoch: int, accuracy: float) -> None:
        raise Stopped(f"at {epoch}")

    with pytest.raises(Stopped, match="at 1"):
        train(build(tiny()), stripes(32), stripes(8), Training(epochs=3), resolution=8, seed=0, report=stop)


def test_without_held_out_images_nothing_is_measured() -> None:
    result = train(build(tiny()), stripes(32), None, Training(epochs=1), resolution=8, seed=0, report=stop_never)
    assert result.accuracy is None
    assert result.loss is None


def stop_never(epoch: int, accuracy: float) -> None:
    raise AssertionError("nothing was measured")


def test_the_incomplete_batch_is_left_out_unless_it_is_the_only_one() -> None:
    images = stripes(33)  # a batch of the one image over would break BatchNorm on 1×1 maps
    deep = tiny(stages=(Stage("mbconv", 8, stride=8),))
    train(build(deep), images, None, Training(epochs=1, batch_size=32), resolution=8, seed=0, report=quiet)
    assert images.served == [32]
    few = stripes(5)
    train(build(deep), few, None, Training(epochs=2, batch_size=32), resolution=8, seed=0, report=quiet)
    assert few.served == [5, 5]


def test_bn_momentum_is_the_recipes_while_training_and_the_networks_afterwards() -> None:
    def mean(momentum: float | None) -> tuple[Tensor, float]:
        torch.manual_seed(0)
        model = build(tiny())
        training = Training(epochs=1, batch_size=96, bn_momentum=momentum)
        train(model, stripes(96), None, training, resolution=8, seed=0, report=quiet)
        return model.stem.bn.running_mean, model.stem.bn.momentum  # type: ignore

    own, fast = mean(None), mean(0.1)
    assert torch.allclose(fast[0], 10 * own[0], rtol=1e-4)  # one step, from 0: momentum × the batch's mean
    assert own[1] == fast[1] == 0.01


def test_label_smoothing_is_pytorchs_and_not_measured() -> None:
    torch.manual_seed(0)
    model = build(tiny(dropout=0.0, drop_path=0.0))
    images = stripes(32)
    model.train()
    expected = nn.functional.cross_entropy(model(images.images), images.labels, label_smoothing=0.3).item()
    training = Training(epochs=1, batch_size=32, label_smoothing=0.3, warmup_epochs=0, precision="fp32")
    result = train(model, images, images, training, resolution=8, seed=0, report=quiet)
    assert result.train_loss == pytest.approx(expected, rel=1e-4)
    model.eval()
    with torch.no_grad():
        assert result.loss == pytest.approx(
            nn.functional.cross_entropy(model(images.images), images.labels).item(), 1e-4
        )


class Line(nn.Module):
    """A linear classifier whose first gradient is easily worked out."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 2, bias=False)
        nn.init.zeros_(self.linear.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.flatten(1))  # type: ignore[no-any-return]


@pytest.mark.parametrize("clip", [None, 0.5])
def test_clipping(clip: float | None) -> None:
    images = Images(100 * stripes(32).images, stripes(32).labels)
    model = Line()
    training = Training(
        epochs=1, batch_size=32, lr=8.0, momentum=0.0, weight_decay=0.0, warmup_epochs=0, clip_norm=clip
    )
    train(model, images, None, training, resolution=8, seed=0, report=quiet)
    x = images.images.flatten(1)
    error = 0.5 - nn.functional.one_hot(images.labels).float()  # softmax of zeros, minus the truth
    gradient = error.T @ x / 32
    norm = gradient.norm().item()
    assert norm > 10
    step = gradient if clip is None else gradient * (0.5 / norm)
    assert torch.allclose(model.linear.weight, -step, rtol=1e-3)  # lr 8 for 256 images is 1 for 32


def test_a_loss_that_is_not_finite_fails_the_candidate_and_says_where() -> None:
    bad = stripes(64)
    bad.images[bad.labels == 1] *= 1e30
    training = Training(epochs=3, batch_size=32, lr=1e30, warmup_epochs=0, clip_norm=None)
    with pytest.raises(EvaluationError, match=r"loss is (nan|inf) at epoch \d, step [12] of 2, learning rate \d"):
        train(Line(), bad, None, training, resolution=8, seed=0, report=quiet)


def test_the_first_bad_step_is_named() -> None:
    class Breaks(Line):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return super().forward(x) * (math.nan if self.calls >= 28 else 1.0)

    training = Training(epochs=3, batch_size=2, lr=1.28, schedule="cosine", warmup_epochs=3)
    with pytest.raises(EvaluationError, match=r"^loss is nan at epoch 2, step 3 of 25, learning rate 0.003733$"):
        train(Breaks(), stripes(50), None, training, resolution=8, seed=0, report=quiet)


def test_held_out_loss_must_be_finite_too() -> None:
    held = stripes(8)
    held.images[0] = math.nan
    with pytest.raises(EvaluationError, match="held-out loss is nan after epoch 1"):
        train(Line(), stripes(32), held, Training(epochs=2), resolution=8, seed=0, report=quiet)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_out_of_memory_fails_the_candidate(error: Exception) -> None:
    class Greedy(Line):
        def forward(self, x: Tensor) -> Tensor:
            raise error

    with pytest.raises(EvaluationError, match="out of memory at batch size 16, resolution 8"):
        train(Greedy(), stripes(32), None, Training(batch_size=16), resolution=8, seed=0, report=quiet)


@pytest.mark.parametrize("fits", [1, 3, 8])
def test_a_batch_that_does_not_fit_goes_through_in_parts(fits: int, caplog: pytest.LogCaptureFixture) -> None:
    class Small(Line):
        def forward(self, x: Tensor) -> Tensor:
            if len(x) > fits:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return super().forward(x)

    plain, tight = Line(), Small()
    training = Training(epochs=2, batch_size=16, lr=0.3)
    one = train(plain, stripes(64), stripes(32), training, resolution=8, seed=0, report=quiet)
    two = train(tight, stripes(64), stripes(32), training, resolution=8, seed=0, report=quiet)
    assert torch.allclose(plain.linear.weight, tight.linear.weight, atol=1e-6)
    assert two.accuracy == one.accuracy
    assert two.loss == pytest.approx(one.loss, rel=1e-5)
    parts = {1: 16, 3: 8, 8: 2}[fits]
    assert f"out of memory: batches of 16 go through the network in {parts} parts" in caplog.text


def test_accumulation_is_the_whole_batch_where_nothing_looks_across_it() -> None:
    whole, parted = Line(), Line()
    training = Training(epochs=2, batch_size=30, lr=0.3, label_smoothing=0.1)
    train(whole, stripes(64), None, training, resolution=8, seed=0, report=quiet)
    train(parted, stripes(64), None, replace(training, accumulate=4), resolution=8, seed=0, report=quiet)
    assert torch.allclose(whole.linear.weight, parted.linear.weight, atol=1e-6)


def test_resolution_rises_over_three_quarters_of_the_epochs() -> None:
    training = Training(epochs=8, progressive=0.5)
    assert [training.resolution_at(epoch, 224) for epoch in range(1, 9)] == [112, 128, 152, 168, 184, 208, 224, 224]
    assert [training.resolution_at(epoch, 8) for epoch in (1, 8)] == [8, 8]
    assert Training(epochs=1, progressive=0.5).resolution_at(1, 224) == 224  # what is measured was trained on
    seen = []

    class Sees(Line):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x.shape[-1])
            return super().forward(functional.adaptive_avg_pool2d(x, 8))

    result = train(
        Sees(),
        stripes(32),
        None,
        Training(epochs=4, batch_size=32, progressive=0.4),
        resolution=40,
        seed=0,
        report=quiet,
    )
    assert seen[-4:] == [row.resolution for row in result.history] == [16, 24, 32, 40]  # before them steps were timed


@pytest.mark.parametrize("freeze", ["features", 0, 1])
def test_what_is_frozen_stays_to_the_last_bit_and_trains_again_later(freeze: str | int) -> None:
    torch.manual_seed(1)
    model = build(tiny(stages=(Stage("mbconv", 8, expand_ratio=2), Stage("mbconv", 16, expand_ratio=2))))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    training = Training(epochs=1, batch_size=16, freeze=freeze)
    train(model, stripes(64), None, training, resolution=8, seed=0, report=quiet)
    kept = {"features": ("stem", "stages", "head"), 0: ("stem",), 1: ("stem", "stages.0")}[freeze]
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith(kept), name
    assert all(p.requires_grad for p in model.parameters())


def test_there_are_not_so_many_stages_to_freeze() -> None:
    with pytest.raises(UserError, match="freeze must be at most the number of stages, 1, got 2"):
        train(build(tiny()), stripes(32), None, Training(freeze=2), resolution=8, seed=0, report=quiet)
    with pytest.raises(UserError, match=r"freeze=features needs a network with the parts stem, .* Line has no stem"):
        train(Line(), stripes(32), None, Training(freeze="features"), resolution=8, seed=0, report=quiet)


def test_real_allocation_beyond_memory_fails_the_candidate() -> None:
    class Greedy(Line):
        def forward(self, x: Tensor) -> Tensor:
            return x.new_empty(1 << 48)

    with pytest.raises(EvaluationError, match="out of memory at batch size 16"):
        train(Greedy(), stripes(32), None, Training(batch_size=16), resolution=8, seed=0, report=quiet)


def test_other_errors_are_not_hidden() -> None:
    class Wrong(Line):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("shapes do not agree")

    with pytest.raises(RuntimeError, match="shapes do not agree"):
        train(Wrong(), stripes(32), None, Training(), resolution=8, seed=0, report=quiet)


def test_one_image_of_one_pixel_cannot_be_normalised() -> None:
    deep = build(tiny(stages=(Stage("mbconv", 8, stride=8),)))
    with pytest.raises(EvaluationError, match="BatchNorm needs more than one value: batch size 1, 1x1 maps"):
        train(deep, stripes(8), None, Training(batch_size=1), resolution=8, seed=0, report=quiet)


def test_no_images() -> None:
    empty = Images(torch.zeros(0, 1, 8, 8), torch.zeros(1, dtype=torch.int64))
    empty.labels = empty.labels[:0]
    with pytest.raises(UserError, match="no training images"):
        train(Line(), empty, None, Training(), resolution=8, seed=0, report=quiet)
    with pytest.raises(UserError, match="no held-out images"):
        train(Line(), stripes(8), empty, Training(), resolution=8, seed=0, report=quiet)


def test_measure_counts_every_image_once_and_restores_the_mode() -> None:
    class Says(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([x.flatten(1).sum(1), torch.zeros(len(x))], 1)

    model = Says().train()
    values = torch.tensor([1.0, 2.0, -1.0, 3.0, -2.0]).reshape(5, 1, 1, 1)
    images = Images(values, torch.tensor([0, 1, 1, 0, 0]))  # right, wrong, right, right, wrong
    accuracy, loss = measure_accuracy(model, images, batch_size=2, resolution=1)
    assert accuracy == pytest.approx(3 / 5)
    assert loss == pytest.approx(sum(math.log1p(math.exp(x)) for x in (-1, 2, -1, -3, 2)) / 5)
    assert model.training


# -- settings ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("epochs", 0, "epochs must be at least 1|epochs must be between"),
        ("epochs", "five", "epochs must be a whole number, got 'five'"),
        ("batch_size", 0, "batch_size must be between 1 and"),
        ("batch_size", 2.5, "batch_size must be a whole number"),
        ("optimizer", "sdg", "optimizer: unknown 'sdg'. Did you mean 'sgd'.* sgd, rmsprop, adamw"),
        ("lr", -0.1, r"lr must be in \(0, inf\], got -0.1"),
        ("lr", 0, "lr must be in"),
        ("lr", math.nan, "lr must be a finite number"),
        ("lr", "1e-3", "lr must be a finite number, got '1e-3'"),
        ("momentum", 1.0, "momentum must be in"),
        ("weight_decay", -1e-4, "weight_decay must be in"),
        ("schedule", "step", "schedule: unknown 'step'.*cosine, exponential"),
        ("warmup_epochs", -1, "warmup_epochs must be in"),
        (
            "balance",
            "weighted",
            "balance: unknown 'weighted'. Did you mean 'weights'.*null, weights, sampling",
        ),
        ("balance", True, "balance: unknown 'True'"),
        ("decay_rate", 1.1, "decay_rate must be in"),
        ("decay_epochs", 0, "decay_epochs must be in"),
        ("label_smoothing", 1.0, "label_smoothing must be in"),
        ("ema_decay", 1.0, "ema_decay must be in"),
        ("clip_norm", 0, "clip_norm must be in"),
        ("precision", "fp16", "precision: unknown 'fp16'.*auto, fp32, bf16"),
        ("bn_momentum", 0, "bn_momentum must be in"),
        ("memory_format", "nhwc", "memory_format: unknown 'nhwc'.*auto, channels_last, contiguous"),
        ("compile", "yes", "compile must be auto, true or false, got 'yes'"),
        ("sync_bn", 1, "sync_bn must be true or false, got 1"),
        ("accumulate", 65, "accumulate must be between 1 and 64, got 65"),
        ("augment", "auto", "augment: unknown 'auto'.*none, autoaugment, .*trivialaugment"),
        ("augment_magnitude", 31, "augment_magnitude must be between 0 and 30, got 31"),
        ("augment_layers", 0, "augment_layers must be between 1 and 16, got 0"),
        ("crop_scale", 0.5, r"crop_scale must be two numbers such as \[0.08, 1.0\], or null, got 0.5"),
        ("crop_scale", [0.5, 0.2], r"crop_scale: highest share of the area must be in \[0.5, 1\], got 0.2"),
        ("crop_scale", [0, 1], r"crop_scale: lowest share of the area must be in \(0, 1\], got 0"),
        ("erase", 1.5, r"erase must be in \[0, 1\], got 1.5"),
        ("mixup", -0.1, "mixup must be in"),
        ("cutmix", "on", "cutmix must be a finite number, got 'on'"),
        ("progressive", 0, r"progressive must be in \(0, 1\], got 0"),
        ("freeze", "stem", "freeze: unknown 'stem'.*none, features, or the number of stages"),
        ("freeze", -1, "freeze must be between 0 and"),
        ("layer_decay", 0, r"layer_decay must be in \(0, 1\], got 0"),
        ("eval_every", 0, "eval_every must be at least 1"),
    ],
)
def test_settings_are_checked(field: str, value: object, message: str) -> None:
    with pytest.raises(UserError, match=f"^training[.](?:{message})"):
        Training(**{field: value})  # type: ignore[arg-type]


def test_a_warm_up_longer_than_the_training_is_shortened_with_a_note() -> None:
    recipe = Training(epochs=2, warmup_epochs=5, lr=1.0)
    assert recipe.note == "training.warmup_epochs=5 is longer than training.epochs=2: the warm-up is shortened to 1"
    rates = [recipe.lr_at(step, 4, 256) for step in range(8)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]  # one epoch of four steps
    assert rates[4:] == pytest.approx([1.0, *(0.5 * (1 + math.cos(math.pi * k / 4)) for k in (1, 2, 3))])
    assert recipe.to_dict()["warmup_epochs"] == 5  # what the user said is what the training is known by
    for same in (Training(epochs=2, warmup_epochs=2), Training(epochs=1, warmup_epochs=0.5)):
        assert (same.note, same.shortened_warmup) == ("", same.warmup_epochs)


def test_devices() -> None:
    assert find_device("cpu") == torch.device("cpu")
    assert find_device("auto").type in ("cpu", "cuda", "mps")
    for name in ("gpu", "cuda:99", None, 3):
        with pytest.raises(UserError, match=r"device \(of this machine\): unknown .*Choose one of: auto, .*cpu"):
            find_device(name)
