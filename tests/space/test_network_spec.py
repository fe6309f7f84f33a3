"""Both kinds of networks answer alike: what a consumer may ask without knowing which one it holds."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from own_networks import plain

from effnas import UserError, build, cost, load_architecture
from effnas.space.architecture import Architecture
from effnas.space.built import BuiltNetwork
from effnas.space.multipliers import DIVISORS
from effnas.space.network_spec import NetworkSpec
from effnas.space.stage import Stage

OWN = BuiltNetwork(partial(plain, kernel_size=3), resolution=16, in_channels=2, num_classes=5, name="own")
STAGES = (Stage("conv", 8), Stage("mbconv", 16, 2, stride=2, expand_ratio=2))
ARCHITECTURE = Architecture(STAGES, stem=8, head=32, resolution=16, in_channels=2, num_classes=5, name="own")
NETWORKS: list[NetworkSpec] = [ARCHITECTURE, OWN, BuiltNetwork("resnet18", width=0.25, resolution=32, num_classes=5)]
both = pytest.mark.parametrize("network", NETWORKS, ids=lambda network: type(network).__name__)


@both
def test_the_module_is_what_the_network_says(network: NetworkSpec) -> None:
    module = build(network, 0).eval()
    assert network.cost == cost(network)
    assert sum(p.numel() for p in module.parameters()) == network.cost.params
    side = network.resolution
    assert module(torch.zeros(2, network.in_channels, side, side)).shape == (2, network.num_classes)
    other = build(network.with_(num_classes=7), 0).state_dict()
    differing = {name for name, tensor in module.state_dict().items() if tensor.shape != other[name].shape}
    assert set(network.classifier_axes) == differing
    for name, axis in network.classifier_axes.items():
        assert (module.state_dict()[name].shape[axis], other[name].shape[axis]) == (5, 7)


@both
def test_a_scaled_network_is_larger_and_of_its_kind(network: NetworkSpec) -> None:
    network.check_scalable()
    scaled = network.scaled(2.0, 2.0, 2 * network.resolution)
    assert type(scaled) is type(network)
    assert scaled.resolution == 2 * network.resolution
    assert scaled.cost.macs > 8 * network.cost.macs
    assert scaled.digest != network.digest
    assert scaled.after_rounding != network.after_rounding
    assert network.scaled(1.0, 1.0, network.resolution).after_rounding == network.after_rounding


@both
def test_what_a_builder_alone_knows_is_none(network: NetworkSpec) -> None:
    known = isinstance(network, Architecture)
    assert (network.blocks is not None) is known
    assert (network.dropout is not None) is known
    assert network.divisors == (DIVISORS if known else DIVISORS[:1])
    assert not network.fixed_ends
    assert network.maker == "the network" or network.maker.startswith("builder ")


@both
def test_files_equality_and_classes(network: NetworkSpec, tmp_path: Path) -> None:
    assert load_architecture(network.save(tmp_path / "n.yaml"), OWN) == network
    assert network.with_(name="other").digest == network.digest
    assert hash(network.with_()) == hash(network)
    assert network.with_settings(None, None) == network
    network.check_classes(5)
    with pytest.raises(UserError, match=r"^the data has 6 classes, the architecture 5: set .*num_classes.*6$"):
        network.check_classes(6)
    with pytest.raises(UserError, match=f"{type(network).__name__} field: unknown 'stripes'"):
        network.with_(stripes=3)
