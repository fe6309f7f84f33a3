"""What all proxies have in common: the seed, the first weights, the images, the modes of the layers.

Scores of a proxy can be compared between networks, and with somebody else's, only under equal conditions. These are
fixed here and in each proxy's own file, on purpose without an option:

- the CPU, fp32 (synflow: float64), PyTorch's deterministic kernels of one machine;
- weights of seed 0: the network's own start (:func:`~effnas.space.blocks.init_weights`), unless a proxy's file says
  otherwise;
- a batch of 16 images of standard normal noise, drawn by seed 0 at the network's resolution; labels drawn uniformly;
- BatchNorm uses the statistics of the batch; dropout and stochastic depth are off.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from ...space.network import build
from ...space.network_spec import NetworkSpec
from ...space.torch_private import is_batch_norm
from ..evaluation import EvaluationError
from ..machine.device import is_out_of_memory, keep_memory

SEED = 0
BATCH = 16
CPU = torch.device("cpu")

#: Sets the weights of one module, torch's random state being the one to draw from.
Start = Callable[[nn.Module], None]


def prepare_network(architecture: NetworkSpec, start: Start | None = None) -> nn.Module:
    """The module with its first weights, BatchNorm as in training, everything else as in evaluation.

    Args:
        architecture: of the network.
        start: sets other weights than its own, called for each of its modules in their order.
    """
    keep_memory()
    module = build(architecture, SEED)
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if start is not None:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.default_generator.manual_seed(SEED)
            for part in module.modules():
                start(part)
    module.eval()
    for part in module.modules():
        if is_batch_norm(part):
            part.train()
    return module


def draw_images(architecture: NetworkSpec, batches: int = 1) -> list[Tensor]:
    """Batches of noise, each of shape (16, in_channels, resolution, resolution)."""
    generator = torch.Generator().manual_seed(SEED)
    side = architecture.resolution
    shape = (BATCH, architecture.in_channels, side, side)
    drawn = [torch.randn(shape, generator=generator) for _ in range(batches)]
    return [images.contiguous(memory_format=torch.channels_last) for images in drawn]


def draw_labels(architecture: NetworkSpec, batches: int = 1) -> list[Tensor]:
    """Labels of as many batches, each of shape (16,)."""
    generator = torch.Generator().manual_seed(SEED)
    return [torch.randint(architecture.num_classes, (BATCH,), generator=generator) for _ in range(batches)]


def list_layers(module: nn.Module) -> dict[str, nn.Module]:
    """The convolutions and linear layers, by name: what the proxies on weights look at.

    Raises:
        EvaluationError: there are none, or a stage of the network has no parameters.
    """
    layers: dict[str, nn.Module] = {
        name: part for name, part in module.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)
    }
    if not layers:
        raise EvaluationError("the network has neither convolutions nor linear layers: there are no weights to score")
    stages = getattr(module, "stages", None)
    for i, stage in enumerate(stages if isinstance(stages, nn.Sequential | nn.ModuleList) else ()):
        if not any(True for _ in stage.parameters()):
            raise EvaluationError(
                f"stage {i} has no parameters ({type(stage).__name__}): a proxy on weights cannot score it; naswot, "
                "zen_score and the counts can"
            )
    return layers


def check_gradients(layers: dict[str, nn.Module]) -> dict[str, Tensor]:
    """The gradients of the layers' weights by name; a layer that the output does not depend on has none.

    Raises:
        EvaluationError: one is not finite, or no layer has any.
    """
    found = {}
    for name, layer in layers.items():
        weight = layer.weight
        if not isinstance(weight, Tensor) or weight.grad is None:
            continue
        if not torch.isfinite(weight.grad).all():
            raise EvaluationError(f"the gradient of {name}.weight is not finite: the network has no score")
        found[name] = weight.grad
    if not found:
        raise EvaluationError("no weight has a gradient: the output does not depend on the weights")
    return found


@contextlib.contextmanager
def explain_failures(what: str) -> Iterator[None]:
    """What goes wrong inside is the candidate's failure; the message begins with the proxy's name.

    Raises:
        EvaluationError: the network cannot take such a batch, or memory runs out.
    """
    try:
        yield
    except EvaluationError as error:
        raise EvaluationError(f"{what}: {error}") from error
    except (RuntimeError, MemoryError, ValueError) as error:
        if is_out_of_memory(error):
            raise EvaluationError(f"{what}: out of memory at batch size {BATCH}") from error
        raise EvaluationError(f"{what}: {(str(error).splitlines() or [''])[0]}") from error
