"""Architecture: exact files, identity, and files that are damaged or hostile."""

from __future__ import annotations

import dataclasses
import os
import pickle
import random
from typing import Any

import numpy as np
import pytest
import yaml

from effnas.space.architecture import Architecture
from effnas.space.cost import cost
from effnas.space.errors import UserError
from effnas.space.files import MAX_BYTES, load_yaml
from effnas.space.space import SHIPPED, load_space
from effnas.space.stage import ACTIVATIONS, Stage
from effnas.space.zoo import load_architecture, zoo

SPACES = sorted(path.stem for path in SHIPPED.glob("*.yaml"))
ONE = (Stage("conv", 8),)
#: The smallest file: what most of the damaged ones below are made of.
SMALL = "effnas_architecture: 1\nstages:\n- {block: mbconv, channels: 8}\n"


def read(text: str) -> Architecture:
    return Architecture.from_yaml(text, source="net.yaml")


# -- files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", SPACES)
def test_random_members_survive_their_yaml(space):
    members = load_space(space)
    rng = np.random.default_rng(0)
    for _ in range(25):
        network = members.build(members.sample(rng))
        again = read(network.to_yaml())
        assert again == network
        assert (again.name, again.digest) == (network.name, network.digest)
        assert again.to_yaml() == network.to_yaml()


def test_random_floats_survive_exactly():
    rng = random.Random(0)
    for _ in range(200):
        numbers = {"dropout": rng.random(), "drop_path": rng.random() ** 20, "bn_eps": 10 ** rng.uniform(-300, -1)}
        network = Architecture((Stage("ds", 8, se_ratio=rng.random()),), bn_momentum=1 - rng.random(), **numbers)
        again = read(network.to_yaml())
        assert again == network
        assert all(getattr(again, name) == value for name, value in numbers.items())


NAMES = ["", "null", "yes", "1e3", "0x10", "1:30", "2020-01-01", "=", "<<", "a: b # c", "- x", "&a *b !c", "'\"", " a "]
NAMES += [
    "naïve 网络 🚀",
    "two\nlines\tand tabs\r",
    "\0\a\x7f",
    "\x85",
    "a\x85\u2028\u2029\ufeffz",
    "\U0010ffff",
    "🚀" * 200,
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_any_name_survives(name, tmp_path):
    network = Architecture(ONE, name=name)
    assert read(network.to_yaml()).name == name
    path = network.save(tmp_path / "net.yaml")
    assert Architecture.from_yaml(path.read_text(encoding="utf-8")).name == name


def test_random_names_survive():
    rng = random.Random(0)
    ranges = [(0, 0x300), (0, 0xD800), (0xE000, 0x110000)]
    for _ in range(150):
        name = "".join(chr(rng.randrange(*rng.choice(ranges))) for _ in range(rng.randrange(12)))
        assert read(Architecture(ONE, name=name).to_yaml()).name == name


def test_the_file_is_plain_and_has_one_stage_a_line():
    text = zoo("efficientnet_b0").to_yaml()
    assert yaml.safe_load(text) == zoo("efficientnet_b0").to_dict()
    assert len([line for line in text.splitlines() if line.startswith("- {block: mbconv, channels: ")]) == 7
    assert text.startswith("effnas_architecture: 1\nname: efficientnet_b0\n")


def test_missing_fields_are_the_defaults():
    network = read(SMALL)
    assert network == Architecture((Stage("mbconv", 8),))
    assert (network.stem, network.head, network.resolution, network.num_classes) == (32, 1280, 224, 1000)


def test_numbers_with_an_exponent_are_numbers():
    assert read(SMALL + "bn_eps: 1e-3\n").bn_eps == 0.001
    assert read(SMALL + "bn_eps: 2.5E-4\n").bn_eps == 0.00025


def test_save_replaces_the_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "new" / "folders" / "net.yaml"
    assert zoo("efficientnet_b0").save(path) == path
    assert zoo("mobilenet_v2").save(str(path)) == path
    assert os.listdir(path.parent) == ["net.yaml"]
    assert load_architecture(path) == zoo("mobilenet_v2")


def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = zoo("efficientnet_b0").save(tmp_path / "net.yaml")

    def full(number: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("effnas.space.files.os.fsync", full)
    with pytest.raises(OSError, match="disk full"):
        zoo("mobilenet_v2").save(path)
    assert os.listdir(tmp_path) == ["net.yaml"]
    assert load_architecture(path) == zoo("efficientnet_b0")


# -- identity -------------------------------------------------------------------------------------------


def test_frozen_hashable_and_picklable():
    network = zoo("mnasnet_a1")
    with pytest.raises(dataclasses.FrozenInstanceError, match=r"^cannot assign to field 'stem'$"):
        network.stem = 16  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError, match=r"^cannot assign to field 'channels'$"):
        network.stages[0].channels = 16  # type: ignore[misc]
    assert len({network, zoo("mnasnet_a1"), zoo("mnasnet_b1")}) == 2
    assert hash(network) == hash(zoo("mnasnet_a1"))
    assert pickle.loads(pickle.dumps(network)) == network


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("efficientnet_b0", "3dccb2c1e1bddf9a"),
        ("efficientnet_b7", "49d9c4e4bde25736"),
        ("efficientnet_lite2", "3e486780e67dfad8"),
        ("mnasnet_a1", "9b439b0002baf25b"),
        ("mobilenet_v1", "4d08467bd92acfe2"),
    ],
)
def test_digests_stay(name, digest):
    """Records of searches refer to networks by digest: it must not change between versions."""
    assert zoo(name).digest == digest


