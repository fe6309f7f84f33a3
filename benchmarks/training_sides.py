"""The sides of `training.py`: our engine, timm, and PyTorch loops as people write them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from effnas.evaluate.data import ImageData
from effnas.evaluate.data.load import load_split
from effnas.evaluate.data.pixels import Pixels
from effnas.evaluate.data.sets import MemorySet
from effnas.evaluate.interrupt import Interrupts
from effnas.evaluate.machine.inference import prepare_for_inference
from effnas.evaluate.proxy import Proxy
from effnas.evaluate.train.choosing import choose_settings
from effnas.evaluate.train.history import EpochRow, Plan
from effnas.evaluate.train.recipe import Training
from effnas.evaluate.train.train import train
from effnas.search.workers.base import Task
from effnas.search.workers.processes import make_workers
from effnas.space.architecture import Architecture
from effnas.space.network import build
from effnas.space.space import load_space
from effnas.space.zoo import zoo

CLASSES = 1000
DROPOUT, DROP_PATH = 0.2, 0.2
#: What both sides train with.
LR, MOMENTUM, WEIGHT_DECAY = 0.01, 0.9, 1e-4


@dataclass(frozen=True)
class Case:
    """What is measured; ``seconds`` is about how long."""

    network: str
    resolution: int
    batch_size: int
    mode: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.network} {self.resolution} px {self.mode}"


@dataclass(frozen=True)
class Setting:
    """How timm is run."""

    memory_format: str
    dtype: str
    threads: int
    compile: bool

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'s' * (self.threads > 1)}"
        return ", ".join([self.memory_format, self.dtype, threads, *["compiled"] * self.compile])


def repeated(call: Callable[[], Any], case: Case, device: str) -> float:
    """Images/s of the fastest call within the time there is; at least two, after one that is not timed."""
    times: list[float] = []
    call()
    end = time.perf_counter() + case.seconds
    while len(times) < 2 or time.perf_counter() < end:
        _synchronize(device)
        start = time.perf_counter()
        call()
        _synchronize(device)
        times.append(time.perf_counter() - start)
    return case.batch_size / min(times)


def _synchronize(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


class Timm:
    """timm's network in a loop."""

    def __init__(self, device: str) -> None:
        try:
            import timm
        except ImportError as error:
            raise SystemExit(
                f"this benchmark needs timm and torchvision: pip install timm torchvision ({error})"
            ) from None
        self.timm, self.device = timm, device
        self.key: Any = None

    def rate(self, case: Case, setting: Setting) -> float:
        """Images/s."""
        torch.set_num_threads(setting.threads)
        if self.key != (case, setting):
            self.key, self.call = None, None
            torch.compiler.reset()
            self.call = self._make(case, setting)
            self.key = (case, setting)
            self.call()
        assert self.call is not None
        return repeated(self.call, case, self.device)

    def _make(self, case: Case, setting: Setting) -> Callable[[], Any]:
        layout = getattr(torch, "contiguous_format" if setting.memory_format == "contiguous" else setting.memory_format)
        torch.manual_seed(0)
        name = f"efficientnet_{case.network}"
        model = self.timm.create_model(name, num_classes=CLASSES, drop_rate=DROPOUT, drop_path_rate=DROP_PATH)
        model = model.to(device=self.device, memory_format=layout).train(case.mode == "training")
        images = torch.randn(case.batch_size, 3, case.resolution, case.resolution, device=self.device)
        images = images.contiguous(memory_format=layout)
        labels = torch.randint(0, CLASSES, (case.batch_size,), device=self.device)
        optimizer = torch.optim.SGD(model.parameters(), LR, MOMENTUM, weight_decay=WEIGHT_DECAY, nesterov=True)
        forward = torch.compile(model) if setting.compile else model

        def logits() -> Tensor:
            with torch.autocast(self.device, torch.bfloat16, enabled=setting.dtype == "bf16"):
                found: Tensor = forward(images)
            return found

        def step() -> None:
            optimizer.zero_grad()
            functional.cross_entropy(logits().float(), labels).backward()
            optimizer.step()

        @torch.inference_mode()
        def infer() -> None:
            logits()

        return step if case.mode == "training" else infer


class Ours:
    """Our engine."""

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)
        self.key: Any = None
        self.said = ""

    def note(self) -> str:
        """The settings that were chosen last."""
        return self.said.removeprefix("engine: ").split(" (")[0]

    def rate(self, case: Case) -> float:
        """Images/s."""
        if self.key != case:
            architecture = zoo(f"efficientnet_{case.network}").with_(
                resolution=case.resolution, num_classes=CLASSES, dropout=DROPOUT, drop_path=DROP_PATH
            )
            torch.manual_seed(0)
            self.key, self.model, self.steps = case, build(architecture), 4
        return self._training(case) if case.mode == "training" else self._inference(case)

    def _training(self, case: Case) -> float:
        count = case.batch_size * self.steps
        pixels = Pixels(3, case.resolution, mean=(127.0,) * 3, std=(60.0,) * 3)
        shape = count, 3, case.resolution, case.resolution
        images = MemorySet(
            torch.randint(0, 256, shape, dtype=torch.uint8), torch.randint(0, CLASSES, (count,)), CLASSES, pixels
        )
        steps = _Steps(str(self.device))
        train(
            self.model,
            images,
            None,
            _recipe(case),
            resolution=case.resolution,
            seed=0,
            report=lambda epoch, accuracy: None,
            device=self.device,
            watcher=steps,
        )
        self.said = steps.note
        times = [b - a for a, b in zip(steps.ends, steps.ends[1:], strict=False)]
        self.steps = max(4, min(200, round(case.seconds / min(times)) + 1))
        return case.batch_size / min(times)

    def _inference(self, case: Case) -> float:
        shape = case.batch_size, 3, case.resolution, case.resolution
        self.model.to(self.device)
        settings, self.said = choose_settings(self.model, shape, self.device, _recipe(case), threads=None, steps=100)
        model, images = prepare_for_inference(self.model, settings), torch.randn(shape, device=self.device)

        @torch.inference_mode()
        def call() -> None:
            model(images)

        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        return repeated(call, case, str(self.device))


