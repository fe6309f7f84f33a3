import json
from pathlib import Path

import pytest

from effnas.space.architecture import Architecture
from effnas.space.cost import cost
from effnas.space.errors import UserError
from effnas.space.stage import Stage
from effnas.space.zoo import ARCHITECTURES, PUBLISHED, load_architecture, zoo

#: parameters and MACs at the published resolution and 1,000 classes, worked out apart from this code
EFFICIENTNETS = {
    "efficientnet_b0": (5_288_548, 385_814_752),
    "efficientnet_b1": (7_794_184, 686_802_832),
    "efficientnet_b2": (9_109_994, 993_561_872),
    "efficientnet_b3": (12_233_232, 1_827_141_392),
    "efficientnet_b4": (19_341_616, 4_393_771_024),
    "efficientnet_b5": (30_389_784, 10_266_384_752),
    "efficientnet_b6": (43_040_704, 19_067_593_536),
    "efficientnet_b7": (66_347_960, 37_745_884_192),
    "efficientnet_b8": (87_413_142, 62_597_461_568),
    "efficientnet_l2": (480_309_308, 475_703_653_280),
}
#: parameters as other implementations count them: timm's Lite and semnasnet_100, torchvision's mnasnet1_0 and
#: mobilenet_v2, Keras' MobileNet (less its 21,888 moving averages)
OTHERS = {
    "efficientnet_lite0": 4_652_008,
    "efficientnet_lite1": 5_416_680,
    "efficientnet_lite2": 6_092_072,
    "efficientnet_lite3": 8_197_096,
    "efficientnet_lite4": 13_006_568,
    "mnasnet_a1": 3_887_038,
    "mnasnet_b1": 4_383_312,
    "mobilenet_v1": 4_231_976,
    "mobilenet_v2": 3_504_872,
}


#: torchvision's and timm's own networks with fused blocks, counted (tests/golden/make_torchvision_zoo.py)
GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "torchvision_zoo.json"
FUSED = json.loads(GOLDEN.read_text(encoding="utf-8"))["architectures"]
#: of timm's published table: millions of parameters, GMACs by fvcore (two more for each element of BatchNorm), millions
#: of activations, at these pixels
TIMMS_TABLE = {
    "efficientnet_v2_b0": (7.14, 0.73, 4.77, 224),
    "efficientnet_v2_b1": (8.14, 1.21, 7.34, 240),
    "efficientnet_v2_b2": (10.10, 1.72, 9.84, 260),
    "efficientnet_v2_b3": (14.36, 3.04, 15.74, 300),
    "efficientnet_v2_s": (21.46, 8.44, 35.77, 384),
    "efficientnet_v2_m": (54.14, 24.76, 89.84, 480),
    "efficientnet_v2_l": (118.52, 56.4, 157.99, 480),
    "efficientnet_v2_xl": (208.12, 93.85, 247.32, 512),
    "efficientnet_es": (5.44, 1.81, 8.73, 224),
}


@pytest.mark.parametrize("name", FUSED)
def test_networks_with_fused_blocks_exactly(name):
    found = cost(zoo(name))
    assert zoo(name).resolution == FUSED[name]["side"]
    assert (found.params, found.macs, found.activations) == tuple(
        FUSED[name][what] for what in ("params", "macs", "activations")
    )


@pytest.mark.parametrize("name", TIMMS_TABLE)
def test_networks_with_fused_blocks_have_the_costs_of_timms_table(name):
    params, macs, activations, resolution = TIMMS_TABLE[name]
    assert zoo(name).resolution == resolution
    found = cost(zoo(name))
    assert found.params / 1e6 == pytest.approx(params, abs=0.0051)
    assert (found.macs + 2 * found.activations) / 1e9 == pytest.approx(macs, abs=0.0051)
    assert found.activations / 1e6 == pytest.approx(activations, abs=0.0051)


@pytest.mark.parametrize("name", EFFICIENTNETS)
def test_published_efficientnets_exactly(name):
    found = cost(zoo(name))
    assert (found.params, found.macs) == EFFICIENTNETS[name]


@pytest.mark.parametrize("name", OTHERS)
def test_parameters_of_the_others_exactly(name):
    assert cost(zoo(name)).params == OTHERS[name]


def test_the_tables_cover_the_zoo():
    assert set(EFFICIENTNETS) | set(OTHERS) | set(FUSED) == set(ARCHITECTURES)


