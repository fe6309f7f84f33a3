"""The command line: what is typed, what Hydra gets, what comes back on which stream, with which status."""

from __future__ import annotations

import functools
import io
import json
import logging
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from effnas import __version__
from effnas.cli import main
from effnas.commandline.annotations import is_text, number_kind, read_annotations
from effnas.commandline.arguments import HYDRA_FLAGS, REFUSED_FLAGS, parse_words, scan_words
from effnas.commandline.commands import COMMANDS
from effnas.commandline.hydra_words import write_hydra_words
from effnas.commandline.job import MAX_NAME, name_folder
from effnas.commandline.options import CONF, read_options
from effnas.commandline.process import Unheard
from effnas.commandline.schema import read_parameters
from effnas.scaling.scale.job import run_scale

MINE = """\
# A primary configuration of one's own:
# two lines long.
defaults:
  - colour: red  # which colour
  - _self_

phi: 1  # how big
nested:
  deep: "a # b"  # not the text's own sign
values: [1, 2]  # several numbers
verbose: false
"""
RED = """\
_target_: somewhere.Red
shade: 0.5  # how dark
on: true  # whether
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A folder of one's own: a primary configuration and a group with two choices."""
    folder = tmp_path / "mine"
    (folder / "colour").mkdir(parents=True)
    (folder / "mine.yaml").write_text(MINE)
    (folder / "colour" / "red.yaml").write_text(RED)
    (folder / "colour" / "blue.yaml").write_text("depth: 3  # how deep\n")
    return folder


def words(mine: Path, *typed: str) -> list[str]:
    """What Hydra gets for what was typed after the command, with the configuration of the fixture."""
    _hydra, chosen = scan_words(typed)
    options = read_options("mine", [CONF, mine], chosen)
    return write_hydra_words(parse_words(typed, options), options, {})


# -- options from the comments of YAML files ---------------------------------------------------------


def test_options_come_with_their_defaults_and_comments(mine: Path) -> None:
    options = read_options("mine", [mine], {})
    assert options.summary == "A primary configuration of one's own:\ntwo lines long."
    assert [(o.name, o.written, o.default, o.comment) for o in options.own] == [
        ("phi", "1", 1, "how big"),
        ("nested.deep", '"a # b"', "a # b", "not the text's own sign"),
        ("values", "[1, 2]", [1, 2], "several numbers"),
        ("verbose", "false", False, ""),
    ]
    (group,) = options.groups
    assert (group.name, group.choice, group.choices, group.comment) == (
        "colour",
        "red",
        ("blue", "red"),
        "which colour",
    )
    assert [option.name for option in group.options] == ["colour.shade", "colour.on"]


def test_a_chosen_member_shows_its_own_options(mine: Path) -> None:
    (group,) = read_options("mine", [mine], {"colour": "blue"}).groups
    assert [(option.name, option.default) for option in group.options] == [("colour.depth", 3)]


def test_a_config_that_extends_another_has_its_options(mine: Path) -> None:
    (mine / "more.yaml").write_text("defaults:\n  - mine\n  - override colour: blue\n  - _self_\nphi: 7\n")
    options = read_options("more", [mine], {})
    assert options.by_name()["phi"].default == 7
    assert options.groups[0].choice == "blue"
    assert "colour.depth" in options.names()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_its_line_of_help(command: str) -> None:
    config = COMMANDS[command].config
    options = read_options(config, [CONF], {})
    assert options.summary
    silent = [o.name for o in options.by_name().values() if not o.comment]
    assert silent == []
    assert [g.name for g in options.groups if not g.comment] == []


