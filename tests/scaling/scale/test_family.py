import inspect
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import effnas
from effnas.scaling.coefficients import Coefficients
from effnas.scaling.scale.explain import explain, explain_rows
from effnas.scaling.scale.job import run_scale
from effnas.scaling.scale.report import summary_text, table
from effnas.space.architecture import Architecture
from effnas.space.cost import cost
from effnas.space.errors import UserError
from effnas.space.zoo import load_architecture, zoo

KEYS = {
    *("name", "phi", "depth", "width", "resolution", "params", "macs", "activations"),
    *("macs_ratio", "nominal_macs_ratio", "architecture"),
}
PUBLISHED = {
    "b0": (5_288_548, 385_814_752),
    "b1": (7_794_184, 686_802_832),
    "b2": (9_109_994, 993_561_872),
    "b3": (12_233_232, 1_827_141_392),
    "b4": (19_341_616, 4_393_771_024),
    "b5": (30_389_784, 10_266_384_752),
    "b6": (43_040_704, 19_067_593_536),
    "b7": (66_347_960, 37_745_884_192),
    "b8": (87_413_142, 62_597_461_568),
    "l2": (480_309_308, 475_703_653_280),
}


def test_one_phi(tmp_path):
    row = run_scale(phi=3, output=tmp_path)
    assert row.keys() >= KEYS
    assert (row["name"], row["phi"], row["resolution"]) == ("efficientnet_b0_phi3", 3, 341)  # 224 · 1.15³ = 340.7
    assert row["depth"] == pytest.approx(1.728)
    assert row["width"] == pytest.approx(1.331)
    assert row["nominal_macs_ratio"] == pytest.approx(1.92027**3)
    assert row["macs_ratio"] == row["macs"] / 385_814_752
    network = Architecture.from_dict(row["architecture"])
    assert (cost(network).params, cost(network).macs) == (row["params"], row["macs"])
    assert load_architecture(tmp_path / "efficientnet_b0_phi3.yaml") == network
    assert row["file"] == str(tmp_path / "efficientnet_b0_phi3.yaml")
    assert json.loads((tmp_path / "scale.json").read_text()) == row


@pytest.mark.parametrize("preset", PUBLISHED)
def test_presets_are_exact(preset, tmp_path):
    row = run_scale(preset=preset, output=tmp_path)
    assert (row["params"], row["macs"]) == PUBLISHED[preset]
    assert row["phi"] is None


def test_ratios_of_presets(tmp_path):
    b3 = run_scale(preset="b3", output=tmp_path)
    assert (b3["depth"], b3["width"], b3["resolution"], b3["dropout"]) == (1.4, 1.2, 300, 0.3)
    assert b3["nominal_macs_ratio"] == pytest.approx(1.4 * 1.44 * (300 / 224) ** 2)
    assert b3["macs_ratio"] == pytest.approx(1_827_141_392 / 385_814_752)
    lite2 = run_scale(preset="lite2", output=tmp_path)
    assert lite2["params"] == 6_092_072
    assert lite2["macs_ratio"] == lite2["macs"] / cost(zoo("efficientnet_lite0")).macs


@pytest.mark.parametrize(
    ("family", "phis"),
    [
        ("0..3", [0, 1, 2, 3]),
        ("-1..1", [-1, 0, 1]),
        ("2..2", [2]),
        ("0,0.5,1", [0, 0.5, 1]),
        ("[1, 2]", [1, 2]),
        ([0, 1.5], [0, 1.5]),
        (2, [2]),
    ],
)
def test_families(family, phis, tmp_path):
    rows = run_scale(family=family, output=tmp_path)
    assert [row["phi"] for row in rows] == phis
    assert json.loads((tmp_path / "scale.json").read_text()) == rows
    assert len(list(tmp_path.glob("*.yaml"))) == len(phis)


