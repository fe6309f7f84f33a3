"""timm's architecture strings against timm's own tables, both ways, and every mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from effnas import UserError, architecture_from_timm, architecture_to_timm, cost, load_architecture, scale
from effnas.cli import main
from effnas.space.architecture import Architecture
from effnas.space.formulas import Cost
from effnas.space.stage import Stage
from effnas.space.zoo import ARCHITECTURES, zoo

#: As timm's ``_gen_…`` functions have them.
B0 = [
    ["ds_r1_k3_s1_e1_c16_se0.25"],
    ["ir_r2_k3_s2_e6_c24_se0.25"],
    ["ir_r2_k5_s2_e6_c40_se0.25"],
    ["ir_r3_k3_s2_e6_c80_se0.25"],
    ["ir_r3_k5_s1_e6_c112_se0.25"],
    ["ir_r4_k5_s2_e6_c192_se0.25"],
    ["ir_r1_k3_s1_e6_c320_se0.25"],
]
LITE = [[text.removesuffix("_se0.25") for text in row] for row in B0]
A1 = [
    ["ds_r1_k3_s1_e1_c16_noskip"],
    ["ir_r2_k3_s2_e6_c24"],
    ["ir_r3_k5_s2_e3_c40_se0.25"],
    ["ir_r4_k3_s2_e6_c80"],
    ["ir_r2_k3_s1_e6_c112_se0.25"],
    ["ir_r3_k5_s2_e6_c160_se0.25"],
    ["ir_r1_k3_s1_e6_c320"],
]
B1 = [
    ["ds_r1_k3_s1_c16_noskip"],
    ["ir_r3_k3_s2_e3_c24"],
    ["ir_r3_k5_s2_e3_c40"],
    ["ir_r3_k5_s2_e6_c80"],
    ["ir_r2_k3_s1_e6_c96"],
    ["ir_r4_k5_s2_e6_c192"],
    ["ir_r1_k3_s1_e6_c320_noskip"],
]
V2 = [
    ["ds_r1_k3_s1_c16"],
    ["ir_r2_k3_s2_e6_c24"],
    ["ir_r3_k3_s2_e6_c32"],
    ["ir_r4_k3_s2_e6_c64"],
    ["ir_r3_k3_s1_e6_c96"],
    ["ir_r3_k3_s2_e6_c160"],
    ["ir_r1_k3_s1_e6_c320"],
]
V2_B0 = [
    ["cn_r1_k3_s1_e1_c16_skip"],
    ["er_r2_k3_s2_e4_c32"],
    ["er_r2_k3_s2_e4_c48"],
    ["ir_r3_k3_s2_e4_c96_se0.25"],
    ["ir_r5_k3_s1_e6_c112_se0.25"],
    ["ir_r8_k3_s2_e6_c192_se0.25"],
]
#: efficientnetv2_rw_s, whose first blocks are fused ones that do not expand
V2_RW_S = [
    ["er_r2_k3_s1_e1_c24"],
    ["er_r4_k3_s2_e4_c48"],
    ["er_r4_k3_s2_e4_c64"],
    ["ir_r6_k3_s2_e4_c128_se0.25"],
    ["ir_r9_k3_s1_e6_c160_se0.25"],
    ["ir_r15_k3_s2_e6_c272_se0.25"],
]
EDGE_S = [
    ["er_r1_k3_s1_e4_c24_fc24_noskip"],
    ["er_r2_k3_s2_e8_c32"],
    ["er_r4_k3_s2_e8_c48"],
    ["ir_r5_k5_s2_e8_c96"],
    ["ir_r4_k5_s1_e8_c144"],
    ["ir_r2_k5_s2_e8_c192"],
]
#: Millions of parameters, giga-MACs and millions of activations of timm's published table (results of ImageNet).
TABLE: list[tuple[Any, dict[str, Any], tuple[float, float, float]]] = [
    (B0, {}, (5.29, 0.4, 6.75)),
    (B0, {"resolution": 256}, (5.29, 0.52, 8.81)),
    (LITE, {"activation": "relu6"}, (4.65, 0.4, 6.74)),
    (A1, {"activation": "relu"}, (3.89, 0.32, 6.23)),
    (B1, {"activation": "relu"}, (4.38, 0.33, 5.46)),
    (V2, {"activation": "relu6"}, (3.50, 0.31, 6.68)),
    (V2_B0, {}, (7.14, 0.73, 4.77)),
    (V2_B0, {"resolution": 192}, (7.14, 0.54, 3.51)),
    (V2_RW_S, {"stem": 24, "head": 1792, "resolution": 288}, (23.94, 4.91, 21.41)),
    (V2_RW_S, {"stem": 24, "head": 1792, "resolution": 384}, (23.94, 8.72, 38.03)),
    (EDGE_S, {"activation": "relu"}, (5.44, 1.81, 8.73)),
]


def _timms_macs(found: Cost) -> int:
    """timm's table is fvcore's total, which has two for each element that BatchNorm makes beside the MACs."""
    return found.macs + 2 * found.activations


@pytest.mark.parametrize(("strings", "settings", "published"), TABLE)
def test_costs_are_those_of_timms_table(strings: Any, settings: dict[str, Any], published: Any) -> None:
    params, macs, activations = published
    found = cost(architecture_from_timm(strings, **settings))
    assert found.params / 1e6 == pytest.approx(params, abs=0.0051)
    assert _timms_macs(found) / 1e9 == pytest.approx(macs, abs=0.0051)
    assert found.activations / 1e6 == pytest.approx(activations, abs=0.011)


def test_tinynets() -> None:
    """Width and depth multiplied, the depth rounded to the nearest, the stem as it is, a head of at least 1,280."""
    for width, depth, resolution, published in ((1.0, 1.2, 192, (6.19, 0.35)), (0.75, 1.1, 188, (3.73, 0.21))):
        base = architecture_from_timm(B0)
        scaled = base.scaled(width, depth, resolution, depth_rounding="nearest").with_(stem=32, head=1280)
        assert scaled.cost.params / 1e6 == pytest.approx(published[0], abs=0.0051)
        assert _timms_macs(scaled.cost) / 1e9 == pytest.approx(published[1], abs=0.0051)


def test_b0_is_the_zoos() -> None:
    assert architecture_from_timm(B0) == zoo("efficientnet_b0")
    assert architecture_from_timm([row[0] for row in LITE], activation="relu6", fixed_ends=True) == zoo(
        "efficientnet_lite0"
    )


def test_fused_networks_are_the_zoos() -> None:
    changed = {"bn_momentum": 0.1}
    assert architecture_from_timm(V2_B0, **changed) == zoo("efficientnet_v2_b0")
    assert architecture_from_timm(EDGE_S, activation="relu") == zoo("efficientnet_es")


def test_the_width_that_edge_networks_expand_from() -> None:
    """timm expands to 4·24 channels, whatever comes in: here that is by 3 from 32, by 4 from 24, by 6 from 16."""
    for stem, ratio in ((32, 3), (24, 4), (16, 6)):
        found = architecture_from_timm(["er_r1_k3_s1_e4_c24_fc24_noskip"], stem=stem)
        assert found.stages == (Stage("fused_mbconv", 24, 1, 3, 1, ratio, skip="none"),)
    assert architecture_to_timm(architecture_from_timm([EDGE_S[0]])) == [["er_r1_k3_s1_e3_c24_noskip"]]
    after = architecture_from_timm(["cn_r1_k3_s2_c16", "er_r2_k3_s1_e4_c16_fc8", "er_r1_k3_s1_e2_c8_fc0"])
    assert [stage.expand_ratio for stage in after.stages] == [1, 2, 2]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_there_and_back(name: str) -> None:
    network = zoo(name)
    again = architecture_from_timm(architecture_to_timm(network), activation=network.activation)
    changed = {"stem": network.stem, "head": network.head, "resolution": network.resolution, "dropout": network.dropout}
    changed |= {"drop_path": network.drop_path, "bn_momentum": network.bn_momentum, "fixed_ends": network.fixed_ends}
    assert again.with_(**changed).digest == network.digest


def test_universal_blocks_that_are_inverted_bottlenecks() -> None:
    """MobileNetV4's "IB" blocks; 14,880 parameters have the two that timm 1.0.31 makes, and equal outputs."""
    found = architecture_from_timm(["uir_r2_a0_k5_s2_e4_c24_nre"], stem=24)
    assert found.stages == (Stage("mbconv", 24, 2, 5, 2, 4),)
    assert cost(found).stages[1].params == 14_880
    assert architecture_to_timm(found) == [["ir_r2_k5_s2_e4_c24"]]