# -- from what is typed to what Hydra reads ----------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("--phi 3", ["phi=3"]),
        ("--phi=3", ["phi=3"]),
        ("phi=3", ["phi=3"]),
        ("--phi -1.5", ["phi=-1.5"]),
        ("--nested.deep x", ["nested.deep=x"]),
        ("--nested.deep=4e8", ["nested.deep=4e8"]),
        ("--colour blue", ["colour=blue"]),
        ("--verbose", ["verbose=true"]),
        ("--verbose phi=3", ["verbose=true", "phi=3"]),
        ("--verbose false", ["verbose=false"]),
        ("--colour.on --phi 2", ["colour.on=true", "phi=2"]),
        ("--values 3,4", ["values=[3,4]"]),
        ("--values {a:1}", ["values=[{a:1}]"]),  # one of several
        ("--nested.deep 0..7", ["nested.deep=0..7"]),
        ("--nested.deep 1.2,1.1", ["nested.deep='1.2,1.1'"]),
        ("--nested.deep a=b", ["nested.deep='a=b'"]),
        ("nested.deep=f(1)", ["nested.deep='f(1)'"]),
        ("nested.deep=~/été", ["nested.deep='~/été'"]),
        ("nested.deep=it's", [r"nested.deep='it\'s'"]),
        ("nested.deep=[1,{a:2}]", ["nested.deep=[1,{a:2}]"]),
        ("+colour.extra=1 ~nested.deep", ["+colour.extra=1", "~nested.deep"]),
        ("phi=3 --cfg job verbose=true", ["--cfg=job", "phi=3", "verbose=true"]),
        ("phi=1 -cd . -c all", ["--config-dir=.", "--cfg=all", "phi=1"]),
        ("--info", ["--info=all"]),
        ("--info plugins", ["--info=plugins"]),
    ],
)
def test_flags_and_overrides(mine: Path, typed: str, expected: list[str]) -> None:
    assert words(mine, *typed.split()) == expected


def test_a_value_may_have_spaces(mine: Path) -> None:
    assert words(mine, "--nested.deep", "my (own) file") == ["nested.deep='my (own) file'"]