def test_own_baseline_and_coefficients(tmp_path):
    base = zoo("mobilenet_v2").with_(name="my net/../1", resolution=96, num_classes=10)
    path = base.save(tmp_path / "base.yaml")
    coefficients = Coefficients(1.3, 1.0, 1.2).save(tmp_path / "coefficients.yaml")
    row = run_scale(baseline=str(path), coefficients=str(coefficients), phi=2, output=tmp_path / "out")
    assert row["resolution"] == 138  # 96 · 1.44 = 138.24
    assert row["architecture"]["num_classes"] == 10
    assert row["macs_ratio"] == row["macs"] / cost(base).macs
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["my_net_.._1_phi2.yaml", "scale.json"]


@pytest.mark.parametrize(
    ("targets", "limits"),
    [
        ({"target_macs": "1G"}, {"macs": 1e9}),
        ({"target_macs": 100e6}, {"macs": 1e8}),
        ({"target_params": "6000K", "target_memory": "10MB"}, {"params": 6e6, "peak_memory": 1e7}),
    ],
)
def test_targets(targets, limits, tmp_path):
    row = run_scale(**targets, output=tmp_path)
    assert all(row[key] <= limit for key, limit in limits.items())
    assert any(row[key] > 0.7 * limit for key, limit in limits.items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "nothing to make; give one of phi=3, preset=b3, family=0..7, target_macs=400M"),
        ({"phi": 1.0, "family": "0..2"}, "phi and family exclude each other"),
        ({"phi": 1.0, "preset": "b1"}, "phi and preset exclude each other"),
        ({"family": "0..2", "target_macs": 1e9}, "family and target_macs exclude each other"),
        ({"preset": "b3", "target_params": 1e9}, "preset and target_params exclude each other"),
        ({"preset": "b9"}, "preset: unknown 'b9'. .*Choose one of: b0, b1"),
        ({"preset": "b3", "baseline": "mobilenet_v2"}, "preset b3 has its own baseline and multipliers"),
        ({"preset": "b3", "coefficients": "1.2,1.1,1.2"}, "preset b3 has its own baseline and multipliers"),
        (
            {"phi": 1.0, "baseline": "efficientnet_b"},
            "'efficientnet_b' is not a network of the zoo, and there is no such",
        ),
        ({"phi": 1.0, "coefficients": "1,2"}, "coefficients must be three numbers"),
        ({"phi": math.inf}, "phi must be a finite number, got inf"),
        ({"phi": 1e9}, r"phi must be in \[-100, 100\]"),
        ({"family": "7..0"}, "a range rising within -100..100, got '7..0'"),
        ({"family": "0..999999999"}, "a range rising within -100..100"),
        ({"family": "a,b"}, "family must be a range like 0..7 or numbers like 0,0.5,1, got 'a,b'"),
        ({"family": []}, "1 to 1000 of them, got 0"),
        ({"family": [0, "x"]}, "family: phi must be a finite number, got 'x'"),
        ({"family": "0,1,1.0"}, "family: phi 1 appears twice"),
        ({"target_macs": "lots"}, "target_macs must be a number above 0, like 400e6 or .*, got 'lots'"),
        ({"target_macs": "4.0.0"}, "target_macs must be a number above 0"),
        ({"target_params": "5MB"}, "target_params must be a number above 0"),
        ({"target_memory": "6iB"}, "target_memory must be a number above 0, like"),
        ({"target_macs": -5}, "target_macs must be a number above 0, .* got -5"),
        ({"target_macs": "1e999"}, "target_macs must be a number above 0"),
        ({"target_macs": 1000}, "out of reach; the smallest network, phi = -10, has macs"),
        ({"phi": 1.0, "explain": True, "json": True}, "json prints one document: give explain or phi, not both"),
    ],
)
def test_mistakes(options, message, tmp_path):
    with pytest.raises(UserError, match=message):
        run_scale(**options, output=tmp_path)
    assert not list(tmp_path.iterdir())


def test_table_is_aligned_and_says_what_it_counts(tmp_path):
    rows = run_scale(family="0..2", output=tmp_path)
    header, rule, *lines = table(rows).splitlines()
    assert "MACs" in header
    assert "resolution" in header
    assert {len(line) for line in (header, rule, *lines)} == {len(header)}
    assert "385,814,752" in lines[0]
    assert "224 px" in lines[0]
    assert table([run_scale(preset="b1", output=tmp_path)]).splitlines()[2].split()[1] == "-"


