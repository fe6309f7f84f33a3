"""What training scripts leave in a checkpoint: entries, averages, prefixes, counters, and structures that are wrong."""

from __future__ import annotations

import io
import pickle
import random
import zipfile
from pathlib import Path
from typing import Any

import own_networks
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from effnas import build
from effnas.evaluate.pretrained import read_pretrained
from effnas.space.architecture import Architecture
from effnas.space.built import BuiltNetwork
from effnas.space.errors import UserError
from effnas.space.stage import Stage
from effnas.space.weights.weights import load_into, read_weights, save_weights

SMALL = Architecture(
    (Stage("mbconv", 8, 2, expand_ratio=2, se_ratio=0.25), Stage("conv", 16)),
    stem=8,
    head=16,
    num_classes=3,
    name="small",
)
LIVE, OTHER = (build(SMALL, seed).state_dict() for seed in (1, 2))
OWN = BuiltNetwork(own_networks.plain, resolution=16, in_channels=1, num_classes=10)


def prefixed(prefix: str, state: dict[str, Any]) -> dict[str, Any]:
    return {prefix + name: tensor for name, tensor in state.items()}


def loaded(content: Any, path: Path) -> tuple[dict[str, torch.Tensor], str]:
    """The tensors of a network that the checkpoint is loaded into, and what is said of it."""
    torch.save(content, path)
    start = read_pretrained(SMALL, path)
    return start.load().state_dict(), start.note


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one if not name.endswith("tracked"))


# -- entries -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "entry"),
    [
        ({"net": LIVE, "acc": 90.0, "epoch": 3}, "entry net"),
        ({"model_state": LIVE, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}}, "entry model_state"),
        ({"network": LIVE}, "entry network"),
        ({"mine": LIVE, "optim_state": {"weight": torch.ones(3)}}, "entry mine"),
        ({"epoch": torch.tensor(3), "checkpoint": {"trunk": {"model": LIVE}}}, "entry checkpoint.trunk.model"),
        ({"state_dict": LIVE, "ema_state_dict": OTHER}, "entry ema_state_dict, averaged, not state_dict"),
        ({"model": LIVE, "model_ema": {"module": OTHER}}, "entry model_ema.module, averaged, not model"),
        ({"model": LIVE, "ema": {"decay": 0.99, "shadow": OTHER}}, "entry ema.shadow, averaged, not model"),
        ({"net": LIVE, "averaged_model": {"n_averaged": torch.tensor(4), **prefixed("module.", OTHER)}}, "averaged, "),
        ({"params": LIVE, "params_ema": OTHER}, "entry params_ema, averaged, not params"),
    ],
)
def test_the_entry_with_the_weights_is_found_and_said(content: Any, entry: str, tmp_path: Path) -> None:
    found, note = loaded(content, tmp_path / "c.pth")
    assert entry in note
    assert same(found, OTHER if "averaged" in entry else LIVE)


def test_an_average_without_the_statistics_is_not_taken(tmp_path: Path) -> None:
    half = {name: tensor for name, tensor in OTHER.items() if name.startswith("stem")}
    found, note = loaded({"model": LIVE, "model_ema": half}, tmp_path / "c.pth")
    assert same(found, LIVE)
    assert "entry model;" in note


# -- prefixes and counters ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "prefix", ["net.", "backbone.", "encoder.", "_orig_mod.", "module._orig_mod.", "student.backbone.module.", "0."]
)
def test_any_prefix_is_dropped(prefix: str, tmp_path: Path) -> None:
    found, note = loaded(prefixed(prefix, LIVE), tmp_path / "c.pth")
    assert same(found, LIVE)
    assert f"names without their prefix {prefix}" in note


def test_torchs_averaged_model(tmp_path: Path) -> None:
    """As torchvision's references save it (--model-ema)."""
    averaged = AveragedModel(build(SMALL, 1), use_buffers=True)
    found, note = loaded(averaged.state_dict(), tmp_path / "c.pth")
    assert same(found, LIVE)
    assert "names without their prefix module.; left out: n_averaged" in note


def test_what_is_beside_the_network_is_left_out_and_said(tmp_path: Path) -> None:
    """As Lightning saves a module with a loss of its own."""
    content = {"state_dict": {**prefixed("model.", LIVE), "criterion.weight": torch.ones(3)}, "hparams_name": "kwargs"}
    found, note = loaded(content, tmp_path / "c.ckpt")
    assert same(found, LIVE)
    assert "names without their prefix model.; left out: criterion.weight" in note


def test_an_average_beside_the_network_is_taken(tmp_path: Path) -> None:
    both = {**prefixed("model.", LIVE), **prefixed("ema.module.", OTHER)}
    found, note = loaded({"state_dict": both}, tmp_path / "c.ckpt")
    assert same(found, OTHER)
    assert "names without their prefix ema.module." in note


def test_the_counters_of_thop(tmp_path: Path) -> None:
    counters = {f"{part}total_{what}": torch.zeros(1) for part in ("", "stem.", "head.") for what in ("ops", "params")}
    found, note = loaded({**LIVE, **counters}, tmp_path / "c.pth")
    assert same(found, LIVE)
    assert "left out: total_ops, total_params, stem.total_ops, stem.total_params, head.total_ops and 1 more" in note