def test_files_from_before_there_was_a_choice_of_padding():
    lines = zoo("efficientnet_lite1").to_yaml().splitlines(keepends=True)
    assert "padding: symmetric\n" in lines
    old = read("".join(line for line in lines if not line.startswith("padding")))
    assert (old, old.digest) == (zoo("efficientnet_lite1"), zoo("efficientnet_lite1").digest)
    ported = old.with_(padding="same")
    assert read(ported.to_yaml()) == ported != old
    assert ported.digest != old.digest


def test_equal_networks_have_equal_digests():
    whole = Architecture((Stage("mbconv", 8, se_ratio=0),), dropout=0, bn_momentum=1)
    pointed = Architecture([Stage("mbconv", 8, se_ratio=0.0)], dropout=0.0, bn_momentum=1.0)  # type: ignore[arg-type]
    assert whole == pointed
    assert (whole.digest, hash(whole), whole.to_yaml()) == (pointed.digest, hash(pointed), pointed.to_yaml())


def test_the_name_is_for_people():
    network = zoo("efficientnet_b0")
    other = network.with_(name="mine")
    assert (other, other.digest, hash(other)) == (network, network.digest, hash(network))
    assert other.name == "mine"


CHANGES: dict[str, Any] = {
    "stem": 40,
    "stem_stride": 1,
    "head": 0,
    "activation": "relu",
    "padding": "same",
    "dropout": 0.3,
    "drop_path": 0.1,
    "bn_eps": 1e-5,
    "bn_momentum": 0.1,
    "resolution": 225,
    "in_channels": 1,
    "num_classes": 10,
    "fixed_ends": True,
    "stages": ONE,
}
STAGE_CHANGES: dict[str, Any] = {
    "block": "ds",
    "channels": 12,
    "repeats": 3,
    "kernel_size": 5,
    "stride": 2,
    "expand_ratio": 2,
    "se_ratio": 0.25,
    "skip": "none",
}


def test_every_field_takes_part_in_the_digest():
    base = Architecture((Stage("mbconv", 8, 2), Stage("mbconv", 16)))
    assert {*CHANGES, "name"} == {f.name for f in dataclasses.fields(Architecture)}
    assert set(STAGE_CHANGES) == {f.name for f in dataclasses.fields(Stage)}
    others = [base.with_(**{key: value}) for key, value in CHANGES.items()]
    first, second = base.stages
    others += [base.with_(stages=(dataclasses.replace(first, **{k: v}), second)) for k, v in STAGE_CHANGES.items()]
    assert len({base.digest, *(other.digest for other in others)}) == 1 + len(CHANGES) + len(STAGE_CHANGES)
    assert base.with_(stages=base.stages[::-1]).digest != base.digest