def _recipe(case: Case) -> Training:
    return Training(
        epochs=1,
        batch_size=case.batch_size,
        lr=LR,
        momentum=MOMENTUM,
        weight_decay=WEIGHT_DECAY,
        warmup_epochs=0,
        clip_norm=None,
        bn_momentum=None,
    )


class _Steps:
    """A watcher that notes when steps end."""

    def __init__(self, device: str) -> None:
        self.ends: list[float] = []
        self.note, self.device = "", device

    def begin(self, plan: Plan, history: Sequence[EpochRow]) -> None:
        """Before the first step."""
        self.note = plan.note

    def step(self, step: int, images: int, lr: float, loss: float | None) -> None:
        """After each step."""
        _synchronize(self.device)
        self.ends.append(time.perf_counter())

    def epoch(self, row: EpochRow) -> None:
        """After each epoch."""


# -- a search's candidates ------------------------------------------------------------------------------


def candidates(number: int) -> list[Architecture]:
    """Members of a space, always the same."""
    space, rng = load_space("mobile_cifar"), np.random.default_rng(0)
    return [space.build(space.sample(rng)) for _ in range(number)]


def images_at(folder: str) -> ImageData:
    """3,000 images of CIFAR-10, a fifth of them held out."""
    return ImageData(source="files", path=folder, image="image", label="label", limit=3000, flip=True, crop=4)


def search_by_engine(answer: Connection, folder: str, number: int, workers: int, device: str) -> None:
    """Seconds and accuracies, by what `effnas search` runs."""
    start = time.perf_counter()
    evaluator = Proxy(images_at(folder), Training(), device=device)
    waiting = [Task(i, architecture, seed=i) for i, architecture in enumerate(candidates(number))]
    accuracies = []
    with Interrupts() as interrupts, make_workers(evaluator, workers, interrupts) as places:
        for task in waiting[:workers]:
            places.submit(task)
        for i in range(number):
            outcome = places.wait(lambda *_: False)
            if outcome.evaluation is None:
                raise RuntimeError(outcome.reason)
            accuracies.append(outcome.evaluation.accuracy)
            if i + workers < number:
                places.submit(waiting[i + workers])
        answer.send((time.perf_counter() - start, accuracies))


class Pictures(Dataset[Any]):
    """Decoded images with the usual transforms: crop after padding by 4, mirror, to a tensor, normalise."""

    def __init__(
        self, pixels: Tensor, labels: Tensor, mean: Sequence[float], std: Sequence[float], augment: bool
    ) -> None:
        self.pictures = [Image.fromarray(x.permute(1, 2, 0).numpy()) for x in pixels]
        self.labels, self.augment = labels.tolist(), augment
        self.mean, self.std = torch.tensor(mean).view(3, 1, 1) / 255, torch.tensor(std).view(3, 1, 1) / 255

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        picture = self.pictures[i]
        if self.augment:
            width, height = picture.size
            left, top = random.randint(0, 8), random.randint(0, 8)
            picture = ImageOps.expand(picture, 4).crop((left, top, left + width, top + height))
            if random.random() < 0.5:
                picture = ImageOps.mirror(picture)
        tensor = torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous().float().div(255)
        return tensor.sub(self.mean).div(self.std), self.labels[i]


def search_by_loops(answer: Connection, folder: str, number: int, workers: int, device: str) -> None:
    """Seconds and accuracies, by one plain loop after the other, with the same recipe."""
    start = time.perf_counter()
    split = load_split(images_at(folder), 3)
    sets = []
    for images, augment in ((split.train, True), (split.heldout, False)):
        pixels, labels = next(images.batches(len(images), device="cpu"))
        sets.append(Pictures(pixels, labels, images.pixels.mean, images.pixels.std, augment))
    accuracies = [_loop(a, sets[0], sets[1], workers, device, seed) for seed, a in enumerate(candidates(number))]
    answer.send((time.perf_counter() - start, accuracies))


def _loop(
    architecture: Architecture, train_set: Pictures, test_set: Pictures, workers: int, device: str, seed: int
) -> float:
    recipe = Training()
    torch.manual_seed(seed)
    model = build(architecture).to(device)
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.momentum = recipe.bn_momentum
    loader = DataLoader(train_set, recipe.batch_size, shuffle=True, num_workers=workers, drop_last=True)
    test_loader = DataLoader(test_set, recipe.batch_size, num_workers=workers)
    optimizer = torch.optim.SGD(
        model.parameters(), recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay, nesterov=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: recipe.lr_at(step, len(loader)) / recipe.lr)
    for _ in range(recipe.epochs):
        model.train()
        for images, labels in loader:
            images, labels = images.to(device), labels.to(device)
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(images), labels)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm or float("inf"))
            optimizer.step()
            schedule.step()
        model.eval()
        hits = 0
        with torch.no_grad():
            for images, labels in test_loader:
                hits += int((model(images.to(device)).argmax(1) == labels.to(device)).sum())
    return hits / len(test_set)
