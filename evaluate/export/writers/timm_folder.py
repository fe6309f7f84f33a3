"""``timm``: a folder that timm loads, ``timm.create_model("local-dir:DIR/timm", pretrained=True)``.

timm's ``config.json`` names a network of timm's list and cannot hold the blocks of another one. So ``timm_model.py``
beside it registers the network: import it first.
"""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from safetensors.torch import load_file, save
from torch import nn

from ....space.architecture import Architecture
from ....space.files import write_bytes, write_text
from ..subject import Subject
from .python_source import network_code, run_source

_HEAD = '''"""{title} for timm: import this file, then timm.create_model("local-dir:THIS_FOLDER", pretrained=True).

    import sys, timm
    sys.path.insert(0, "THIS_FOLDER")
    import timm_model

    network = timm.create_model("{name}", pretrained=False)  # random weights
    network = timm.create_model("local-dir:THIS_FOLDER", pretrained=True)  # those of model.safetensors
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import Proxy
from torch.jit import is_scripting, is_tracing

'''
_TAIL = '''

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model

default_cfgs = generate_default_cfgs({{"{name}": {config}}})

#: Of ``features_only``: the last stage of each size.
FEATURE_INFO = {features}
FEATURES = {{"feature_cls": "hook", "out_indices": tuple(range(len(FEATURE_INFO)))}}


class TimmNetwork(Network):
    """The network with the arguments and methods that timm expects of one."""

    def __init__(
        self,
        num_classes: int = {classes},
        in_chans: int = {channels},
        drop_rate: float = {dropout},
        drop_path_rate: float = {drop_path},
        global_pool: str = "avg",
        **ignored: Any,
    ) -> None:
        changed = {{"in_channels": in_chans, "dropout": drop_rate, "drop_path": drop_path_rate}}
        super().__init__(ARCHITECTURE._replace(**changed))
        self.num_classes, self.head_hidden_size = num_classes, self.num_features
        self.drop_rate = drop_rate
        self.feature_info = list(FEATURE_INFO)
        if num_classes != ARCHITECTURE.num_classes:
            self.reset_classifier(num_classes)

    def get_classifier(self) -> nn.Module:
        """The last layer."""
        return self.classifier

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A fresh last layer."""
        self.num_classes = num_classes
        super().reset_classifier(num_classes)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """There is none."""
        assert not enable, "gradient checkpointing is not supported"


@register_model
def {name}(pretrained: bool = False, **kwargs: Any) -> TimmNetwork:
    """{title}"""
    return build_model_with_cfg(
        TimmNetwork, "{name}", pretrained, feature_cfg=FEATURES, **kwargs
    )
'''


def write(subject: Subject, path: Path) -> None:
    """The folder."""
    a: Any = subject.architecture
    name, config = name_for_timm(a.name), _config(subject)
    title = f"{name}, {a.resolution} pixels, {a.num_classes} classes"
    options = {
        "name": name,
        "title": title,
        "config": repr(config),
        "classes": a.num_classes,
        "channels": a.in_channels,
        "dropout": a.dropout,
        "drop_path": a.drop_path,
        "features": repr(_features(a)),
    }
    text = _HEAD.format(**options) + network_code(a) + _TAIL.format(**options)
    write_text(path / "timm_model.py", text)
    tensors = {key: value.detach().contiguous() for key, value in subject.plain.state_dict().items()}
    write_bytes(path / "model.safetensors", save(tensors, {"format": "pt"}))
    document: dict[str, Any] = {"architecture": name, "num_classes": a.num_classes, "num_features": a.head}
    document["num_features"] = a.head or a.stages[-1].channels
    document["pretrained_cfg"] = config
    if subject.classes is not None:
        document["label_names"] = list(subject.classes)
    write_text(path / "config.json", json.dumps(document, indent=2) + "\n")


def read(subject: Subject, path: Path, threads: int | None) -> nn.Module:
    """The network as timm makes it, where timm is there; else as the code in its file, without timm around it."""
    return subject.around(_open_by_timm(subject, path) if is_timm_there() else _open_alone(path))


def is_timm_there() -> bool:
    """Whether timm opens the folder for its proof."""
    return find_spec("timm") is not None


def name_for_timm(name: str) -> str:
    """Such that it is a function's, and none of timm's own."""
    plain = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_").lower()
    return f"effnas_{plain}" if plain else "effnas_network"


def _open_by_timm(subject: Subject, path: Path) -> nn.Module:
    import timm

    module = ModuleType("timm_model")
    module.__file__ = str(path / "timm_model.py")
    run_source((path / "timm_model.py").read_text(encoding="utf-8"), module)
    found: nn.Module = timm.create_model(f"local-dir:{path}", pretrained=True)
    return found.eval()


def _open_alone(path: Path) -> nn.Module:
    text, _, _ = (path / "timm_model.py").read_text(encoding="utf-8").partition("\nfrom timm.models import")
    module = ModuleType("timm_model")
    module.__file__ = str(path / "timm_model.py")
    run_source(text, module)
    network: nn.Module = module.Network(module.ARCHITECTURE)
    network.load_state_dict(load_file(path / "model.safetensors"))
    return network.eval()


def _config(subject: Subject) -> dict[str, Any]:
    """timm's description of the images: mean and std in units of 0 to 1."""
    p = subject.preprocessing
    return {
        "input_size": [p.channels, p.size, p.size],
        "num_classes": subject.architecture.num_classes,
        "crop_pct": p.center_crop,
        "interpolation": p.interpolation,
        "mean": [value / 255 for value in p.mean],
        "std": [value / 255 for value in p.std],
        "first_conv": "stem.conv",
        "classifier": "classifier",
        "fixed_input_size": False,
    }


def _features(a: Architecture) -> list[dict[str, Any]]:
    """What ``features_only`` gives: the last stage of each size."""
    found: dict[int, dict[str, Any]] = {}
    stride = a.stem_stride
    for i, stage in enumerate(a.stages):
        stride *= stage.stride
        found[stride] = {"num_chs": stage.channels, "reduction": stride, "module": f"stages.{i}"}
    return list(found.values())