def test_skips_that_cannot_act_take_no_part_in_the_digest():
    def digest(*rows: Stage) -> str:
        return Architecture(rows, stem=8).digest

    # a single block that changes the width or halves the side has nothing to add
    assert digest(Stage("ds", 16)) == digest(Stage("ds", 16, skip="none"))
    assert digest(Stage("ds", 8, stride=2)) == digest(Stage("ds", 8, stride=2, skip="none"))
    # these have
    assert digest(Stage("ds", 8)) != digest(Stage("ds", 8, skip="none"))
    assert digest(Stage("ds", 16, 2)) != digest(Stage("ds", 16, 2, skip="none"))
    assert digest(Stage("ds", 16), Stage("ds", 16)) != digest(Stage("ds", 16), Stage("ds", 16, skip="none"))
    assert digest(Stage("ds", 16)) != digest(Stage("ds", 16, skip="pool"))


def test_layers_in_order():
    network = Architecture((Stage("conv", 8, 2, stride=2), Stage("ds", 16)), stem=4)
    first, second = network.stages
    assert list(network.iter_blocks()) == [(0, first, 4, 2), (0, first, 8, 1), (1, second, 8, 1)]
    assert (network.blocks, network.total_stride) == (3, 4)


def test_str_is_a_table_with_exact_totals():
    lines = str(zoo("efficientnet_b0").with_(name="mine")).splitlines()
    assert "mine 3dccb2c1e1bddf9a: 224² × 3 → 1000 classes, silu, dropout 0.2" in lines[0]
    assert lines[1].split() == [
        "stage",
        "blocks",
        "kernel",
        "stride",
        "out",
        "params",
        "MACs",
        "activations",
        "peak",
        "KiB",
    ]
    assert lines[-1].split()[:5] == ["total", "16", "5,288,548", "385,814,752", "6,748,036"]
    assert lines[5].split()[:6] == ["mbconv", "e6", "se0.25", "2", "3", "2"]
    assert lines[5].split()[6] == "24×56²"
    assert len(lines) == 2 + 1 + 9 + 1 + 1  # title, head, rule, stem + 7 stages + head, rule, total
    assert len({len(line) for line in lines[2:]}) == 1
    sums = [sum(int(line.split()[-4 + i].replace(",", "")) for line in lines[3:12]) for i in range(3)]
    total = cost(zoo("efficientnet_b0"))
    assert sums == [total.params, total.macs, total.activations]
    assert "skip=pool" in str(Architecture((Stage("conv", 8, skip="pool"),)))


