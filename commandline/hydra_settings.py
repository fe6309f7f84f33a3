"""Hydra's own settings, ``hydra.KEY=VALUE``, checked where its words would help nobody; settings without effect."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from ..space.errors import UserError, check_int, show, unknown
from .arguments import Arguments
from .options import Options

#: Settings that are chosen as groups, ``hydra/launcher=joblib``.
GROUPS = ("launcher", "sweeper", "help", "hydra_help", "hydra_logging", "job_logging", "callbacks", "env", "output")
#: Settings that have settings, and one of these.
_PARTS = {"hydra.run": "dir", "hydra.sweep": "dir", "hydra.job": "name", "hydra.runtime": "cwd", "hydra.help": "header"}
_BATCH = "hydra.sweeper.max_batch_size"
_MODE = "hydra.mode"


def take_mode(arguments: Arguments) -> None:
    """``hydra.mode=MULTIRUN`` is another word for ``--multirun``, and ``hydra.mode=RUN`` for ``--run``."""
    flags = {"MULTIRUN": "--multirun", "RUN": "--run"}
    for _, value in [pair for pair in arguments.overrides if pair[0] == _MODE and pair[1] in flags]:
        arguments.hydra.setdefault(flags[str(value)])
    arguments.overrides = [pair for pair in arguments.overrides if pair[0] != _MODE or pair[1] not in flags]
    if {*flags.values()} <= arguments.hydra.keys():
        raise UserError("only one of --run, --multirun at a time, got both")


def check_setting(key: str, value: Any) -> None:
    """Refuse what Hydra cannot take on the command line.

    Args:
        key: as typed, of a setting ``hydra.…`` or a group ``hydra/…``.
        value: as the override's parser understands it.

    Raises:
        UserError: with the rule, and what to write instead.
    """
    name = key.lstrip("+~")
    group, _, rest = name.removeprefix("hydra/").removeprefix("hydra.").partition(".")
    if name.startswith("hydra/"):
        if not key.startswith("+") and group.partition("@")[0] not in GROUPS:
            raise unknown("Hydra's groups", name, [f"hydra/{one}" for one in GROUPS])
    elif name == "hydra.launcher" or name == "hydra.sweeper":
        raise UserError(f"{name} is chosen as a group: hydra/{group}=NAME; its settings are {name}.KEY=VALUE")
    elif group == "sweeper" and rest.partition(".")[0] == "params":
        raise UserError(
            "hydra.sweeper.params is read from configuration files; on the command line give the option itself its "
            "values: -m seed=0,1"
        )
    elif name in _PARTS and not isinstance(value, dict):
        raise UserError(f"{name} is set entry by entry, like {name}.{_PARTS[name]}=VALUE, got {show(value)}")
    elif name == _BATCH and isinstance(value, int):
        check_int(f"{_BATCH} (jobs at a time; null: all)", value, 1)


def check_folders(arguments: Arguments, jobs: int) -> None:
    """Refuse a name of the jobs' folders that is the same for all of them: each would overwrite the others' results.

    Raises:
        UserError: it is.
    """
    name = next((value for key, value in arguments.overrides if key.lstrip("+") == "hydra.sweep.subdir"), None)
    if jobs > 1 and name is not None and "${" not in name:
        raise UserError(
            f"hydra.sweep.subdir={name}: all {jobs} jobs would have the same folder; leave it out, or name what "
            "differs, like '${hydra.job.num}'"
        )


def list_unheeded(arguments: Arguments, options: Options, parameters: Collection[str]) -> Iterator[str]:
    """A line for each setting that has no effect here: of a sweep where there is none, or the other way round; of a
    group that only an evaluator uses, and the chosen one does not.

    Args:
        arguments: what was typed.
        options: of the command.
        parameters: of its function, by name.
    """
    used = " ".join(option.written for option in options.by_name().values())
    evaluator = next((group for group in options.groups if group.name == "evaluator" and group.whole), None)
    for name in ("data", "training"):
        typed = [key for key, _ in arguments.overrides if key.lstrip("+").partition(".")[0] == name]
        if evaluator is not None and typed and name not in parameters and f"${{{name}" not in used:
            yield f"{typed[0]} has no effect: evaluator={evaluator.choice} does not use {name}"
    multirun = "--multirun" in arguments.hydra
    if not multirun and not {"--cfg", "--info"} & arguments.hydra.keys():
        of_sweeps = ("hydra.sweep.", "hydra.launcher.", "hydra.sweeper.")
        for key, _ in arguments.overrides:
            name = key.lstrip("+~").replace("/", ".")
            if f"{name}.".startswith(of_sweeps):
                yield f"{key} has no effect without -m: one job runs in this process"
    if multirun and any(key == "hydra.run.dir" for key, _ in arguments.overrides):
        yield "hydra.run.dir has no effect with -m: the folder of the jobs' folders is -o DIR (hydra.sweep.dir)"
