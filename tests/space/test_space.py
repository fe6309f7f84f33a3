"""Search spaces: decisions that build networks, one vector a network, and YAML that users write."""

from __future__ import annotations

import itertools
import warnings
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import yaml
from optuna.distributions import CategoricalDistribution

from effnas.space.architecture import Architecture
from effnas.space.cost import cost, cost_batch
from effnas.space.errors import UserError
from effnas.space.space import SHIPPED, SearchSpace, load_space
from effnas.space.stage import EXPANDING
from effnas.space.zoo import zoo

SPACES = sorted(path.stem for path in SHIPPED.glob("*.yaml"))

#: Small enough to enumerate, with everything that makes two decision vectors one network: blocks that have no
#: expansion, skips that cannot act, widths that round to one (8 · 0.9 = 8), repeats cut at 1, choices of one value.
SMALL = """
name: small
resolution: [8, 12]
in_channels: 1
num_classes: 3
stem: {base: 16, times: [0.5, 1.0]}
head: {choices: {none: 0, zero: 0, wide: 16}}
names: {repeats: l}
stages:
- block: [conv, ds, mbconv]
  channels: {base: 8, times: [0.9, 1.0, 2.0]}
  repeats: {base: 1, plus: [-1, 0, 1]}
  expand_ratio: [2, 3]
  skip: [none, identity]
- {block: [mbconv, ds], channels: 16, stride: [1, 2], expand_ratio: [1, 2], skip: [identity, none, pool]}
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> SearchSpace:
    path = tmp_path_factory.mktemp("spaces") / "small.yaml"
    path.write_text(SMALL)
    return load_space(path)


def every(space: SearchSpace) -> list[dict[str, Any]]:
    return [dict(zip(space.choices, row, strict=True)) for row in itertools.product(*space.choices.values())]


def some(space: SearchSpace, n: int = 20, seed: int = 0) -> list[dict[str, Any]]:
    """Uniform vectors, not canonical."""
    rows = space.sample_indices(n, np.random.default_rng(seed))
    return [
        {name: labels[i] for (name, labels), i in zip(space.choices.items(), row, strict=True)} for row in rows.tolist()
    ]


# -- one network, one vector ----------------------------------------------------------------------------


def test_size_and_canonical_form_by_enumeration(small):
    """Of all 31,104 vectors: one canonical vector a network, and as many networks as the space says."""
    vectors = every(small)
    assert len(vectors) == 2 * 2 * 3 * (3 * 3 * 3 * 2 * 2) * (2 * 2 * 2 * 3) == 31_104
    forms: dict[tuple[Any, ...], str] = {}
    for decisions in vectors:
        canonical = small.canonical(decisions)
        key = tuple(canonical.values())
        if key not in forms:
            assert small.canonical(canonical) == canonical
            forms[key] = small.build(canonical).digest
    assert small.size == len(forms) == len(set(forms.values()))


def test_the_canonical_vector_builds_the_same_network(small):
    for space in (small, load_space("mnasnet")):
        for decisions in some(space, 300):
            canonical = space.canonical(decisions)
            assert _naive(space, decisions).digest == space.build(decisions).digest == space.build(canonical).digest


@cache
def _plain(name: str) -> dict[str, Any]:
    path = SHIPPED / f"{name}.yaml"
    return yaml.safe_load(path.read_text() if path.is_file() else SMALL)


def _naive(space: SearchSpace, decisions: dict[str, Any]) -> Architecture:
    """The network of the vector as it stands, from the YAML's own words."""
    data = dict(_plain(space.name))
    short = data.pop("names", {})

    def value(spec: Any, decision: str) -> Any:
        if isinstance(spec, list):
            return decisions[decision]
        if not isinstance(spec, dict):
            return spec
        if "choices" in spec:
            return spec["choices"][decisions[decision]]
        if "plus" in spec:
            return max(1, spec["base"] + decisions[decision])
        exact = spec["base"] * decisions[decision]
        return max(8, int(exact + 4) // 8 * 8) + 8 * (max(8, int(exact + 4) // 8 * 8) < 0.9 * exact)

    stages = []
    for i, row in enumerate(data.pop("stages")):
        stage = {key: value(spec, f"block{i}_{short.get(key, key)}") for key, spec in row.items()}
        stages.append({**stage, "expand_ratio": stage.get("expand_ratio", 1) if stage["block"] in EXPANDING else 1})
    fields = {key: value(spec, key) for key, spec in data.items() if key not in ("name", "divisor", "_target_")}
    return Architecture.from_dict({"effnas_architecture": 1, **fields, "stages": stages})


def test_the_first_of_equal_choices_is_kept(small):
    first = {name: labels[0] for name, labels in small.choices.items()}
    assert small.canonical({**first, "block0_expand_ratio": 3}) == first  # a conv block has no expansion
    assert small.canonical({**first, "block0_channels": 1.0}) == first  # 7.2 and 8 are both 8
    assert small.canonical({**first, "block0_l": 0}) == first  # 0 and 1 layers are both 1
    assert small.canonical({**first, "head": "zero"}) == first
    # stem 8, width 8: here an identity skip acts
    assert small.canonical({**first, "block0_skip": "identity"}) == {**first, "block0_skip": "identity"}
    # stem 16, width 8, one layer: here it does not
    wide = {**first, "stem": 1.0}
    assert small.canonical({**wide, "block0_skip": "identity"}) == wide
    # two layers: the second has an identity skip
    deep = {**wide, "block0_l": 1, "block0_skip": "identity"}
    assert small.canonical(deep) == deep
    # of identity and none, stage 1 lists identity first
    assert small.canonical({**first, "block1_stride": 2, "block1_skip": "none"})["block1_skip"] == "identity"
    assert small.canonical({**first, "block1_stride": 2, "block1_skip": "pool"})["block1_skip"] == "pool"


def test_sizes_of_the_shipped_spaces():
    assert load_space("accel_nasbench").size == 36**6 * 48
    # blocks of 2 widths, 2 kernels, 2 SE; 2 x 3 x 3 repeats, 2 x 3 x 3 expansions: nothing is without effect
    assert load_space("tiny").size == (2 * 2 * 2) ** 3 * (2 * 3 * 3) * (2 * 3 * 3)
    assert load_space("mobile_cifar").size > 1e7
    assert 1e15 < load_space("mnasnet").size < (3 * 3 * 3 * 2 * 2 * 2 * 3) ** 7


# -- every shipped space --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SPACES)
def test_members_are_legal_canonical_and_repeatable(name):
    space = load_space(name)
    assert space.name == name
    rng, again = np.random.default_rng(7), np.random.default_rng(7)
    previous = space.sample(np.random.default_rng(8))
    seen = set()
    for _ in range(30):
        sampled = space.sample(rng)
        mutated = space.mutate(sampled, rng)
        child = space.crossover(sampled, previous, rng)
        for decisions in (sampled, mutated, child):
            assert space.contains(decisions)
            assert space.canonical(decisions) == decisions
            assert list(decisions) == list(space.choices)
        assert space.build(mutated).digest != space.build(sampled).digest
        assert sampled == space.sample(again)
        assert mutated == space.mutate(sampled, again)
        assert child == space.crossover(sampled, previous, again)
        seen.add(space.build(sampled).digest)
        previous = sampled
    assert len(seen) >= 29
    network = space.build(previous)
    assert network.name == f"{name}_{network.digest[:8]}"


def test_mutation_changes_one_decision_and_what_it_entails(small):
    """But for canonical forms, a mutant differs in one decision; all of a network's neighbours are reached."""
    rng = np.random.default_rng(0)
    start = small.sample(rng)
    neighbours = set()
    for name, labels in small.choices.items():
        neighbours |= {tuple(small.canonical({**start, name: label}).values()) for label in labels}
    neighbours.discard(tuple(start.values()))
    found = {tuple(small.mutate(start, rng).values()) for _ in range(1500)}
    assert found == neighbours


def test_crossover_takes_each_decision_from_a_parent():
    space = load_space("accel_nasbench")
    rng = np.random.default_rng(0)
    a = {name: labels[0] for name, labels in space.choices.items()}
    b = {name: labels[-1] for name, labels in space.choices.items()}
    children = [space.crossover(a, b, rng) for _ in range(400)]
    for name in space.choices:
        share = sum(child[name] == a[name] for child in children) / 400
        assert 0.4 < share < 0.6  # five standard deviations are 0.125 on one decision
    assert space.crossover(a, a, rng) == a


def test_sample_is_uniform_over_the_choices():
    space = load_space("accel_nasbench")
    rng = np.random.default_rng(0)
    counts = Counter(space.sample(rng)["block5_l"] for _ in range(2000))
    assert set(counts) == {1, 2, 3, 4}
    assert all(abs(n - 500) < 110 for n in counts.values())


@pytest.mark.parametrize("name", SPACES)
def test_columns_agree_with_networks(name):
    space = load_space(name)
    vectors = some(space, 100)
    rows = space.indices(vectors)
    assert rows.shape == (100, len(space.choices))
    canonical = [space.decisions(row) for row in rows]
    assert canonical == [space.canonical(decisions) for decisions in vectors]
    assert [space.decisions(row) for row in space.indices(canonical)] == canonical
    batch = space.batch(rows)
    for i, decisions in enumerate(vectors):
        network = space.build(decisions)
        assert batch.channels[i].tolist() == [stage.channels for stage in network.stages]
        assert batch.repeats[i].tolist() == [stage.repeats for stage in network.stages]
        assert batch.expand_ratio[i].tolist() == [stage.expand_ratio for stage in network.stages]
        assert batch.se_ratio[i].tolist() == [stage.se_ratio for stage in network.stages]


def test_columns_of_decisions_about_the_network(small):
    vectors = some(small, 200)
    found = cost_batch(small.batch(small.indices(vectors)))
    for i, decisions in enumerate(vectors):
        expected = cost(small.build(decisions))
        assert (found.params[i], found.macs[i]) == (expected.params, expected.macs)
        assert (found.activations[i], found.peak_memory[i]) == (expected.activations, expected.peak_memory)


def test_sampled_indices_are_legal_and_repeatable(small):
    rows = small.sample_indices(500, np.random.default_rng(1))
    assert (rows == small.sample_indices(500, np.random.default_rng(1))).all()
    assert (rows.min(axis=0) == 0).all()
    assert rows.max(axis=0).tolist() == [len(labels) - 1 for labels in small.choices.values()]


# -- decisions ------------------------------------------------------------------------------------------


def test_b0_is_a_member_of_accel_nasbench():
    decisions: dict[str, Any] = {}
    for i, (e, k, layers) in enumerate([(1, 3, 1), (6, 3, 2), (6, 5, 2), (6, 3, 3), (6, 5, 3), (6, 5, 4), (6, 3, 1)]):
        decisions |= {f"block{i}_e": e, f"block{i}_k": k, f"block{i}_l": layers, f"block{i}_se": True}
    space = load_space("accel_nasbench")
    b0 = zoo("efficientnet_b0")
    built = space.build(decisions)
    assert cost(built) == cost(b0)
    assert built.stages == b0.stages
    assert set(space.choices) == set(decisions)


def test_illegal_decisions():
    space = load_space("tiny")
    legal = space.sample(np.random.default_rng(0))
    cases: list[tuple[dict[str, Any], str]] = [
        ({**legal, "block0_kernel_size": 4}, r"space tiny: block0_kernel_size: unknown '4'.* Choose one of: 3, 5"),
        ({**legal, "block0_kernel_size": "3"}, r"space tiny: block0_kernel_size: unknown '3'"),
        ({**legal, "block0_expand_ratio": True}, r"space tiny: block0_expand_ratio: unknown 'True'"),
        (
            {**legal, "block0_kernl_size": 3},
            r"decision: unknown 'block0_kernl_size'\. Did you mean 'block0_kernel_size'\?",
        ),
        (
            {k: v for k, v in legal.items() if k != "block2_repeats"},
            r"decision 'block2_repeats' is missing; its choices are \[1, 2, 3\]",
        ),
        ({}, r"decision 'block0_channels' is missing"),
    ]
    for decisions, message in cases:
        assert not space.contains(decisions)
        for use in (space.check, space.build, space.canonical, lambda d: space.mutate(d, np.random.default_rng(0))):
            with pytest.raises(UserError, match=message):
                use(decisions)
        with pytest.raises(UserError, match=message):
            space.crossover(legal, decisions, np.random.default_rng(0))
    assert space.contains(legal)


def test_numbers_from_numpy_and_floats_are_the_choices_they_equal():
    space = load_space("accel_nasbench")
    legal = space.sample(np.random.default_rng(0))
    foreign = {
        name: np.bool_(v) if isinstance(v, bool) else np.int64(v) if name.endswith("k") else float(v)
        for name, v in legal.items()
    }
    checked = space.check(foreign)
    assert checked == legal
    assert {type(value) for value in checked.values()} == {bool, int}
    assert space.check(dict(reversed(legal.items()))) == legal
    assert not space.contains({**legal, "block0_se": 1})


def test_a_space_without_a_second_network():
    space = SearchSpace("one", [{"block": "conv", "channels": {"base": 8, "times": [0.9, 1.0]}}])
    assert space.size == 1
    with pytest.raises(UserError, match=r"space one: no neighbour of \{'block0_channels': 0\.9\}"):
        space.mutate({"block0_channels": 1.0}, np.random.default_rng(0))


@pytest.mark.parametrize("name", SPACES)
def test_optuna_asks_in_the_space(name):
    space = load_space(name)
    assert all(type(distribution) is CategoricalDistribution for distribution in space.distributions.values())
    assert {n: d.choices for n, d in space.distributions.items()} == space.choices
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(5):
        trial = study.ask(space.distributions)
        assert space.contains(trial.params)
        study.tell(trial, cost(space.build(trial.params)).macs)
    fixed = space.sample(np.random.default_rng(1))
    study.enqueue_trial(fixed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert space.check(study.ask(space.distributions).params) == fixed


# -- YAML -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SPACES)
def test_a_space_by_hydra_is_the_same_space(name):
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    config = OmegaConf.create({"space": OmegaConf.load(SHIPPED / f"{name}.yaml")})
    space, loaded = instantiate(config.space, _convert_="all"), load_space(name)
    assert type(space) is SearchSpace
    assert (space.name, space.choices, space.size) == (loaded.name, loaded.choices, loaded.size)
    decisions = loaded.sample(np.random.default_rng(0))
    assert space.build(decisions) == loaded.build(decisions)


def test_a_users_own_space_end_to_end(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(SMALL.replace("name: small\n", "bn_eps: 1e-3\n"))
    space = load_space("mine.yaml")
    assert space.name == "mine"  # a file's own name stands in for a missing one
    decisions = space.mutate(space.sample(np.random.default_rng(0)), np.random.default_rng(1))
    network = space.build(decisions)
    assert (network.bn_eps, network.in_channels, network.num_classes) == (0.001, 1, 3)
    assert network.digest == small.build(decisions).digest
    assert load_space(tmp_path / "mine.yaml").size == small.size


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "mnasnets",
            r"space: unknown 'mnasnets'\. Did you mean 'mnasnet'\? Choose one of: accel_nasbench, lite0_sub, mnasnet, ",
        ),
        ("nowhere.yaml", r"space: no such file: nowhere\.yaml"),
        ("a\0b", r"space: unknown"),
        ("x" * 5000, r"space: unknown"),
        (".", r"space: unknown '\.'"),
    ],
)
def test_neither_name_nor_file(name, message):
    with pytest.raises(UserError, match=message):
        load_space(name)