def test_what_the_strings_say() -> None:
    assert architecture_to_timm(zoo("efficientnet_b0"))[1] == ["ir_r2_k3_s2_e6_c24_se0.25"]
    found = architecture_from_timm(
        ["cn_r2_k3_s1_e1_c24_skip_nre", ["dsa_r1_k5_s2_e1_c32_nre", "ir_r1_k3_s2_e4_c32_nre"]]
    )
    assert found.activation == "relu"
    assert found.stages == (
        Stage("conv", 24, 2, 3, 1, skip="identity"),
        Stage("ds", 32, 1, 5, 2, skip="none"),
        Stage("mbconv", 32, 1, 3, 1, 4),  # timm takes the stride of a list's first string alone
    )
    assert architecture_to_timm(found) == [
        ["cn_r2_k3_s1_e1_c24_skip"],
        ["dsa_r1_k5_s2_e1_c32"],
        ["ir_r1_k3_s1_e4_c32"],
    ]


FILES = [
    "\n".join(row[0] for row in B0) + "\n# a remark\n",
    str(B0),
    "arch_def:\n" + "".join(f"- {row[0]}\n" for row in B0) + "num_classes: 10\nname: mine\n",
]


@pytest.mark.parametrize("text", FILES)
def test_files(text: str, tmp_path: Path) -> None:
    (tmp_path / "b0.txt").write_text(text, encoding="utf-8")
    found = load_architecture(f"timm:{tmp_path / 'b0.txt'}")
    assert isinstance(found, Architecture)
    assert found.with_(num_classes=1000).digest == zoo("efficientnet_b0").digest
    assert found.name == ("mine" if "mine" in text else "b0")


