"""What differs between two runs: named so that a person sees it, and nothing that a later version has added."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from effnas.evaluate.identity import describe_changes, describe_content
from effnas.evaluate.supernet.members import Members
from effnas.evaluate.train.recipe import Training
from effnas.space.space import SearchSpace, load_space


@dataclass(frozen=True)
class Newer:
    """As a later version has it: the first version had ``path`` alone."""

    path: str
    times: int = 3
    parts: tuple[int, ...] = (1, 2)
    labels: list[str] = field(default_factory=lambda: ["a"])
    recipe: Training = field(default_factory=Training)


def plain(value: Any) -> Any:
    return json.loads(json.dumps(describe_content(value)))


def without(data: Any, *names: str) -> Any:
    """As a version wrote it that knew nothing of these settings, wherever they are."""
    if isinstance(data, dict):
        return {key: without(value, *names) for key, value in data.items() if key not in names}
    return [without(value, *names) for value in data] if isinstance(data, list) else data


@pytest.mark.parametrize("name", ["times", "parts", "labels", "recipe"])
def test_a_setting_that_was_added_counts_as_its_default(name: str) -> None:
    now = {"evaluator": plain(Newer("a"))}
    assert describe_changes(without(now, name), now) == ""
    assert describe_changes(now, without(now, name)) == ""  # and back to the older version


def test_an_added_setting_with_another_value_is_a_difference() -> None:
    now = {"evaluator": plain(Newer("a", times=4))}
    assert describe_changes(without(now, "times"), now) == "evaluator.times: 3 → 4"


def test_inside_of_others_too() -> None:
    now = {"evaluator": plain(Newer("a", recipe=Training(epochs=7)))}
    assert describe_changes(without(now, "mixup", "layer_decay"), now) == ""
    other = {"evaluator": plain(Newer("a", recipe=Training(epochs=7, mixup=0.5)))}
    assert describe_changes(without(now, "mixup"), other) == "evaluator.recipe.mixup: 0.0 → 0.5"


def test_of_a_class_that_is_named_beside_them() -> None:
    now = {"training": Training(epochs=7).to_dict()}
    old = without(now, "mixup")
    assert describe_changes(old, now, {"training": Training}) == ""
    assert describe_changes(old, now) == "training.mixup: None → 0.0"


@pytest.mark.parametrize("name", ["divisor", "bn_eps", "padding", "skip", "se_ratio", "names"])
def test_fields_of_a_space_its_networks_and_its_stages(name: str) -> None:
    words = {
        "_target_": "effnas.space.space.SearchSpace",
        **{"name": "s", "divisor": 8, "bn_eps": 1e-3, "padding": "symmetric", "names": None},
        "stages": [{"block": "mbconv", "channels": 8, "kernel_size": [3, 5], "skip": "identity", "se_ratio": 0.25}],
    }
    words["stages"][0] |= {"skip": "identity", "se_ratio": 0.0}  # type: ignore[index]
    assert describe_changes({"space": without(words, name)}, {"space": words}) == ""
    assert describe_changes({"space": words}, {"space": {**words, "divisor": 4}}) == "space.divisor: 8 → 4"


def test_a_space_given_in_python() -> None:
    now = {"space": plain(load_space("tiny"))}
    assert describe_changes(without(now, "divisor"), now) == ""


def test_what_says_nothing_is_no_difference() -> None:
    now: dict[str, Any] = {"seed": 0, "files": {}, "prior": None, "shortcuts": []}
    assert describe_changes({"seed": 0}, now) == ""
    assert describe_changes({"seed": 0}, {"seed": 0, "files": {"t.csv": "ab"}}) == "files: None → {'t.csv': 'ab'}"


def test_a_class_under_the_name_that_it_had() -> None:
    old = {"algorithm": {"_target_": "effnas.search.evolution.Evolution", "population": 20}}
    new = {"algorithm": {"_target_": "effnas.search.algorithms.evolution.Evolution", "population": 20}}
    assert describe_changes(old, new) == ""
    new["algorithm"]["_target_"] = "effnas.search.algorithms.local.LocalSearch"
    assert describe_changes(old, new).startswith("algorithm._target_: ")


def test_values_of_a_supernets_members() -> None:
    members = Members(load_space("tiny"))
    now, kinds = members.describe(), members.list_defaults()
    assert describe_changes(without(now, "padding", "skip"), now, kinds) == ""
    assert describe_changes(without(now, "stem"), now, kinds).startswith("values.network.stem: [32] → [8]")


# -- what is told ----------------------------------------------------------------------------------------


def describe_words(space: dict[str, Any]) -> dict[str, Any]:
    """Of a search: the decisions and a digest of networks, and what the configuration says of the space."""
    made = SearchSpace(**space)
    decisions = {name: [str(one) for one in made.choices[name]] for name in made.choices}
    words = {"_target_": "effnas.space.space.SearchSpace", **space}
    return {"space": {"decisions": decisions, "networks": str(made), **words}, "evaluator": {"space": words}}


def change(stage: int = 0, **fields: Any) -> dict[str, Any]:
    stages = [
        {"block": "mbconv", "channels": 8, "kernel_size": [3, 5], "stride": 1, "repeats": 1},
        {"block": "mbconv", "channels": {"base": 16, "times": [1.0, 1.5]}, "stride": 2},
    ]
    stages[stage] |= {key: value for key, value in fields.items() if key in ("kernel_size", "channels", "stride")}
    others = {key: value for key, value in fields.items() if key not in stages[stage]}
    return describe_words({"name": "s", "num_classes": 10, "stages": stages, **others})


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"kernel_size": [3, 5, 7]}, "space.decisions.block0_kernel_size: ['3', '5'] → ['3', '5', '7']"),
        (
            {"stage": 1, "channels": {"base": 16, "times": [1.0, 2.0]}},
            "space.decisions.block1_channels: ['1.0', '1.5'] → ['1.0', '2.0']",
        ),
        ({"kernel_size": 3}, "space.decisions.block0_kernel_size: ['3', '5'] → None"),
        ({"stage": 1, "stride": 1}, "space.stages[1].stride: 2 → 1"),
        ({"stage": 1, "channels": {"base": 8, "times": [1.0, 1.5]}}, "space.stages[1].channels.base: 16 → 8"),
        ({"num_classes": 7}, "space.num_classes: 10 → 7"),
        (
            {"kernel_size": [3, 7], "stride": 2, "num_classes": 7},
            "space.decisions.block0_kernel_size: ['3', '5'] → ['3', '7'], space.num_classes: 10 → 7, "
            "space.stages[0].stride: 1 → 2",
        ),
    ],
)
def test_a_spaces_changes_are_told_once_by_what_differs(fields: dict[str, Any], told: str) -> None:
    assert describe_changes(change(), change(**fields)) == told


def test_a_stage_more() -> None:
    before, now = (
        describe_words({"name": "s", "stages": [{"block": "mbconv", "channels": 8, "kernel_size": [3, 5]}] * count})
        for count in (1, 2)
    )
    assert describe_changes(before, now) == "space.decisions.block1_kernel_size: None → ['3', '5']"


def test_a_digest_is_told_where_nothing_else_is() -> None:
    assert describe_changes({"space": {"networks": "ab"}}, {"space": {"networks": "cd"}}) == (
        "space.networks: 'ab' → 'cd'"
    )


def test_long_values_show_where_they_differ() -> None:
    long = "x" * 80
    assert describe_changes({"a": f"{long}1 end"}, {"a": f"{long}2 end"}) == (
        f"a: …{'x' * 20}1 end' → …{'x' * 20}2 end'"
    )
    assert describe_changes({"a": [1] * 50}, {"a": [2] * 50}).count("…") == 2


def test_the_first_differences_and_the_number_of_the_others() -> None:
    before, now = ({str(n): n + more for n in range(6)} for more in (0, 1))
    assert describe_changes(before, now) == "0: 0 → 1, 1: 1 → 2, 2: 2 → 3, 3: 3 → 4 and 2 more"