# -- mistakes in code -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"block": "mbcnv"},
            r"block: unknown 'mbcnv'\. Did you mean 'mbconv'\? Choose one of: conv, ds, mbconv, fused_mbconv",
        ),
        ({"block": None}, r"block: unknown 'None'\. Choose one of"),
        ({"skip": "identiy"}, r"skip: unknown 'identiy'\. Did you mean 'identity'\?"),
        ({"channels": 0}, r"channels must be between 1 and 1000000, got 0"),
        ({"channels": -8}, r"channels must be between 1 and 1000000, got -8"),
        ({"channels": 8.0}, r"channels must be a whole number, got 8\.0"),
        ({"channels": "8"}, r"channels must be a whole number, got '8'"),
        ({"channels": True}, r"channels must be a whole number, got True"),
        ({"repeats": 0}, r"repeats must be between 1 and 10000, got 0"),
        ({"kernel_size": 4}, r"kernel_size must be odd, got 4"),
        ({"kernel_size": 33}, r"kernel_size must be between 1 and 31, got 33"),
        ({"stride": 0}, r"stride must be between 1 and 8, got 0"),
        ({"expand_ratio": 0}, r"expand_ratio must be between 1 and 64, got 0"),
        ({"expand_ratio": 1.5}, r"expand_ratio must be a whole number, got 1\.5"),
        (
            {"block": "ds", "expand_ratio": 6},
            r"expand_ratio belongs to mbconv and fused_mbconv: a ds block has 1, got 6",
        ),
        ({"se_ratio": float("nan")}, r"se_ratio must be a finite number, got nan"),
        ({"se_ratio": float("inf")}, r"se_ratio must be a finite number, got inf"),
        ({"se_ratio": -0.25}, r"se_ratio must be in \[0, 1\], got -0\.25"),
        ({"se_ratio": True}, r"se_ratio must be a finite number, got True"),
    ],
)
def test_illegal_stages(fields, message):
    with pytest.raises(UserError, match=message):
        Stage(**{"block": "mbconv", "channels": 8, **fields})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"stages": ()}, r"stages: a network needs at least one stage"),
        ({"stages": [{"block": "conv"}]}, r"stages must be Stage objects, got dict"),
        ({"stem": 0}, r"stem must be between 1 and 1000000, got 0"),
        ({"stem_stride": 9}, r"stem_stride must be between 1 and 8, got 9"),
        ({"head": -1}, r"head must be between 0 and 1000000, got -1"),
        ({"activation": "swish"}, r"activation: unknown 'swish'.* Choose one of: relu, relu6, silu, "),
        ({"padding": "valid"}, r"padding: unknown 'valid'\. Choose one of: symmetric, same"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1\.0"),
        ({"drop_path": -0.1}, r"drop_path must be in \[0, 1\), got -0\.1"),
        ({"bn_eps": 0}, r"bn_eps must be in \(0, 1\], got 0"),
        ({"bn_momentum": float("nan")}, r"bn_momentum must be a finite number, got nan"),
        ({"resolution": 0}, r"resolution must be between 1 and 100000, got 0"),
        ({"resolution": 224.0}, r"resolution must be a whole number, got 224\.0"),
        ({"in_channels": "rgb"}, r"in_channels must be a whole number, got 'rgb'"),
        ({"num_classes": False}, r"num_classes must be a whole number, got False"),
        ({"fixed_ends": 1}, r"fixed_ends must be true or false, got 1"),
        ({"name": 5}, r"name must be a string of at most 200 characters, got 5"),
        ({"name": "x" * 201}, r"name must be a string of at most 200 characters, got 'xxx"),
    ],
)
def test_illegal_architectures(fields, message):
    with pytest.raises(UserError, match=message):
        Architecture(**{"stages": ONE, **fields})


def test_with_refuses_unknown_fields():
    with pytest.raises(UserError, match=r"Architecture field: unknown 'resolutoin'\. Did you mean 'resolution'\?"):
        zoo("efficientnet_b0").with_(resolutoin=240)


def test_every_activation_is_legal():
    assert len({Architecture(ONE, activation=name).digest for name in ACTIVATIONS}) == len(ACTIVATIONS)


# -- damaged and hostile files --------------------------------------------------------------------------


def edited(old: str, new: str) -> str:
    text = zoo("efficientnet_b0").to_yaml()
    assert old in text
    return text.replace(old, new, 1)