def test_quoted_values_reach_the_configuration_unchanged(mine: Path) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    for value in ("a=b", "it's", "(\\", r"a\'b=", "x,y", "~\\\\", r"C:\a\b", "a#b", 'say "x"'):
        (text,) = words(mine, f"nested.deep={value}")
        assert OverridesParser.create().parse_override(text).value() == value


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("2020", "2020"),
        ("1_000", "1_000"),
        ("1e5", "1e5"),
        ("true", "true"),
        ("[new] photos", "[new] photos"),
        ("[new]", "[new]"),
        ("{a}", "{a}"),
        ("a=b", "a=b"),
        ("a,b", "a,b"),
        ("it's", "it's"),
        ("'a b'", "a b"),
        ("null", None),
        ("", ""),
        ("range(1,2)", "range(1,2)"),
    ],
)
def test_text_means_itself(typed: str, value: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    @functools.wraps(run_scale)
    def keep(**options: Any) -> None:
        seen.update(options)

    monkeypatch.setattr("effnas.scaling.scale.job.run_scale", keep)
    assert main(["scale", f"--preset={typed}", f"hydra.run.dir={tmp_path}"]) == 0
    assert seen["preset"] == value


def test_text_means_itself_in_a_sweep(mine: Path) -> None:
    options = read_options("mine", [CONF, mine], {})
    typed = parse_words(["-m", "nested.deep=2020,1_000,a"], options)
    got = write_hydra_words(typed, options, {"nested.deep": frozenset(["str", "Path", "None"])})
    assert got == ["--multirun", "nested.deep='2020','1_000','a'"]


def test_types_are_read_without_importing() -> None:
    for command in COMMANDS.values():
        parameters = read_parameters(command.load_run())
        kinds = read_annotations(f"effnas.{command.run}")
        assert parameters.keys() <= kinds.keys()
        for name, parameter in parameters.items():
            alone = number_kind(kinds[name])
            assert alone is None or alone in str(parameter.annotation), name
    assert number_kind(read_annotations("effnas.evaluate.data.ImageData")["holdout"]) == "float"
    assert is_text(read_annotations("effnas.evaluate.data.ImageData")["path"])
    assert number_kind(read_annotations("effnas.evaluate.train.recipe.Training")["epochs"]) == "int"
    assert read_annotations("optuna.samplers.TPESampler") == {}


def test_a_comma_is_a_sweep_with_multirun_and_folders_are_named_by_it(mine: Path) -> None:
    got = words(mine, "-m", "phi=1,2", "nested.deep=x", "hydra.sweep.dir=out", "--colour", "red,blue")
    assert got[:5] == ["--multirun", "phi=1,2", "nested.deep=x", "hydra.sweep.dir=out", "colour=red,blue"]
    assert got[5:] == ["hydra.job.config.override_dirname.exclude_keys=[nested.deep]"]


# -- help, version, completion -----------------------------------------------------------------------


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"  {name} " in out for name in ("search", "grid-alpha-beta-gamma", "scale"))


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_lists_options_defaults_and_examples(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"usage: effnas {command}" in out
    assert "--json false" in out
    assert "--multirun" in out
    assert "\nexamples:\n  effnas " in out


def test_help_covers_a_folder_of_ones_own(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scale", "--config-dir", str(mine), "--config-name", "mine", "colour=blue", "-h"]) == 0
    out = capsys.readouterr().out
    assert "--colour blue" in out
    assert "which colour; one of: blue, red" in out
    assert "--colour.depth 3" in out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"effnas {__version__}\n"


def test_help_needs_neither_hydra_nor_torch() -> None:
    code = (
        "import sys; from effnas.cli import main\n"
        "for words in ([], ['search'], ['grid-alpha-beta-gamma'], ['scale']):\n"
        "    assert main([*words, '--help']) == 0\n"
        "heavy = {'hydra', 'omegaconf', 'torch', 'optuna', 'pandas', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_scale_needs_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from effnas.cli import main\n"
        f"assert main(['scale', '--phi', '3', 'hydra.run.dir={tmp_path}']) == 0\n"
        "heavy = {'torch', 'optuna', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("effnas ", [*COMMANDS, "--help", "--version"]),
        ("effnas sc", ["scale"]),
        ("effnas scale --pre", ["--preset"]),
        ("effnas scale --phi 3 --target-m", ["--target-macs", "--target-memory"]),
        ("effnas scale pre", ["preset="]),
        ("effnas scale --explain pre", ["preset="]),
        ("effnas scale --json fal", []),
        ("effnas scale sp", []),
        ("effnas nothing ", []),
        ("effnas scale --config-dir ", []),
    ],
)
def test_completion(
    line: str, expected: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COMP_LINE", line + " and what follows the cursor")
    monkeypatch.setenv("COMP_POINT", str(len(line)))
    assert main(["-sc", "query=bash"]) == 0
    assert capsys.readouterr().out.split() == expected


def test_completion_offers_the_choices_of_a_group(
    mine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = f"effnas scale -cd {mine} -cn mine "
    for typed, expected in {"col": ["colour.", "colour="], "colour=b": ["colour=blue"], "--colour r": ["red"]}.items():
        monkeypatch.setenv("COMP_LINE", folder + typed)
        monkeypatch.delenv("COMP_POINT", raising=False)
        assert main(["-sc", "query=bash"]) == 0
        assert capsys.readouterr().out.split() == expected


def test_completion_can_be_installed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-sc", "install=bash"]) == 0
    assert capsys.readouterr().out.rstrip().endswith("-F hydra_bash_completion effnas")


# -- Hydra's own flags -------------------------------------------------------------------------------


def test_every_flag_of_hydra_is_decided_upon() -> None:
    from hydra._internal.utils import get_args_parser

    known = {flag for action in get_args_parser()._actions for flag in action.option_strings if flag[:2] == "--"}
    assert known == {*HYDRA_FLAGS, *REFUSED_FLAGS, "--help", "--version"}


@pytest.mark.parametrize(
    "typed",
    [
        "--experimental-rerun FILE",
        "--experimental-rerun=FILE",
        "--experimental_rerun FILE",
        "--phi 1 --experimental-rerun FILE",
        "--experimental FILE",
        "--exp=FILE",
        "-- --experimental-rerun FILE",
        "-- --experimental-rerun=FILE",
        "--package --experimental-rerun=FILE --cfg job",
        "--package=--experimental-rerun=FILE --cfg job",
        "--config-name --experimental-rerun=FILE",
        "--config-name=--experimental-rerun=FILE",
        "--baseline --experimental-rerun=FILE --phi 1",
        "--baseline=--experimental-rerun=FILE --phi 1",
        "experimental_rerun=FILE",
        "hydra.experimental_rerun=FILE",
        "+hydra.experimental_rerun=FILE",
    ],
)
@pytest.mark.parametrize("command", ["scale", "reproduce"])
def test_no_pickle_is_loaded(
    command: str,
    typed: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "code ran"),)

    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.pickle").write_bytes(pickle.dumps(Evil()))
    assert main([command, *typed.replace("FILE", "evil.pickle").split()]) == 2
    assert not (tmp_path / "code ran").exists()
    captured = capsys.readouterr()
    assert captured.err.startswith(f"effnas {command}: error: ")
    assert "Traceback" not in captured.err
    if typed.startswith(("--experimental-rerun", "--experimental_rerun")):
        assert "is refused: it loads a pickle, and a pickle can run any code" in captured.err


# -- running -----------------------------------------------------------------------------------------


def test_flags_and_overrides_are_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = f"hydra.run.dir={tmp_path / 'out'}"
    assert main(["scale", "--phi", "1", folder]) == 0
    flag = capsys.readouterr()
    assert main(["scale", "phi=1", folder]) == 0
    override = capsys.readouterr()
    assert flag.out == override.out != ""
    assert flag.err == ""
    assert (tmp_path / "out" / "efficientnet_b0_phi1.yaml").is_file()


def test_json_is_one_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scale", "--preset", "b0", "--json", f"hydra.run.dir={tmp_path}"]) == 0
    assert json.loads(capsys.readouterr().out)["params"] == 5_288_548
    assert main(["scale", "--family", "0..2", "--json", f"hydra.run.dir={tmp_path}"]) == 0
    assert [row["phi"] for row in json.loads(capsys.readouterr().out)] == [0, 1, 2]


def test_values_that_hydra_would_misread(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    baseline = tmp_path / "my net (v=1).yaml"
    folder = f"hydra.run.dir={tmp_path / 'a=b (c)'}"
    assert main(["scale", "--preset", "b0", folder]) == 0
    (tmp_path / "a=b (c)" / "efficientnet_b0.yaml").rename(baseline)
    typed = ["scale", "--baseline", str(baseline), "--coefficients", "1.2,1.1,1.15", "--phi", "-1", folder]
    capsys.readouterr()
    assert main(typed) == 0
    assert "_phi-1" in capsys.readouterr().out


def test_the_default_folder_is_fixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["scale", "--phi", "1"]) == 0
    assert (tmp_path / "outputs" / "scale" / "efficientnet_b0_phi1.yaml").is_file()
    assert (tmp_path / "outputs" / "scale" / ".hydra" / "config.yaml").is_file()


def test_a_sweep_has_a_folder_a_job_and_only_results_on_standard_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["scale", "-m", "--phi", "1,2", "--baseline", "efficientnet_b0"]) == 0
    captured = capsys.readouterr()
    for phi in (1, 2):
        assert (tmp_path / f"outputs/scale-sweep/phi={phi}/efficientnet_b0_phi{phi}.yaml").is_file()
        assert f"efficientnet_b0_phi{phi} " in captured.out
        assert f"phi={phi} -> " in captured.err
    assert "HYDRA" not in captured.out


@pytest.mark.parametrize(
    "values",
    [
        ["../../../../data/a", "../../../data/a"],
        ["/abs/olute", "abs/olute"],
        ["a/../../..", "a/./b"],
        ["x" * 300, "x" * 299 + "y"],
        ["é ü", "é_ü"],
        ["..", "."],
        ["*", "[a]"],
    ],
)
def test_a_job_of_a_sweep_stays_in_its_folder(
    values: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    deep = tmp_path / "a" / "b" / "c" / "d"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    seen: list[Path] = []

    @functools.wraps(run_scale)
    def keep(**options: Any) -> None:
        seen.append(Path(options["output"]).resolve())

    monkeypatch.setattr("effnas.scaling.scale.job.run_scale", keep)
    assert main(["scale", "-m", f"preset={','.join(map(repr, values))}", "-o", "sweep"]) == 0
    assert len({*seen}) == 2
    assert all(folder.parent == deep / "sweep" and len(folder.name) <= MAX_NAME for folder in seen)
    assert sorted(path.name for path in (deep / "sweep").iterdir()) == sorted(
        ["multirun.yaml", *(folder.name for folder in seen)]
    )
    outside = [path.name for path in tmp_path.rglob("*") if not path.is_relative_to(deep / "sweep")]
    assert outside == [*"abcd"]


def test_names_of_folders() -> None:
    assert name_folder("phi=1,seed=-0.5", 3) == "phi=1,seed=-0.5"
    assert name_folder("", 3) == "3"
    assert re.fullmatch(r"data.path=_a_b-[0-9a-f]{8}", name_folder("data.path=/a/b", 0))
    assert name_folder("a=/b", 0) != name_folder("a=:b", 0)


def test_a_sweep_with_json_prints_one_array(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scale", "-m", "preset=b0,b99,b1", "--json", "--quiet", "-o", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert [row and row["name"] for row in found] == ["efficientnet_b0", None, "efficientnet_b1"]
    assert "job 0" not in captured.err


@pytest.mark.parametrize("typed", ["-o DIR", "--output DIR", "--output=DIR", "output=DIR"])
def test_the_output_folder(typed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["scale", "--phi", "1", *(word.replace("DIR", "my (own) dir") for word in typed.split())]) == 0
    assert (tmp_path / "my (own) dir" / "scale.json").is_file()
    assert main(["scale", "-m", "--phi", "1,2", *(word.replace("DIR", "many") for word in typed.split())]) == 0
    assert (tmp_path / "many" / "phi=2" / "scale.json").is_file()
    assert not (tmp_path / "outputs").exists()


def test_what_is_only_printed_needs_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["scale", "--explain"]) == 0
    assert main(["scale", "explain=true", "--json", "--quiet"]) == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_quiet_reaches_every_command_that_shows_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = {"train": ["architecture=efficientnet_b0"], "ablate": [], "evaluate": []}
    for name, more in words.items():
        module, _, function = COMMANDS[name].run.rpartition(".")
        seen: list[bool] = []
        run = functools.wraps(COMMANDS[name].load_run())(lambda seen=seen, **given: seen.append(given["quiet"]))
        monkeypatch.setattr(f"effnas.{module}.{function}", run)
        assert main([name, *more, "--quiet"]) == 0
        assert seen == [True]


def test_a_sweep_runs_the_other_jobs_where_one_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["scale", "-m", "preset=b99,b1"]) == 2
    captured = capsys.readouterr()
    assert "error: preset=b99: preset: unknown 'b99'" in captured.err
    assert "efficientnet_b1 " in captured.out


def test_cfg_prints_the_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scale", "--phi", "2", "--cfg", "job"]) == 0
    assert "phi: 2.0\n" in capsys.readouterr().out


def test_arguments_and_environment_are_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["program", "word"])
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    main(["scale", "--phi", "1", f"hydra.run.dir={tmp_path}"])
    assert sys.argv == ["program", "word"]
    assert "HYDRA_FULL_ERROR" not in os.environ