def test_a_yaml_file_needs_no_prefix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "net.yaml").write_text(FILES[2], encoding="utf-8")
    assert load_architecture(tmp_path / "net.yaml").num_classes == 10
    assert main(["scale", "--baseline", str(tmp_path / "net.yaml"), "--phi", "1", "-o", str(tmp_path / "out")]) == 0
    capsys.readouterr()
    (tmp_path / "b0.txt").write_text(FILES[0], encoding="utf-8")
    words = ["scale", "--baseline", f"timm:{tmp_path / 'b0.txt'}", "--phi", "1", "-o", str(tmp_path / "out2"), "--json"]
    assert main(words) == 0
    from effnas import Coefficients

    wanted = scale(zoo("efficientnet_b0"), Coefficients(1.2, 1.1, 1.15), 1).cost.params
    assert f'"params": {wanted},' in capsys.readouterr().out


MISTAKES: list[tuple[Any, dict[str, Any], str]] = [
    ([], {}, r"^timm: no architecture strings given"),
    ([5], {}, r"^timm: architecture strings are a list, or a list of lists; got 5"),
    (["er_r1_k3_s1_c24"], {}, r"^timm: 'er_r1_k3_s1_c24': e is missing"),
    (["er_r1_k3_s1_e4_c24_p3"], {}, r"networks of effnas have no kernel of its own for the projection"),
    (["er_r1_k3_s1_e4_c24_gs1"], {}, r"networks of effnas have no groups of channels"),
    (["cn_r1_k3_s1_c24_gs1"], {}, r"networks of effnas have no groups of channels"),
    (["er_r1_k3_s1_e4_c24_fc24"], {"stem": 40}, r"have no fc24: 96 is no multiple of the 40 channels that come in"),
    (["er_r2_k3_s1_e4_c24_fc24"], {}, r"the first block would expand by 3, the others 24 channels to 96, too$"),
    (["er_r1_k3_s1_e4_c24_fc24_se0.25"], {}, r"with se, which timm computes from 24 channels, not 32$"),
    (["er_r1_k3_s1_e4_c24_fc24"], {"stem": "x"}, r"^stem must be a whole number, got 'x'"),
    (["er_r1_k3_s1_e4_c24_fc0.5"], {}, r"fc must be a whole number"),
    (["ir_r1_k3_s1_e4_c24_fc24"], {}, r"networks of effnas have no fc24"),
    (
        ["mqa_r1_k3_h8_s1_d64_c96"],
        {},
        r"have no attention \(mqa\); they have ir, ds, dsa, cn, er, uir: leave its stages",
    ),
    (["uir_r1_a3_k3_s1_e4_c24"], {}, r"only where these are ir: a0, without a depthwise convolution before the expa"),
    (["uir_r1_a0_k3_p5_s1_e4_c24"], {}, r"only where these are ir: p0, without a depthwise convolution after the pr"),
    (["uir_r1_a0_k0_s1_e4_c24"], {}, r"only where these are ir: k above 0, with a depthwise convolution in the midd"),
    (["uir_r1_k3_s1_e1_c24"], {}, r"only where these are ir: e above 1, as theirs expand at 1, too"),
    (["uir_r1_k3_s1_e4_c24_se0.25"], {}, r"only where these are ir: without squeeze-and-excitation, which theirs"),
    (["xx_r1"], {}, r"^timm: 'xx_r1': block: unknown 'xx'"),
    (["ir_r1_k3_s1_c24"], {}, r"^timm: 'ir_r1_k3_s1_c24': e is missing; a string is like ir_r2_k3_s2_e6_c24_se0.25"),
    (["ir_r1_r2_k3_s1_e1_c24"], {}, r"r is given twice"),
    (["ir_r1_k3_s1_e1_c24_!"], {}, r"'!' is no part of an architecture string"),
    (["ir_r1_k3.5_s1_e1_c24"], {}, r"k must be a whole number in networks of effnas, got 3\.5"),
    (["ir_r1_k3_s1_e2.5_c24"], {}, r"e must be a whole number in networks of effnas, got 2\.5"),
    (["ir_r1_k4_s1_e1_c24"], {}, r"^timm: 'ir_r1_k4_s1_e1_c24': kernel_size must be odd, got 4"),
    (["ir_r1_k3_s1_e1_c24_cc4"], {}, r"networks of effnas have no conditional convolutions"),
    (["ir_r1_k3_s1_e1_c24_gs8"], {}, r"networks of effnas have no groups of channels"),
    (["ir_r1_k3_s1_e1_c24_zz3"], {}, r"networks of effnas have no zz3"),
    (
        ["ir_r1_k3_s1_e1_c24_nre", "ir_r1_k3_s1_e1_c24_nhs"],
        {},
        r"several activations \(hardswish, relu\); a ne",
    ),
    (["ir_r1_k3_s1_e1_c24_nre"], {"activation": "silu"}, r"several activations \(relu, silu\)"),
    (["ir_r1_k3_s1_e1_c24_nre", "ir_r1_k3_s1_e1_c24"], {}, r"some strings name the activation relu and others none"),
    (["ir_r1_k3_s1_e1_c24"], {"steam": 3}, r"^timm: field: unknown 'steam'"),
]


@pytest.mark.parametrize(("strings", "settings", "message"), MISTAKES)
def test_mistakes(strings: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        architecture_from_timm(strings, **settings)


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (Stage("mbconv", 8, skip="pool"), r"^stage 0: timm has no string for skip=pool"),
        (Stage("conv", 8, se_ratio=0.25), r"^stage 0: timm has no squeeze-and-excitation in its cn blocks"),
        (Stage("ds", 8, repeats=2), r"^stage 0: timm's dsa blocks have no shortcut"),
    ],
)
def test_what_timm_has_no_string_for(stage: Stage, message: str) -> None:
    with pytest.raises(UserError, match=message):
        architecture_to_timm(Architecture((stage,)))


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "net.txt").write_text("stem: 32", encoding="utf-8")
    with pytest.raises(UserError, match=r"net\.txt: has no arch_def, the list of timm's architecture strings"):
        load_architecture(f"timm:{tmp_path / 'net.txt'}")
    with pytest.raises(UserError, match=r"^architecture: no such file: .*none\.txt"):
        load_architecture(f"timm:{tmp_path / 'none.txt'}")
