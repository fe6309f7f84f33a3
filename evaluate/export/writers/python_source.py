"""``python``: one file of plain PyTorch that is the network, with no import of this package.

The code is that of this package itself, cut out of its source, so that there is one of it.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from ....space import blocks
from ....space.architecture import Architecture
from ....space.errors import UserError
from ....space.files import write_text
from ....space.network import Network
from ....space.stage import Stage
from ..subject import Subject

_HEAD = '''"""{title}

{costs}
Written by effnas {version}. It needs torch and safetensors, and nothing else; the weights are read from
weights.safetensors beside this file.

    from network import build

    network = build()  # in evaluation mode, with its weights
    logits = network(images)  # (n, {channels}, {size}, {size}), normalised, to (n, {classes})
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.fx import Proxy
from torch.jit import is_scripting, is_tracing

{code}

#: What an image needs: the centre square resized so that its centre crop has `size` pixels; mean and std in units of
#: 0 to 255.
PREPROCESSING = {preprocessing}
#: Names of the outputs.
CLASSES = {names}


def build(weights: str | Path | None = Path(__file__).with_name("weights.safetensors")) -> nn.Module:
    """The network in evaluation mode, with its weights; None: with random ones."""
    network = Network(ARCHITECTURE)
    if weights is not None:
        network.load_state_dict(load_file(weights))
    return network.eval()
'''

_DATA = '''class Stage(NamedTuple):
    """Equal blocks in a row; the first one has the stride and changes the width."""

{stage_fields}


class Architecture(NamedTuple):
    """What the network is."""

{fields}

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return sum(stage.repeats for stage in self.stages)

{iter_blocks}


{network}

ARCHITECTURE = Architecture(
    stages=(
{stages}
    ),
{values}
)'''
_REFERENCE = re.compile(r":\w+:`~?(?:effnas\.[\w.]*\.)?(\w+)`")
#: Of an Architecture, what its module does not depend on.
_LEFT_OUT = ("stages", "name", "fixed_ends")


def write(subject: Subject, path: Path) -> None:
    """The file."""
    a = _architecture(subject)
    cost = a.cost
    text = _HEAD.format(
        title=f"{_plain(a.name) or 'A network'}: {a.resolution} pixels, {a.num_classes} classes.",
        costs=f"{cost.params:,} parameters, {cost.macs:,} multiply-accumulates (MACs) an image.\n",
        version=_version(),
        channels=a.in_channels,
        size=a.resolution,
        classes=a.num_classes,
        code=network_code(a),
        preprocessing=repr(subject.preprocessing.to_dict()),
        names=repr(subject.classes),
    )
    write_text(path, text)


def read(subject: Subject, path: Path, threads: int | None) -> nn.Module:
    """The network that the file's ``build`` makes, run on its own."""
    module = ModuleType("network")
    module.__file__ = str(path)
    run_source(path.read_text(encoding="utf-8"), module)
    found: nn.Module = module.build()
    return subject.around(found)


def run_source(text: str, module: ModuleType) -> None:
    """Run code that this package has just written, in a module of its own."""
    import sys

    before = sys.modules.get(module.__name__)
    sys.modules[module.__name__] = module
    try:
        exec(compile(text, str(module.__file__), "exec"), module.__dict__)
    finally:
        if before is None:
            del sys.modules[module.__name__]
        else:
            sys.modules[module.__name__] = before


def network_code(architecture: Architecture) -> str:
    """The classes that make an Architecture's module, and the Architecture itself as ``ARCHITECTURE``."""
    a = architecture
    stages = "\n".join(f"        {_call(stage)}," for stage in a.stages)
    names = [f.name for f in fields(a) if f.name not in _LEFT_OUT]
    kinds = {f.name: str(f.type) for f in (*fields(Stage), *fields(a))}
    body = _DATA.format(
        stage_fields="\n".join(f"    {f.name}: {kinds[f.name]}" for f in fields(Stage)),
        fields="\n".join(["    stages: tuple[Stage, ...]", *(f"    {name}: {kinds[name]}" for name in names)]),
        iter_blocks=textwrap.indent(textwrap.dedent(inspect.getsource(Architecture.iter_blocks)).rstrip(), "    "),
        network=inspect.getsource(Network),
        stages=stages,
        values="\n".join(f"    {name}={getattr(a, name)!r}," for name in names),
    )
    source = inspect.getsource(blocks)
    source = source[source.index("#: With a type") :].rstrip()
    text = f"{source}\n\n\n{body}"
    text = re.sub(r" +# type: ignore\[[\w, -]+\]$", "", text, flags=re.M)
    return _REFERENCE.sub(r"``\1``", text)


def _call(stage: Stage) -> str:
    return f"Stage({', '.join(f'{f.name}={getattr(stage, f.name)!r}' for f in fields(stage))})"


def _architecture(subject: Subject) -> Architecture:
    found: Any = subject.architecture
    if not hasattr(found, "stages"):
        raise UserError(f"to=python: {found.name} has no stages")
    return found  # type: ignore[no-any-return]


def _plain(name: str) -> str:
    """A name that ends no docstring."""
    return name.encode("unicode_escape").decode("ascii").replace('"', "'").replace("{", "(").replace("}", ")")


def _version() -> str:
    from .... import __version__

    return __version__
