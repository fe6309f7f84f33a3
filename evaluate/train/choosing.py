"""The settings of the engine, chosen by a few timed steps and kept for this machine."""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import nn

from ...space.files import write_text
from ...space.paths import cache_folder
from ...space.torch_private import cpu_computes_bf16
from ..machine.cores import fit_threads
from ..machine.device import finish_work, fork_random_state, free_memory, is_out_of_memory, torch_threads
from ..machine.fast_layers import fast_layers
from ..machine.settings import MEMORY_FORMATS, PRECISIONS, Settings
from .distributed import ALONE
from .optimizers import make_optimizer
from .recipe import Training
from .stepper import Stepper

log = logging.getLogger(__name__)

#: How much faster another setting must be to be taken: less may be noise, and the choice should be the same tomorrow.
MARGIN = 1.05
#: Timed steps of a setting, after one that is not; a setting whose first step is so much slower is given up.
STEPS, HOPELESS = 3, 1.4
#: A step that takes longer, in seconds, is timed with a part of the batch.
LONG_STEP = 1.0
#: Timing ends after so many seconds, or this share of what the training is expected to take.
BUDGET = 2.0, 0.05
#: ``torch.compile`` is tried where the training is planned to take so many seconds: compiling takes one or two minutes
#: on a CPU, half of one on a GPU.
COMPILE_WORTH = {"cpu": 3600.0, "cuda": 900.0}
#: Part of the name of the file of choices: raised when the way of choosing changes.
VERSION = 2
#: Seconds that a process waits for another one that is timing.
PATIENCE = 120.0

#: Choices that this process knows.
_read: dict[str, Any] = {}


def choose_settings(
    model: nn.Module,
    shape: tuple[int, int, int, int],
    device: torch.device,
    training: Training,
    *,
    threads: int | None,
    steps: int,
) -> tuple[Settings, str]:
    """The settings to train with: those of the recipe that are fixed, and the fastest of the others.

    A few steps of forward, loss, backward and update are timed on a copy of the network, one setting after another, and
    the choice is kept for this machine: the candidates of a search share one, and two runs choose alike.

    Args:
        model: on ``device``; is left as it is.
        shape: of a batch, (B, C, h, w).
        device: where it trains.
        training: its ``memory_format``, ``precision`` and ``compile`` are fixed unless ``auto``.
        threads: fixed unless None.
        steps: planned; they decide whether compiling can pay.

    Returns:
        The settings, and a line for people.
    """
    threads = fit_threads(threads) if device.type == "cpu" else threads
    start = Settings(
        memory_format="channels_last" if training.memory_format == "auto" else training.memory_format,
        precision="fp32" if training.precision == "auto" else training.precision,
        compile=training.compile is True,
        threads=None if device.type != "cpu" else threads or torch.get_num_threads(),
    )
    if (
        device.type == "cuda"
        and training.precision == "auto"
        and torch.cuda.is_bf16_supported(including_emulation=False)
    ):
        start = replace(start, precision="bf16")
    rounds = list(_alternatives(start, device, training, threads))
    if not rounds:
        return start, f"engine: {start} (as set)"

    def choose() -> tuple[Settings, float]:
        return _fastest(start, rounds, _Timer(model, shape, device, training), training, steps)

    fixed = training.memory_format, training.precision, training.compile, threads, steps_class(steps)
    settings, rate, known = recall_choice(choice_key(model, shape, device, fixed), choose)
    how = "as timed before on this machine" if known else "by timed steps"
    return settings, f"engine: {settings} ({how}: {rate:,.0f} images/s)"


def choice_key(model: nn.Module, shape: tuple[int, ...], device: torch.device, fixed: tuple[object, ...]) -> str:
    """What shares a choice: machine, batch, and networks of about one size made of the same kinds of layers."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} {_processor()}"
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    work = sum(m.weight.numel() for m in convolutions)
    kinds = sorted({type(m).__name__ for m in model.modules() if not list(m.children())})
    kinds += [f"{kernel}x{kernel}" for kernel in sorted({m.kernel_size[0] for m in convolutions if m.groups > 1})]
    return "|".join(
        map(
            str,
            (
                *(name, torch.__version__, torch.get_num_threads(), "x".join(map(str, shape)), *fixed),
                *(round(math.log2(max(1, work)) / 2), round(math.log2(max(1, len(convolutions)))), ",".join(kinds)),
            ),
        )
    )


def steps_class(steps: int) -> int:
    """The order of magnitude of a training's length, which decides about compiling."""
    return round(math.log10(max(1, steps)))


