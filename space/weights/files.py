"""Files of tensors, read as data: safetensors, and torch's with ``weights_only``; nothing in them is ever run."""

from __future__ import annotations

import argparse
import json
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import UserError
from ..files import read_text

#: Where training scripts keep the weights in their checkpoints; averaged ones first, as timm takes them.
_NESTED = ("state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model")
#: What wrappers put before every name: DistributedDataParallel, torch.compile, Lightning.
_PREFIXES = ("module.", "_orig_mod.", "model.")
#: How torch says that a pickle names functions or classes, or that a file is a program.
_MORE_THAN_DATA = re.compile(r"unsupported (global|class|operand)|TorchScript", re.IGNORECASE)
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file by their names, without prefixes, and what the file says about itself.

    Of a training script's checkpoint the averaged weights are taken where there are some (``state_dict_ema``,
    ``model_ema``), else ``state_dict``, ``model_state_dict`` or ``model``; of ours likewise.

    Returns:
        The tensors; the metadata of a safetensors file, or a checkpoint's name of its network as ``arch``.

    Raises:
        UserError: no such file, not a checkpoint, truncated, more than data in it, or no tensors.
    """
    if not path.is_file():
        raise UserError(f"weights: no such file: {path}")
    tensors, facts = _read_safetensors(path) if path.suffix == ".safetensors" else _read_checkpoint(path)
    if not tensors:
        raise UserError(
            f"weights: {path} holds no tensors by name; a state_dict is needed, alone or under one of: "
            f"{', '.join(_NESTED)}"
        )
    prefix = find_wrappers_prefix(tensors)
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}, facts


def find_wrappers_prefix(names: Iterable[str]) -> str:
    """What wrappers put before all of the names, one after the other; empty where they put nothing."""
    rest, prefix = list(names), ""
    while rest and (found := next((p for p in _PREFIXES if all(name.startswith(p) for name in rest)), "")):
        rest, prefix = [name.removeprefix(found) for name in rest], prefix + found
    return prefix


def read_timm_config(path: Path) -> dict[str, Any]:
    """The ``config.json`` that timm puts beside its files on the Hugging Face hub; empty where there is none."""
    try:
        found = json.loads(read_text(path.with_name("config.json"), "config"))
    except (ValueError, RecursionError, OSError):  # none, or something else's
        return {}
    if not isinstance(found, dict) or not isinstance(found.get("architecture"), str):
        return {}
    inner = found.get("pretrained_cfg")
    return {**found, **inner} if isinstance(inner, dict) else found


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise UserError(
            f"weights: {path} is not a whole safetensors file ({_one_line(error)}); it may be truncated"
        ) from None


def _read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        # timm's training checkpoints hold their arguments as a Namespace: attributes, no code
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of files that are then refused
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes end anywhere in torch's readers
        if _MORE_THAN_DATA.search(str(error)):
            named = _GLOBAL.search(str(error))
            what = f" ({named[1]})" if named else ", or is damaged"
            raise UserError(
                f"weights: {path} holds more than tensors and plain data{what}; it is never loaded, because it could "
                "run code. Save its state_dict alone"
            ) from None
        raise UserError(
            f"weights: {path} cannot be read as a checkpoint of torch ({_one_line(error)}); it may be truncated"
        ) from None
    arch = found.get("arch") if isinstance(found, dict) else None
    tensors = _find_state_dict(found)
    return tensors, {"arch": arch} if isinstance(arch, str) else {}


def _find_state_dict(found: Any) -> dict[str, Tensor]:
    """The weights in what ``torch.save`` wrote; empty where there are none."""
    if isinstance(found, Mapping) and "effnas_checkpoint" in found and isinstance(found.get("state"), Mapping):
        state = found["state"]
        average = state.get("average")
        found = average.get("weights") if isinstance(average, Mapping) else state.get("model")
    elif isinstance(found, Mapping):
        found = next((found[key] for key in _NESTED if isinstance(found.get(key), Mapping)), found)
    if not isinstance(found, Mapping):
        return {}
    return {str(name): value for name, value in found.items() if isinstance(value, Tensor)}


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