GOOD = "stages:\n- {block: mbconv, channels: 8, kernel_size: [3, 5]}\n"
MORE = GOOD + "- {block: conv, channels: 8, "

BAD: list[tuple[str, str]] = [
    # -- the file
    ("", r"not a space \(a mapping with 'stages' is expected\)"),
    ("- 1\n", r"not a space"),
    ("name: mine\nresolution: 32\n", r"not a space"),
    ("stages: [", r"space .*mine\.yaml: not readable as plain YAML"),
    ("stages: !!python/object/apply:os.getcwd []\n", r"could not determine a constructor for the tag"),
    ("a: &a [3, 5]\nstages:\n- {block: conv, channels: *a}\n", r"aliases \(\*name\) are not allowed"),
    # -- the network
    (
        GOOD + "resolutoin: 32\n",
        r"space mine: field: unknown 'resolutoin'\. Did you mean 'resolution'\? Choose one of: name, stages",
    ),
    (GOOD + "effnas_architecture: 1\n", r"space mine: field: unknown 'effnas_architecture'"),
    (GOOD + "1: 2\n", r"keywords must be strings"),
    (GOOD + "resolution: big\n", r"space mine: resolution: resolution must be a whole number, got 'big'"),
    (GOOD + "resolution: [32, 0]\n", r"space mine: resolution=0: resolution must be between 1 and 100000, got 0"),
    (GOOD + "resolution: []\n", r"space mine: resolution: no choices"),
    (GOOD + "activation: [relu, swish]\n", r"space mine: activation='swish': activation: unknown 'swish'"),
    (GOOD + f"name: {'x' * 101}\n", r"space: name must be a string of at most 100 characters, got 'xxx"),
    (GOOD + "name: 5\n", r"space: name must be a string of at most 100 characters, got 5"),
    (GOOD + "names: [k]\n", r"space mine: 'names' must be a mapping of fields to short names, got \['k'\]"),
    (GOOD + "names: {kernel: k}\n", r"space mine: names: unknown 'kernel'\. Did you mean 'kernel_size'\?"),
    # -- the stages
    ("stages: []\n", r"space mine: 'stages' must be a list of at least one stage"),
    ("stages: {block: conv}\n", r"space mine: 'stages' must be a list"),
    ("stages:\n", r"space mine: 'stages' must be a list"),
    ("stages: [conv]\n", r"space mine: stage 0 must be a mapping, got str"),
    (GOOD + "- {channels: 8}\n", r"space mine: stage 1: 'block' must be given"),
    (GOOD + "- {block: conv}\n", r"space mine: stage 1: 'channels' must be given"),
    (MORE + "kernel: 3}\n", r"space mine: stage 1: field: unknown 'kernel'\. Did you mean"),
    (MORE + "kernel_size: 4}\n", r"space mine: block1_kernel_size: kernel_size must be odd, got 4"),
    (GOOD + "- {block: null, channels: 8}\n", r"space mine: block1_block: block: unknown 'None'"),
    (
        "stages:\n- {block: conv, channels: 8}\n",
        r"space mine: nothing to decide; give at least one field several choices",
    ),
    # -- choices
    (GOOD + "- {block: conv, channels: []}\n", r"space mine: block1_channels: no choices"),
    (
        GOOD + "- {block: conv, channels: [8, 16, 8]}\n",
        r"space mine: block1_channels: a choice appears twice: \[8, 16, 8\]",
    ),
    (GOOD + "- {block: conv, channels: [1, true]}\n", r"a choice appears twice: \[1, True\]"),
    (
        GOOD + "- {block: conv, channels: [8, 0]}\n",
        r"space mine: block1_channels=0: channels must be between 1 and 1000000, got 0",
    ),
    (GOOD + "- {block: conv, channels: [8, [16]]}\n", r"a choice must be a number, a string or true/false, got \[16\]"),
    (GOOD + "- {block: conv, channels: [8, null]}\n", r"a choice must be a number, a string or true/false, got None"),
    (MORE + "se_ratio: [0, .nan]}\n", r"a choice must be a number, a string or true/false, got nan"),
    (
        GOOD + "- {block: [conv, mbcnv], channels: 8}\n",
        r"space mine: block1_block='mbcnv': block: unknown 'mbcnv'\. Did you mean 'mbconv'\?",
    ),
    (
        GOOD + "- {block: [conv, ds], channels: 8, expand_ratio: [1, 99]}\n",
        r"space mine: block1_expand_ratio=99: expand_ratio must be between 1 and 64, got 99",
    ),
    (
        MORE + "kernel_size: {from: 3, to: 7}}\n",
        r"block1_kernel_size: choices must be written \[a, b\], .* got \{'from': 3, 'to': 7\}",
    ),
    (GOOD + "- {block: ds, channels: {base: 8, times: 2}}\n", r"block1_channels: choices must be written"),
    (GOOD + "- {block: ds, channels: {base: 8, times: [2], plus: [1]}}\n", r"block1_channels: choices must be written"),
    (GOOD + "- {block: ds, channels: {choices: [8, 16]}}\n", r"block1_channels: choices must be written"),
    (GOOD + "- {block: ds, channels: {choices: {}}}\n", r"block1_channels: no choices"),
    (
        GOOD + "- {block: ds, channels: {choices: {s: 8, l: many}}}\n",
        r"block1_channels='l': channels must be a whole number, got 'many'",
    ),
    (
        GOOD + "- {block: ds, channels: {base: 8, times: [1, wide]}}\n",
        r"space mine: block1_channels: base and times: width multiplier must be a finite number, got 'wide'",
    ),
    (
        GOOD + "- {block: ds, channels: {base: wide, times: [1]}}\n",
        r"space mine: block1_channels: base and times: channels must be a whole number, got 'wide'",
    ),
    (
        MORE + "repeats: {base: two, plus: [0, 1]}}\n",
        r"space mine: block1_repeats: base and plus must be a whole number, got 'two'",
    ),
    (
        MORE + "repeats: {base: 2, plus: [0, 0.5]}}\n",
        r"space mine: block1_repeats: base and plus must be a whole number, got 0\.5",
    ),
    (
        "names: {block: x, stride: x}\nstages:\n- {block: [ds, conv], channels: 8, stride: [1, 2]}\n",
        r"space mine: block0_x: two fields have this name; check 'names'",
    ),
]


@pytest.mark.parametrize(("text", "message"), BAD, ids=range(len(BAD)))
def test_mistakes_in_a_users_yaml(text, message, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        load_space(path)
    assert str(caught.value).startswith("space")
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("name", ["tiny", "mobile_cifar", "mnasnet", "accel_nasbench"])
def test_decisions_of_is_the_inverse_of_build(name: str) -> None:
    space = load_space(name)
    for seed in range(30):
        decisions = space.sample(np.random.default_rng(seed))
        assert space.decisions_of(space.build(decisions)) == decisions
    network = space.build(decisions)
    assert space.decisions_of(network.with_(resolution=network.resolution + 2)) is None
    assert space.decisions_of(network.with_(stages=network.stages[1:])) is None
