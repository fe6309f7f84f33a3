"""A command's options are its function's parameters, and YAML says the same of them."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import yaml

import effnas
from effnas.cli import main
from effnas.commandline.commands import COMMANDS, Command
from effnas.commandline.options import CONF
from effnas.commandline.schema import INGREDIENTS, make_schema, read_parameters


def groups_and_values(command: Command) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of a command's YAML file: the groups of its defaults list with their choices, and its own keys."""
    values = yaml.safe_load((CONF / f"{command.config}.yaml").read_text(encoding="utf-8"))
    groups: dict[str, Any] = {}
    for entry in values.pop("defaults"):
        groups |= entry if isinstance(entry, dict) else {}
    return groups, values


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_yaml_has_the_parameters_and_their_defaults(command: Command) -> None:
    groups, values = groups_and_values(command)
    options = read_parameters(command.load_run())
    ingredients = {name for owner in INGREDIENTS if owner in options for name in INGREDIENTS[owner]}
    assert {*groups, *values} == {*options, *ingredients, "quiet", "json"}
    assert ingredients <= {*groups}
    assert values.pop("json") is False
    assert values.pop("quiet") is False
    for name, value in values.items():
        default = options[name].default
        if default is not inspect.Parameter.empty:
            given = None if value == {} else value  # nothing yet: +data.NAME.KEY=… adds to it
            assert given == ([*default] if isinstance(default, tuple) else default), name


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_types_and_defaults_of_the_schema(command: Command) -> None:
    groups, values = groups_and_values(command)
    fields = make_schema(command.load_run()).__dataclass_fields__
    assert {*fields} == {*groups, *values}
    assert all(fields[name].type is Any for name in groups)
    for name, value in values.items():
        if isinstance(value, bool | float):
            assert fields[name].type is type(value), name
        if fields[name].default not in (None, "???"):
            default = fields[name].default
            assert value == ([*default] if isinstance(default, tuple) else default), name


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_every_command_is_a_public_function(command: Command) -> None:
    run = command.load_run()
    assert getattr(effnas, run.__name__) is run
    assert run.__name__ in effnas.__all__
    default = inspect.signature(run).parameters["output"].default
    assert default == f"outputs/{command.config}"  # as the command line


def test_a_primary_config_of_ones_own_begins_with_the_schema_or_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "with.yaml").write_text("defaults: [scale_job, _self_]\nphi: 1\njson: true\n")
    (tmp_path / "without.yaml").write_text("phi: 1\njson: true\n")
    (tmp_path / "wrong.yaml").write_text("phi: one\n")
    (tmp_path / "extra.yaml").write_text("phi: 1\nsize: 3\n")
    folder = f"hydra.run.dir={tmp_path / 'out'}"
    printed = []
    for name in ("with", "without"):
        assert main(["scale", "-cd", str(tmp_path), "-cn", name, folder]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    assert '"phi": 1.0' in printed[0]
    assert main(["scale", "-cd", str(tmp_path), "-cn", "wrong", folder]) == 2
    assert capsys.readouterr().err == "effnas scale: error: phi must be a number, got 'one'\n"
    assert main(["scale", "-cd", str(tmp_path), "-cn", "extra", folder]) == 2
    assert "unknown '+size'" in capsys.readouterr().err


def test_an_object_that_is_lacking_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.yaml").write_text("defaults: [search_job, space: tiny, _self_]\n")
    assert main(["search", "-cd", str(tmp_path), "-cn", "mine", f"hydra.run.dir={tmp_path / 'out'}"]) == 2
    assert capsys.readouterr().err == "effnas search: error: evaluator is missing: give it with evaluator=VALUE\n"


def test_an_unknown_keyword_of_a_study_is_refused_at_once() -> None:
    from effnas.search.job import run_search

    with pytest.raises(TypeError, match="a study has no option 'wrokers'; it takes: workers, workers_per_device"):
        run_search("nowhere", object(), wrokers=2)  # type: ignore[call-arg,arg-type]