def test_a_builders_network_with_a_prefix_on_either_side(tmp_path: Path) -> None:
    state = build(OWN, 1).state_dict()
    torch.save({**prefixed("model.net.", state), "loss.weight": torch.ones(2)}, tmp_path / "c.pth")
    start = read_pretrained(None, tmp_path / "c.pth", OWN)
    assert same(start.load().state_dict(), state)
    assert "left out: loss.weight" in start.note
    torch.save(state, tmp_path / "c.pth")
    wrapped = nn.Sequential()
    wrapped.add_module("module", build(OWN, 2))
    load_into(wrapped, read_weights(tmp_path / "c.pth", OWN))
    assert same(wrapped.module.state_dict(), state)  # type: ignore[union-attr, operator]


def test_a_tensor_too_many_is_still_another_network(tmp_path: Path) -> None:
    torch.save({**LIVE, "stages.0.2.extra.weight": torch.ones(3)}, tmp_path / "c.pth")
    with pytest.raises(UserError, match=r"another network; not of this network: stages.0.2.extra.weight$"):
        read_pretrained(SMALL, tmp_path / "c.pth").load()


# -- what is wrong -----------------------------------------------------------------------------------------


def test_a_checkpoint_that_refers_to_itself(tmp_path: Path) -> None:
    content: dict[str, Any] = {"epoch": 1}
    content |= {f"entry{i}": content for i in range(50)}
    torch.save(content, tmp_path / "c.pth")
    with pytest.raises(UserError, match="holds no tensors by name"):
        read_weights(tmp_path / "c.pth")


@pytest.mark.parametrize("kind", [dict, list])
def test_a_deep_checkpoint(kind: type, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"x": 1}, buffer)
    opening = b"}X\x01\x00\x00\x00a" if kind is dict else b"]"
    deep = b"\x80\x02" + opening * 50_000 + b"K\x01" + (b"s" if kind is dict else b"a") * 50_000 + b"."
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(tmp_path / "c.pth", "w") as new:
        for name in old.namelist():
            new.writestr(name, deep if name.endswith("data.pkl") else old.read(name))
    with pytest.raises(UserError, match=r"holds no tensors by name|cannot be read as a checkpoint"):
        read_weights(tmp_path / "c.pth")


def test_a_small_file_that_would_be_a_large_one(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "c.pth", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("c/data.pkl", pickle.dumps({}, 2))
        file.writestr("c/data/0", bytes(10_000_000))
    with pytest.raises(UserError, match=r"cannot be read as a checkpoint of torch \(its members claim 10,0\d\d,\d\d\d"):
        read_weights(tmp_path / "c.pth")


@pytest.mark.parametrize(
    ("tensor", "kind"),
    [
        (torch.ones(8, 3, 3, 3).to_sparse(), "float32, sparse_coo"),
        (torch.ones(8, 3, 3, 3, dtype=torch.complex64), "complex64, strided"),
        (torch.empty(8, 3, 3, 3, device="meta"), "float32, strided"),
    ],
)
def test_tensors_that_are_no_numbers(tensor: torch.Tensor, kind: str, tmp_path: Path) -> None:
    torch.save({**LIVE, "stem.conv.weight": tensor}, tmp_path / "c.pth")
    with pytest.raises(UserError, match=rf"'stem.conv.weight' in .*c.pth is no ordinary tensor of numbers \({kind}\)"):
        read_weights(tmp_path / "c.pth")


def test_whole_numbers_are_no_weights(tmp_path: Path) -> None:
    torch.save({**LIVE, "stem.conv.weight": torch.ones(8, 3, 3, 3, dtype=torch.int8)}, tmp_path / "c.pth")
    with pytest.raises(UserError, match=r"no floating-point numbers: stem.conv.weight holds int8"):
        read_pretrained(SMALL, tmp_path / "c.pth").load()


def test_checkpoints_of_altered_structure_are_read_or_refused(tmp_path: Path) -> None:
    """Any of its parts replaced by something else: the weights or one message, whatever it is."""
    refused, rng, odd = (
        0,
        random.Random(0),
        [None, 5, "x", [], {}, [LIVE], {"a": {}}, torch.ones(2), float("nan"), {1: LIVE}],
    )
    for _ in range(100):
        state = {"model": dict(LIVE), "average": {"updates": 3, "weights": dict(OTHER)}}
        content: dict[str, Any] = {"effnas_checkpoint": 1, "identity": {}, "state": state}
        places = [content, state, state["average"], state["model"], state["average"]["weights"]]
        for _ in range(2):
            place: Any = rng.choice(places)
            place[rng.choice(list(place))] = rng.choice(odd)
        torch.save(content, tmp_path / "c.pt")
        try:
            read_pretrained(SMALL, tmp_path / "c.pt").load()
        except UserError:
            refused += 1
    assert 10 < refused < 90


def test_a_name_that_no_file_system_allows() -> None:
    with pytest.raises(UserError, match="weights: no such file: x"):
        read_weights("x" * 5000)


def test_our_own_files_say_nothing_of_entries(tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", build(SMALL, 1), architecture=SMALL)
    note = read_pretrained(None, tmp_path / "w.safetensors").note
    assert "entry" not in note
    assert "left out" not in note