def test_logging_is_as_before(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = root.level, list(root.handlers)
    assert main(["scale", "--info", "plugins"]) == 0
    assert "Installed Hydra Plugins" in capsys.readouterr().out
    assert (root.level, root.handlers) == before


# -- how it ends -------------------------------------------------------------------------------------


def _instead(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    @functools.wraps(run_scale)
    def fail(**options: object) -> None:
        raise error

    monkeypatch.setattr("effnas.scaling.scale.job.run_scale", fail)


def test_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _instead(monkeypatch, KeyboardInterrupt())
    assert main(["scale", "--phi", "1", f"hydra.run.dir={tmp_path}"]) == 130
    assert capsys.readouterr().err == "interrupted; run the same command again to continue\n"


def test_interrupted_while_it_is_imported() -> None:
    code = (
        "import builtins, sys; from effnas.cli import main\n"
        "real = builtins.__import__\n"
        "def slow(name, *rest):\n"
        "    if name.endswith(sys.argv[1]): raise KeyboardInterrupt\n"
        "    return real(name, *rest)\n"
        "builtins.__import__ = slow\n"
        "raise SystemExit(main(['scale', '--phi', '1']))"
    )
    for module in ("commandline.commands", "yaml", "hydra"):
        done = subprocess.run([sys.executable, "-c", code, module], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (130, "")
        assert done.stderr == "interrupted; run the same command again to continue\n"


def test_a_bug_shows_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _instead(monkeypatch, ZeroDivisionError("oh"))
    assert main(["scale", "--phi", "1", f"hydra.run.dir={tmp_path}"]) == 1
    captured = capsys.readouterr()
    assert "Traceback" in captured.err
    assert "ZeroDivisionError: oh" in captured.err
    assert "error:" not in captured.err


def test_full_error_shows_the_traceback_of_a_mistake_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    assert main(["scale", "--phi", "101"]) == 2
    captured = capsys.readouterr()
    assert "Traceback" in captured.err
    assert captured.err.endswith("effnas scale: error: phi must be in [-100, 100], got 101.0\n")
    assert os.environ["HYDRA_FULL_ERROR"] == "1"


def test_what_a_library_prints_stays_off_standard_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @functools.wraps(run_scale)
    def noisy(**options: Any) -> object:
        print("chatter")
        return run_scale(**options)

    monkeypatch.setattr("effnas.scaling.scale.job.run_scale", noisy)
    assert main(["scale", "--phi", "1", "--json", f"hydra.run.dir={tmp_path}"]) == 0
    captured = capsys.readouterr()
    json.loads(captured.out)
    assert "chatter" in captured.err


@pytest.mark.skipif(os.name != "posix", reason="pipes close otherwise elsewhere")
def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "from effnas.cli import main; raise SystemExit(main())", "scale", "--phi", "1"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
        assert process.wait() == 141


@pytest.mark.parametrize(
    "words", [["scale", "--phi", "1", "--explain"], ["train", "--help"], ["train", "--arch\udce9 1"]]
)
def test_a_terminal_that_lacks_a_character(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict") for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    assert main(words) == (2 if "--arch" in words[1] else 0)
    for stream in streams:
        stream.flush()
    written = b"".join(stream.buffer.getvalue() for stream in streams)  # type: ignore[attr-defined]
    assert re.search(rb"\\x[0-9a-f]{2}|\\u[0-9a-f]{4}", written)


def run_program(code: str, *typed: str, **how: Any) -> subprocess.CompletedProcess[str]:
    """The program itself, after some lines of Python."""
    code = f"import sys\nimport effnas.cli as cli\n{code}\nraise SystemExit(cli.main())"
    return subprocess.run(
        [sys.executable, "-c", code, *typed], capture_output=True, text=True, check=False, timeout=60, **how
    )


@pytest.mark.parametrize(
    ("left", "status"),
    [
        ("threading.Thread(target=time.sleep, args=(900,), name='loader').start()", 0),
        ("multiprocessing.get_context('fork').Process(target=time.sleep, args=(900,), name='loader').start()", 2),
    ],
)
def test_the_program_ends_whatever_is_left_running(left: str, status: int) -> None:
    impatient = "from effnas.commandline import process\nprocess.PATIENCE = 0.1"
    code = f"import multiprocessing, threading, time\n{impatient}\n{left}"
    done = run_program(code, "--version" if status == 0 else "--nonsense")
    assert done.returncode == status
    assert done.stdout == (f"effnas {__version__}\n" if status == 0 else "")
    assert done.stderr.endswith("not waited for any longer: loader\n")


def test_what_ends_by_itself_is_waited_for() -> None:
    code = (
        "import threading, time\n"
        "def late():\n    time.sleep(0.3)\n    print('late')\n"
        "threading.Thread(target=late).start()"
    )
    done = run_program(code, "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"effnas {__version__}\nlate\n", "")


@pytest.mark.skipif(os.name != "posix", reason="streams have no numbers elsewhere")
def test_no_file_takes_the_number_of_a_stream_that_is_closed() -> None:
    code = (
        "import os\nfor number in (0, 1, 2): os.close(number)\n"
        "sys.stdin = sys.stdout = sys.stderr = None\n"
        "cli.end_in_time = lambda status: os._exit(10 + status + os.open(os.devnull, os.O_RDONLY))"
    )
    assert run_program(code, "--version").returncode == 13


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no device that is always full")
def test_what_cannot_be_written_to_standard_error_stops_nothing() -> None:
    """A log on a full disk, say. Of standard output that is told."""
    start = [sys.executable, "-c", "import sys, effnas.cli as cli; exec(sys.argv.pop(1)); raise SystemExit(cli.main())"]
    chat = "cli._main = lambda words: print('lost', file=sys.stderr)"
    with open("/dev/full", "w") as full:
        assert subprocess.run([*start, "", "nonsense"], stderr=full).returncode == 2
        assert subprocess.run([*start, chat, "scale"], stderr=full).returncode == 0
        done = subprocess.run([*start, "", "--help"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("effnas: error: No space left on device")


def test_standard_error_of_a_reader_that_leaves_is_one() -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    stream = Unheard(open(theirs, "w"))  # noqa: SIM115
    assert stream.write("x") == 1
    with pytest.raises(BrokenPipeError, match="Broken pipe"):
        stream.flush()
    with pytest.raises(BrokenPipeError, match="Broken pipe"):
        stream.close()
