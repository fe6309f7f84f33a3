"""Networks of the zoo that builders make, by name."""

import pytest
from builders import NETWORKS

from effnas import cost, load_architecture
from effnas.space.builders.table import BUILT

MODULES = ("resnet", "mobilenet_v3", "shufflenet_v2", "squeezenet", "googlenet")
NAMES = [name for name, built in BUILT.items() if built.module in MODULES and name != "wrn_28_10"]


@pytest.mark.parametrize("name", NAMES)
def test_costs_by_name(name):
    found, expected = cost(load_architecture(name)), NETWORKS[name.replace("se_resnet", "seresnet")]
    assert (found.params, found.macs, found.activations) == tuple(
        expected[n] for n in ("params", "macs", "activations")
    )


def test_wrn_is_for_cifar():
    network = load_architecture("wrn_28_10")
    assert (network.resolution, network.num_classes) == (32, 10)
    found = cost(network)
    assert (found.params, found.macs) == (36_479_194, 5_243_328_768)  # worked out in test_resnet.py
