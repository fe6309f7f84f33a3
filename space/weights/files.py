"""Files of tensors, read as data: safetensors, and torch's with ``weights_only``; nothing in them is ever run."""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import UserError
from ..files import read_text
from ..paths import is_file, is_folder

#: Where training scripts keep the weights in their checkpoints, the usual names first.
_NESTED = (
    *("state_dict", "model_state_dict", "model", "model_state", "net", "network", "module", "net_state_dict"),
    *("model_weights", "weights", "params", "state"),
)
#: A name of averaged weights (EMA, SWA): torchvision's, timm's, Lightning's, BasicSR's, OpenAI's.
AVERAGED = re.compile(r"(^|[._])(ema|swa|avg|averaged?|shadow)([._\d]|$)", re.IGNORECASE)
#: Names of what is no network's: it may hold tensors by name too.
_NO_WEIGHTS = re.compile(r"optim|sched|scaler|amp|rng|loss|criterion|metric|callback|loop|hyper|args|config", re.I)
#: Bytes at the beginning of a file that tell whether it is text.
_LOOKED_AT = 512
#: Entries inside entries that are looked into.
_DEPTH = 4
#: How torch says that a pickle names functions or classes, or that a file is a program.
_MORE_THAN_DATA = re.compile(r"unsupported (global|class|operand)|TorchScript", re.IGNORECASE)
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")
#: Of which entry of a checkpoint a description of the network is, as timm's scripts and ours keep it.
_FACTS = ("pretrained_cfg", "default_cfg")


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any], str]:
    """The tensors of a file by the names that it has, and what the file says about itself.

    Of a training script's checkpoint the averaged weights are taken where there are some (``state_dict_ema``,
    ``model_ema``, ``ema_state_dict``, …), else ``state_dict``, ``model``, ``net`` and the like; of ours likewise.

    Returns:
        The tensors; the metadata of a safetensors file, or of a checkpoint ``arch`` and ``pretrained_cfg``; and, where
        the file has more than one thing in it, which of its entries the tensors are.

    Raises:
        UserError: no such file, not a checkpoint, truncated, more than data in it, or no tensors.
    """
    if is_folder(path):
        raise UserError(f"weights: {path!s:.300} is a folder; name the file of weights in it{_suggest_file(path)}")
    if not is_file(path):
        raise UserError(f"weights: no such file: {path!s:.300}")
    _check_kind(path)
    tensors, facts, entry = _read_safetensors(path) if path.suffix == ".safetensors" else _read_checkpoint(path)
    if not tensors:
        raise UserError(
            f"weights: {path} holds no tensors by name; a state_dict is needed, alone or under one of: "
            f"{', '.join(_NESTED)}"
        )
    if odd := next((name for name, tensor in tensors.items() if not _is_plain(tensor)), None):
        kind = f"{tensors[odd].dtype}, {tensors[odd].layout}".replace("torch.", "")
        raise UserError(f"weights: {odd!r:.100} in {path} is no ordinary tensor of numbers ({kind})")
    return tensors, facts, entry


def _check_kind(path: Path) -> None:
    """Refuse, in words, what readers of weights would refuse in their own."""
    try:
        with open(path, "rb") as file:
            begin = file.read(_LOOKED_AT)
    except OSError as error:
        raise UserError(f"weights: {path} cannot be read ({error.strerror or error})") from None
    if begin and begin.isascii() and all(byte >= 32 or byte in b"\t\n\r" for byte in begin):
        raise UserError(f"weights: {path} is a file of text; weights are in files such as weights.safetensors or .pth")


def _suggest_file(folder: Path) -> str:
    """A file of weights that a folder has, for a message; empty where it has none."""
    with contextlib.suppress(OSError):
        if found := sorted(folder.glob("*.safetensors")):
            return f", such as {found[-1]!s:.300}"
    return ""


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


def _is_plain(tensor: Tensor) -> bool:
    return tensor.layout is torch.strided and not (tensor.is_quantized or tensor.is_complex() or tensor.is_meta)


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any], str]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}, ""  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise UserError(
            f"weights: {path} is not a whole safetensors file ({_one_line(error)}); it may be truncated"
        ) from None


def _read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any], str]:
    try:
        _check_size(path)
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
    tensors, entry = _find_state_dict(found)
    return tensors, _find_facts(found), entry


def _check_size(path: Path) -> None:
    """Raise ValueError where a small file would become a large one in memory: torch compresses programs alone."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            size, claimed = path.stat().st_size, sum(member.file_size for member in file.infolist())
        if claimed > 20 * size:
            raise ValueError(f"its members claim {claimed:,} bytes, the file has {size:,}")


def _find_facts(found: Any) -> dict[str, Any]:
    """timm's name of the network and its description, where a checkpoint has them; as texts, like safetensors'."""
    if not isinstance(found, Mapping):
        return {}
    facts = {"arch": found["arch"]} if isinstance(found.get("arch"), str) else {}
    name = next((name for name in _FACTS if isinstance(found.get(name), Mapping)), None)
    if name is not None:
        with contextlib.suppress(TypeError, ValueError, RecursionError):  # with tensors in it: nobody's description
            facts["pretrained_cfg"] = json.dumps(dict(found[name]))
    return facts


def _find_state_dict(found: Any) -> tuple[dict[str, Tensor], str]:
    """The weights in what ``torch.save`` wrote, and the entry that they are; empty where there are none."""
    if isinstance(found, Mapping) and "effnas_checkpoint" in found:
        state = found.get("state")
        state = state if isinstance(state, Mapping) else {}
        average = state.get("average")
        if isinstance(average, Mapping) and (tensors := _named_tensors(average.get("weights"))):
            return tensors, "state.average.weights, averaged"
        return _named_tensors(state.get("model")), "state.model"
    entries = list(_entries(found, "", _DEPTH, set()))
    plain = [(name, tensors) for name, tensors in entries if not AVERAGED.search(name)]
    averaged = [(name, tensors) for name, tensors in entries if AVERAGED.search(name)]
    for name, tensors in averaged:
        beside = next((other for other, _ in plain), "")
        if len(tensors) < max((len(t) for _, t in plain), default=0) // 2:  # without BatchNorm's statistics, say
            continue
        return tensors, f"{name}, averaged" + (f", not {beside}" if beside else "")
    return (plain[0][1], plain[0][0]) if plain else ({}, "")


def _entries(found: Any, name: str, depth: int, seen: set[int]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every entry that holds weights, by its dotted name, the likeliest first; each once, of what refers to itself."""
    if not isinstance(found, Mapping) or not depth or id(found) in seen:
        return
    seen.add(id(found))
    keys = [key for key in found if isinstance(key, str) and isinstance(found[key], Mapping)]
    known = [key for key in _NESTED if key in keys]
    others = [key for key in keys if key not in known and not _NO_WEIGHTS.search(key)]
    inner = [entry for key in (*known, *others) for entry in _entries(found[key], f"{name}{key}.", depth - 1, seen)]
    own = _named_tensors(found)
    # tensors beside entries are a script's counters, unless they are more than what the entries have
    if own and len(own) > max((len(tensors) for _, tensors in inner), default=0):
        yield name.rstrip("."), own
    yield from inner


def _named_tensors(found: Any) -> dict[str, Tensor]:
    if not isinstance(found, Mapping):
        return {}
    return {name: value for name, value in found.items() if isinstance(name, str) and isinstance(value, Tensor)}


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