DAMAGED: list[tuple[str, str]] = [
    # -- not this kind of file
    ("", r"not an architecture \(no 'effnas_architecture: 1' in it\)"),
    ("just text", r"not an architecture"),
    ("- 1\n- 2\n", r"not an architecture"),
    ("a: [1, 2\nb: }", r"not readable as plain YAML: while parsing a flow sequence"),
    ("a: b: c", r"not readable as plain YAML: mapping values are not allowed here"),
    ("\tname: x", r"not readable as plain YAML: .*cannot start any token"),
    ("name: 'open", r"not readable as plain YAML: .*unexpected end of stream"),
    ("a\0b", r"not readable as plain YAML: .*special characters are not allowed"),
    (edited("effnas_architecture: 1\n", ""), r"not an architecture"),
    (edited("architecture: 1", "architecture: 2"), r"format 2 is unknown; this version reads 1"),
    (edited("architecture: 1", "architecture: null"), r"format None is unknown; this version reads 1"),
    # -- parts missing
    (edited("stages:", "stages: []\nsteps:"), r"field: unknown 'steps'\. Did you mean 'stages'\?"),
    ("effnas_architecture: 1\nstem: 8\n", r"'stages' must be a list of stages, got NoneType"),
    ("effnas_architecture: 1\nstages:\n", r"'stages' must be a list of stages, got NoneType"),
    ("effnas_architecture: 1\nstages: []\n", r"stages: a network needs at least one stage"),
    ("effnas_architecture: 1\nstages: {block: conv}\n", r"'stages' must be a list of stages, got dict"),
    ("effnas_architecture: 1\nstages: [conv]\n", r"stage 0: must be a mapping of fields, got str"),
    ("effnas_architecture: 1\nstages: [{block: conv}]\n", r"stage 0: 'channels' must be given"),
    (edited("{block: mbconv, channels: 24", "{channels: 24"), r"stage 1: 'block' must be given"),
    # -- fields that are not fields
    (edited("resolution", "resolutions"), r"net\.yaml: field: unknown 'resolutions'\. Did you mean 'resolution'\?"),
    (edited("kernel_size", "kernel"), r"stage 0: field: unknown 'kernel'.* Choose one of: block, channels, repeats"),
    (SMALL + "1: 2\n", r"field: unknown '1'"),
    (SMALL + "? [a]\n: b\n", r"not readable as plain YAML: .*unhashable key"),
    # -- values of the wrong type, or out of range
    (edited("resolution: 224", "resolution: large"), r"net\.yaml: resolution must be a whole number, got 'large'"),
    (edited("resolution: 224", "resolution: [224]"), r"resolution must be a whole number, got \[224\]"),
    (edited("stem: 32", "stem: true"), r"stem must be a whole number, got True"),
    (edited("stem: 32", "stem: 32.0"), r"stem must be a whole number, got 32\.0"),
    (edited("head: 1280", "head: -1"), r"head must be between 0 and 1000000, got -1"),
    (edited("dropout: 0.2", "dropout: .nan"), r"dropout must be a finite number, got nan"),
    (edited("dropout: 0.2", "dropout: .inf"), r"dropout must be a finite number, got inf"),
    (edited("dropout: 0.2", "dropout: 1e999"), r"dropout must be a finite number, got inf"),
    (edited("drop_path: 0.2", "drop_path: -.inf"), r"drop_path must be a finite number, got -inf"),
    (edited("bn_eps: 0.001", "bn_eps: yes"), r"bn_eps must be a finite number, got True"),
    (edited("activation: silu", "activation: [silu]"), r"activation: unknown \"\['silu'\]\""),
    (edited("fixed_ends: false", "fixed_ends: 0"), r"fixed_ends must be true or false, got 0"),
    (edited("name: efficientnet_b0", "name: {a: b}"), r"name must be a string of at most 200 characters"),
    (edited("kernel_size: 3", "kernel_size: 2"), r"stage 0: kernel_size must be odd, got 2"),
    (edited("se_ratio: 0.25", "se_ratio: x"), r"stage 0: se_ratio must be a finite number, got 'x'"),
    (edited(" stride: 2,", " stride: null,"), r"stage 1: stride must be a whole number, got None"),
    (SMALL + "stem: 9999999\n", r"stem must be between 1 and 1000000, got 9999999"),
    # -- hostile
    ("a: &a [1]\nb: *a\n", r"not readable as plain YAML: aliases \(\*name\) are not allowed"),
    ("a: &a [*a]\n", r"aliases \(\*name\) are not allowed"),
    ("a: !!python/object:os.system {}\n", r"not readable as plain YAML: could not determine a constructor for the tag"),
    ("!!python/name:os.system", r"could not determine a constructor for the tag"),
    ("a: !mine {}\n", r"could not determine a constructor for the tag '!mine'"),
    ("[" * 100_000, r"not readable as plain YAML: maximum recursion depth"),
    ("a: " + "{b: " * 5_000, r"not readable as plain YAML: maximum recursion depth"),
    ("- " * 5_000, r"not readable as plain YAML: maximum recursion depth"),
    (SMALL + "stem: " + "9" * 5_000, r"a value of more than 250 characters"),
    (SMALL + "stem: 0x" + "f" * 5_000, r"a value of more than 250 characters"),
    (SMALL + "dropout: " + "9" * 400, r"a value of more than 250 characters"),
    (SMALL + "dropout: " + "9" * 250, r"dropout must be in \[0, 1\)"),
    (SMALL + "x" * 5_000 + ": 1", r"not readable as plain YAML: "),
    (SMALL + "stem: !!timestamp now", r"not readable as plain YAML"),
    (SMALL + "stem: !!bool perhaps", r"not readable as plain YAML"),
    (SMALL + "stem: !!int many", r"not readable as plain YAML: invalid literal for int"),
    (SMALL + "stem: 2020-99-99", r"not readable as plain YAML: month must be in 1\.\.12"),
]