@pytest.mark.parametrize(
    ("name", "millions"),  # as the papers print them, "multiply-adds"
    [("mobilenet_v1", 569), ("mobilenet_v2", 300), ("mnasnet_a1", 312), ("efficientnet_b0", 390)],
)
def test_macs_agree_with_the_papers(name, millions):
    assert cost(zoo(name)).macs == pytest.approx(millions * 1e6, rel=0.012)


def test_activations_of_b0():
    assert cost(zoo("efficientnet_b0")).activations == 6_748_036


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_network_survives_its_yaml(name):
    network = zoo(name)
    assert network.name == name
    again = Architecture.from_yaml(network.to_yaml())
    assert again == network
    assert again.digest == network.digest


def test_digests_are_distinct():
    assert len({zoo(name).digest for name in ARCHITECTURES}) == len(ARCHITECTURES)


def test_settings_of_the_families():
    b4, lite3, v1 = zoo("efficientnet_b4"), zoo("efficientnet_lite3"), zoo("mobilenet_v1")
    assert (b4.resolution, b4.dropout, b4.drop_path, b4.bn_eps, b4.bn_momentum) == (380, 0.4, 0.2, 1e-3, 0.01)
    assert (b4.activation, b4.stem, b4.head, b4.blocks) == ("silu", 48, 1792, 32)
    assert (lite3.resolution, lite3.activation, lite3.stem, lite3.head) == (280, "relu6", 32, 1280)
    assert {stage.se_ratio for stage in lite3.stages} == {0.0}
    assert (lite3.stages[0].repeats, lite3.stages[-1].repeats) == (1, 1)
    assert (v1.head, {stage.skip for stage in v1.stages}, v1.total_stride) == (0, {"none"}, 32)
    v2, edge = zoo("efficientnet_v2_m"), zoo("efficientnet_es")
    assert (v2.dropout, v2.drop_path, v2.bn_eps, v2.bn_momentum, v2.blocks, v2.total_stride) == (
        0.3,
        0.2,
        1e-3,
        0.1,
        57,
        32,
    )
    assert (edge.activation, edge.stem, edge.dropout, {stage.se_ratio for stage in edge.stages}) == (
        "relu",
        32,
        0.2,
        {0.0},
    )
    for name in PUBLISHED:
        assert zoo(name).resolution == PUBLISHED[name].resolution


def test_load_architecture_by_name_and_from_a_file(tmp_path):
    assert load_architecture("mobilenet_v2") == zoo("mobilenet_v2")
    network = Architecture((Stage("conv", 8),), resolution=32)
    path = network.save(tmp_path / "mine.yaml")
    assert load_architecture(str(path)) == network
    assert load_architecture(path).name == "mine"
    assert load_architecture(network.with_(name="called").save(path)).name == "called"


def test_zoo_lists_its_names():
    with pytest.raises(
        UserError, match=r"network: unknown 'efficientnet-b0'\. Did you mean 'efficientnet_b0'\? Choose"
    ):
        zoo("efficientnet-b0")


@pytest.mark.parametrize("name", ["efficientnet_b9", "a\0b", "x" * 5000, ".", ""])
def test_neither_name_nor_file(name):
    with pytest.raises(UserError, match="is not a network of the zoo, and there is no such file") as caught:
        load_architecture(name)
    assert "efficientnet_b0, " in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_the_nearest_names_are_suggested():
    with pytest.raises(UserError, match=r"Did you mean 'efficientnet_b\d' or 'efficientnet_b\d'"):
        load_architecture("efficientnet_b9")


def test_a_file_that_is_no_architecture(tmp_path):
    path = tmp_path / "notes.yaml"
    path.write_text("hello: world\n")
    with pytest.raises(UserError, match=r"notes\.yaml: not an architecture"):
        load_architecture(path)


@pytest.mark.parametrize(
    "text", ["er_r2_k3_s2_e4_c24\nir_r1_k3_s1_e4_c24\n", "- ds_r1_k3_s1_c16\n", "- [cn_r1_k3_s1_c8]"]
)
def test_a_file_of_timms_strings_without_its_prefix(text, tmp_path):
    file = tmp_path / "strings.txt"
    file.write_text(text)
    with pytest.raises(UserError, match=r"not an architecture, but timm's architecture strings: name it timm:.*txt$"):
        load_architecture(file)
    assert load_architecture(f"timm:{file}").name == "strings"