def test_render(tmp_path):
    one = run_scale(phi=1, json=True, output=tmp_path)
    assert isinstance(json.loads(json.dumps(one)), dict)
    assert isinstance(json.loads(json.dumps(run_scale(family="0..1", json=True, output=tmp_path))), list)
    text = summary_text(run_scale(phi=1, explain=True, output=tmp_path), explain=True)
    assert text.startswith(table([run_scale(phi=1, output=tmp_path)]) + "\n\nwritten: ")
    assert text.endswith(f"\n\n{explain()}")


def test_explain_alone_writes_no_network(tmp_path):
    rows = run_scale(explain=True, output=tmp_path)
    assert rows == explain_rows()
    assert summary_text(rows, explain=True) == explain()
    assert list(tmp_path.iterdir()) == []


def test_explained_numbers():
    rows = {row["name"]: row for row in explain_rows()}
    assert list(rows) == [f"b{i}" for i in range(1, 8)]
    b4 = rows["b4"]
    assert (b4["depth"], b4["width"], b4["resolution"]) == (1.8, 1.4, 380)
    assert b4["predicted_depth"] == pytest.approx(2.0736)  # 1.2⁴
    assert b4["predicted_width"] == pytest.approx(1.4641)
    assert b4["predicted_resolution"] == 392  # 224 · 1.74900625 = 391.8
    assert 1.2 ** b4["phi_depth"] == pytest.approx(1.8)
    assert 1.1 ** b4["phi_width"] == pytest.approx(1.4)
    assert 224 * 1.15 ** b4["phi_resolution"] == pytest.approx(380)
    assert 1.92027 ** b4["phi_macs"] == pytest.approx(4_393_771_024 / 385_814_752)
    assert b4["nominal_macs_ratio"] == pytest.approx(1.8 * 1.96 * (380 / 224) ** 2)
    # the sentences quote these
    assert (rows["b2"]["phi_depth"], rows["b2"]["phi_width"]) == pytest.approx((1, 1))
    assert f"{rows['b1']['phi_macs']:.2f} to {rows['b7']['phi_macs']:.2f}" in explain()
    assert f"{rows['b1']['predicted_macs_ratio']:.2f} at phi = 1" in explain()
    assert max(map(len, explain().splitlines())) <= 120


def test_config_agrees_with_the_function():
    text = Path(effnas.__path__[0], "conf", "scale.yaml").read_text(encoding="utf-8")
    values = yaml.safe_load(text)
    del values["defaults"], values["quiet"]
    options = {name: parameter.default for name, parameter in inspect.signature(run_scale).parameters.items()}
    del options["output"]
    assert {**values, "network": None} == options  # a group of its own
    assert all("  # " in line for line in text.splitlines() if ": " in line and not line.startswith("#"))