@pytest.mark.parametrize(("text", "message"), DAMAGED, ids=range(len(DAMAGED)))
def test_damaged_files(text, message):
    with pytest.raises(UserError, match=message) as caught:
        read(text)
    assert str(caught.value).startswith("net.yaml: ")
    assert len(str(caught.value)) < 600


def test_a_file_cut_anywhere_is_a_user_error_or_whole():
    """Cut within the last stage, a file can still be a (different) legal network; it is never another exception."""
    text = zoo("mobilenet_v1").to_yaml()
    outcomes = {"read": 0, "refused": 0}
    for end in range(0, len(text), 3):
        try:
            read(text[:end])
            outcomes["read"] += 1
        except UserError as error:
            assert str(error).startswith("net.yaml: ")  # noqa: PT017
            outcomes["refused"] += 1
    assert outcomes["refused"] > 50 * max(1, outcomes["read"] - 10)


def test_damaged_bytes_never_raise_anything_else():
    rng = random.Random(0)
    text = zoo("mnasnet_a1").to_yaml()
    for _ in range(150):
        chars = list(text)
        for _ in range(3):
            chars[rng.randrange(len(chars))] = chr(rng.choice([rng.randrange(0x80), rng.randrange(0x20, 0x3000)]))
        try:
            network = read("".join(chars))
        except UserError:
            continue
        assert read(network.to_yaml()) == network


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.system ['touch {flag}']",
        "!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{flag}']]",
        "!!python/object/new:os.system ['touch {flag}']",
        '!!python/object/apply:builtins.exec [\'open("{flag}", "w")\']',
    ],
)
def test_a_file_cannot_run_code(tag, tmp_path):
    flag = tmp_path / "ran"
    path = tmp_path / "net.yaml"
    path.write_text(SMALL + "name: " + tag.format(flag=flag) + "\n")
    with pytest.raises(UserError, match=r"net\.yaml: not readable as plain YAML: could not determine a constructor"):
        load_architecture(path)
    assert not flag.exists()
    if "os.system" in tag and "apply" in tag:  # the same file does run code in a loader that lets it
        yaml.unsafe_load(path.read_text())
        assert flag.exists()


def test_a_billion_laughs_is_refused_at_once():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    with pytest.raises(UserError, match=r"aliases \(\*name\) are not allowed"):
        load_yaml("\n".join(lines), "laughs.yaml")


def test_files_that_are_no_text(tmp_path):
    path = tmp_path / "net.yaml"
    path.write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\xff\xfe")
    with pytest.raises(UserError, match=r"architecture: .*net\.yaml is not UTF-8 text: invalid start byte at byte 0"):
        load_architecture(path)
    path.write_bytes(SMALL.encode("utf-16"))
    with pytest.raises(UserError, match=r"is not UTF-8 text"):
        load_architecture(path)
    path.write_bytes(b"")
    with pytest.raises(UserError, match=r"net\.yaml: not an architecture"):
        load_architecture(path)


def test_a_huge_file_is_not_read(tmp_path):
    path = tmp_path / "net.yaml"
    with path.open("wb") as file:
        file.truncate(50_000_000_000)  # sparse: takes no room
    with pytest.raises(UserError, match=rf"net\.yaml has 50,000,000,000 bytes; at most {MAX_BYTES:,} are read"):
        load_architecture(path)