def native_bf16(device: torch.device) -> bool:
    """Whether the hardware computes bf16, and does not emulate it."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and cpu_computes_bf16()


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), "")
    except OSError:
        return ""


def _alternatives(
    start: Settings, device: torch.device, training: Training, threads: int | None
) -> Iterator[list[dict[str, object]]]:
    """Rounds of changes; the best of a round stays for the next ones."""
    if start.threads is not None and threads is None and start.threads > 1:
        yield [{"threads": n} for n in sorted({1, start.threads // 2})]
    if training.precision == "auto" and native_bf16(device):
        yield [{"precision": "bf16" if start.precision == "fp32" else "fp32"}]
    if training.memory_format == "auto":
        yield [{"memory_format": "contiguous"}]
    if training.compile == "auto" and device.type in COMPILE_WORTH:
        yield [{"compile": True}]


def _fastest(
    start: Settings, rounds: list[list[dict[str, object]]], timer: _Timer, training: Training, steps: int
) -> tuple[Settings, float]:
    best, seconds = start, timer(start, math.inf)
    if math.isinf(seconds):  # it does not even run once: the training will say why
        return start, 0.0
    begin, budget = time.perf_counter(), max(BUDGET[0], BUDGET[1] * steps * seconds)
    for changes in rounds:
        for change in changes:
            if time.perf_counter() - begin > budget:
                continue
            if change.get("compile") and steps * seconds < COMPILE_WORTH[timer.device.type]:
                continue
            other = replace(best, **change)  # type: ignore[arg-type]
            taken = timer(other, seconds)
            if taken * MARGIN < seconds:
                best, seconds = other, taken
    return best, timer.images / seconds


class _Timer:
    """Seconds of a step of a copy of the model."""

    def __init__(
        self, model: nn.Module, shape: tuple[int, int, int, int], device: torch.device, training: Training
    ) -> None:
        self.device, self._training = device, training
        self._model = copy.deepcopy(model)
        self.images = shape[0]
        with fork_random_state(device):
            self._batch = torch.rand(shape, device=device)
            self._labels = torch.zeros(shape[0], dtype=torch.int64, device=device)

    def __call__(self, settings: Settings, best: float) -> float:
        """The fastest of a few steps; infinite where it fails or is hopeless against ``best``."""
        try:
            with (
                fork_random_state(self.device),
                torch_threads(settings.threads),
                fast_layers(self._model, self.device),
            ):
                step = self._step(settings)
                first = self._timed(step)
                if math.isinf(best):  # the first setting: is the whole batch too much?
                    while first > LONG_STEP and self.images > 1:
                        self.images = max(1, self.images // 2)
                        first = self._timed(step)
                if first > HOPELESS * best and not settings.compile:
                    return math.inf
                return min(self._timed(step) for _ in range(STEPS))
        except Exception as error:  # whatever a setting makes of this network on this machine: it is out
            if not isinstance(error, RuntimeError | MemoryError | ValueError):
                log.warning("%s cannot be timed: %s: %s", settings, type(error).__name__, str(error).splitlines()[:1])
            if is_out_of_memory(error):
                free_memory(self.device)
            return math.inf

    def _step(self, settings: Settings) -> Callable[[], None]:
        model = self._model.to(memory_format=settings.layout)  # type: ignore[call-overload]
        # the batch is a part already, where the recipe accumulates
        recipe = replace(self._training, lr=1e-9, accumulate=1)
        stepper = Stepper(model, make_optimizer(recipe, model), recipe, settings, self.device, ALONE)
        stepper.train_mode()

        def step() -> None:
            images = self._batch[: self.images].contiguous(memory_format=settings.layout)
            stepper.update(images, self._labels[: self.images])

        return step

    def _timed(self, step: Callable[[], None]) -> float:
        finish_work(self.device)
        start = time.perf_counter()
        step()
        finish_work(self.device)
        return time.perf_counter() - start


# -- what is kept ----------------------------------------------------------------------------------------


def recall_choice(key: str, measure: Callable[[], tuple[Settings, float]]) -> tuple[Settings, float, bool]:
    """The choice of ``key``: what the file says, or what ``measure`` finds and the file keeps from then on.

    The first choice stays; processes that need one at the same time wait for the first of them, because two that time
    at once would find each other's noise.

    Returns:
        Settings, images per second, and whether they were known.
    """
    if key in _read:
        return (*_read[key], True)
    file = cache_folder() / f"engine-v{VERSION}.json"
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(Timeout, OSError):  # a folder that cannot be written: nothing is kept
            file.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(f"{file}.lock").acquire(timeout=PATIENCE))
        found = _choice(_content(file).get(key))
        known = found is not None
        if found is None:
            found = measure()
            with contextlib.suppress(OSError):
                settings, rate = found
                content = {**_content(file), key: {**vars(settings), "images_per_second": rate}}
                write_text(file, json.dumps(content, indent=1, sort_keys=True) + "\n")
        _read[key] = found
        return (*found, known)


def _content(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not there, or damaged: written anew
        return {}
    return content if isinstance(content, dict) else {}


def _choice(entry: Any) -> tuple[Settings, float] | None:
    """What an entry says, if it says it."""
    try:
        fields = dict(entry)
        rate = float(fields.pop("images_per_second"))
        settings = Settings(**fields)
    except (TypeError, ValueError, KeyError):
        return None
    good = settings.memory_format in MEMORY_FORMATS and settings.precision in PRECISIONS
    return (settings, rate) if good else None