def test_no_heavy_module_is_imported():
    code = (
        "import sys, effnas.scaling.scale.job; "
        "print([m for m in ('torch', 'numpy', 'pandas', 'rich', 'optuna') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_rules_and_every_target(tmp_path):
    row = run_scale(rule="dwr", shares="0.2,0.6,0.2", phi=1, output=tmp_path)
    assert (row["rule"], row["name"]) == ("dwr", "efficientnet_b0_dwr_phi1")
    assert (row["depth"], row["width"]) == pytest.approx((2**0.2, 2**0.3))
    assert Path(row["file"]).name == "efficientnet_b0_dwr_phi1.yaml"
    limits = {"target_macs": "2G", "target_params": "9M", "target_activations": "12M", "target_memory": "10MB"}
    row = run_scale(rule="width", **limits, output=tmp_path)
    assert row["params"] <= 9e6 < run_scale(rule="width", phi=row["phi"] + 1e-4, output=tmp_path)["params"]
    assert row["macs"] <= 2e9
    assert row["activations"] <= 12e6
    assert row["peak_memory"] <= 10e6


def test_a_target_in_seconds_is_measured(tmp_path):
    small = {"baseline": str(zoo("mobilenet_v2").with_(resolution=32, num_classes=10).save(tmp_path / "net.yaml"))}
    row = run_scale(rule="width", target_latency="60ms", target_params="9M", **small, output=tmp_path)
    assert row["latency"] > 0
    assert row["params"] <= 9e6
    assert f"{1e3 * row['latency']:.3g} ms" in table([row])


def test_a_network_of_the_zoo_that_a_builder_makes(tmp_path):
    row = run_scale(baseline="resnet18", rule="depth", phi=1, output=tmp_path)
    assert (row["depth"], row["dropout"]) == (2, None)
    assert load_architecture(row["file"]).to_dict() == row["architecture"]
    assert row["macs"] == cost(load_architecture(row["file"])).macs


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"phi": 1, "rule": "dephts"}, "rule: unknown 'dephts'. Did you mean 'depth'"),
        ({"phi": 1, "rule": "dwr", "shares": "a,b"}, "shares must be three numbers, like 0.1,0.8,0.1, got 'a,b'"),
        ({"phi": 1, "rule": "depth", "coefficients": "paper"}, "coefficients belong to rule=compound and rule=lacs"),
        ({"target_latency": "soon"}, "target_latency must be seconds above 0, like 0.012 or 12ms, got 'soon'"),
        ({"phi": 1, "network": "convnext"}, "network must be a BuiltNetwork .* got str"),
        (
            {"preset": "b3", "rule": "depth"},
            "preset b3 has its own baseline and multipliers: leave baseline, network, rule",
        ),
        ({"target_macs": 1e12, "rule": "published"}, "every network up to phi = 8 fits, with rule published"),
    ],
)
def test_mistakes_with_rules(options, message, tmp_path):
    with pytest.raises(UserError, match=message):
        run_scale(**options, output=tmp_path)


def test_blocks_rounded_to_the_nearest(tmp_path):
    base = str(zoo("mobilenet_v2").with_(resolution=32).save(tmp_path / "net.yaml"))
    up, nearest = (
        run_scale(baseline=base, target_macs="20M", depth_rounding=rounding, output=tmp_path)
        for rounding in ("up", "nearest")
    )
    assert up["phi"] < nearest["phi"]  # one block more a stage from the start leaves nothing for the other dimensions
    assert nearest["width"] > up["width"]
    assert max(up["macs"], nearest["macs"]) <= 20e6
    message = "depth_rounding=nearest is for Architectures: the builder resnet18 rounds its own repeats"
    with pytest.raises(UserError, match=message):
        run_scale(baseline="resnet18", phi=1, depth_rounding="nearest", output=tmp_path)


def test_an_older_family_goes_and_what_is_not_its_own_stays(tmp_path):
    run_scale(family="0..3", output=tmp_path)
    (tmp_path / "mine.yaml").write_text("a: 1\n")
    changed = tmp_path / "efficientnet_b0_phi3.yaml"
    changed.write_text(changed.read_text().replace("dropout:", "dropout: 0.5 #"))
    run_scale(family="0..1", output=tmp_path)
    names = {path.name for path in tmp_path.glob("*.yaml")}
    assert names == {"efficientnet_b0_phi0.yaml", "efficientnet_b0_phi1.yaml", "mine.yaml", changed.name}
    (tmp_path / "scale.json").write_text('[{"file": "/etc/mine.yaml", "architecture": {"a": 1}}, 5, {"file": "../x"}]')
    run_scale(phi=2, output=tmp_path)
    assert (tmp_path / "efficientnet_b0_phi0.yaml").is_file()
    for damaged in ("", "[", "null", "3", "[" * 5000):
        (tmp_path / "scale.json").write_text(damaged)
        run_scale(phi=2, output=tmp_path)


def test_it_says_what_it_wrote_and_what_comes_next(tmp_path):
    text = summary_text(run_scale(family="0..2", output=tmp_path))
    assert "written: 3 networks, efficientnet_b0_phi0.yaml to efficientnet_b0_phi2.yaml in " in text
    assert text.endswith(f"next: effnas train --architecture {tmp_path / 'efficientnet_b0_phi0.yaml'}")
    assert f"written: {tmp_path / 'efficientnet_b0_phi1.yaml'}, and " in summary_text(run_scale(phi=1, output=tmp_path))
