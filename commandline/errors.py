"""From an exception of Hydra, OmegaConf or YAML to one message for the user: the rule, the value, the choices."""

from __future__ import annotations

import inspect
import re
from typing import Any

import yaml
from hydra.errors import (
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from hydra.utils import get_object
from omegaconf import Container, DictConfig
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationResolutionError,
    MissingMandatoryValue,
    OmegaConfBaseException,
    ValidationError,
)

from ..evaluate.identity.moved import find_moved
from ..space.errors import AGAIN, UserError, explain_os_error, unknown
from .options import CONF, describe_yaml_problem

_KINDS = {"Integer": "a whole number", "Float": "a number", "Boolean": "true or false", "String": "a string"}
_CONVERT = re.compile(r"Value '(?P<value>.*)' of type '\w+' could not be converted to (?P<kind>\w+)", re.DOTALL)
_BOOL = re.compile(r"Value '(?P<value>.*)' is not a valid (?P<kind>bool)", re.DOTALL)


def explain_error(error: BaseException, *, in_job: bool) -> str | None:
    """The message for a mistake of the user's; None for anything else, which is a bug.

    Args:
        error: what was raised.
        in_job: while the command ran, where a key that a config lacks is our mistake; before that it is the user's.
    """
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, InstantiationException):
        return _instantiation(error)
    if isinstance(error, OverrideParseException):
        return f"{error.override!r} is not an option: options are --flag VALUE or key=VALUE; see --help"
    if isinstance(error, MissingConfigException):
        return _missing_config(error)
    if isinstance(error, HydraException):
        if error.__cause__ is not None and (text := explain_error(error.__cause__, in_job=in_job)) is not None:
            return text
        return _one_line(str(error)) or type(error).__name__
    if isinstance(error, OmegaConfBaseException):
        return _omegaconf(error, in_job)
    if isinstance(error, OverflowError) and (key := re.search(r"full_key: (\S+)", str(error))) and not in_job:
        return f"{key[1]} must be a number that a float holds: this one has too many digits"  # OmegaConf's own words
    if isinstance(error, OSError) and not isinstance(error, BrokenPipeError) and (error.errno or not in_job):
        return explain_os_error(error)
    if isinstance(error, yaml.YAMLError) and not in_job:
        mark = getattr(error, "problem_mark", None)
        return f"{mark.name if mark else 'a config file'}: not valid YAML: {describe_yaml_problem(error)}"
    return _lost_job(error) if type(error).__module__.startswith("submitit.") else None


def _lost_job(error: BaseException) -> str:
    """What submitit says of a job that Slurm has ended: in the job itself, or where the sweep waits for it."""
    lines = str(error).splitlines() or [type(error).__name__]
    if lines[0].startswith("Job not requeued because: "):
        why = lines[0].partition(": ")[2].rstrip(".")
        return (
            f"its time is over, and it was not put back into the queue ({why}); {AGAIN} to continue, or let it go on "
            "by itself: hydra.launcher.max_num_timeout=100"
        )
    told = " ".join(lines[:2])
    return f"a job of the sweep was lost, and the others run on: {told:.300}; {AGAIN} when they have ended"


def _missing_config(error: MissingConfigException) -> str:
    group, _, name = (error.missing_cfg_file or "").rpartition("/")
    if error.options is not None and group:
        return str(unknown(group, name, error.options))
    if extended := re.search(r"Could not load '(\w+)_job'", str(error)):
        return f"--config-name: this configuration is of another command, effnas {extended[1]}, or extends that of one"
    return _one_line(str(error))


def _omegaconf(error: OmegaConfBaseException, in_job: bool) -> str | None:
    key = error.full_key or error.key
    text = _one_line(error.msg or str(error))
    if isinstance(error, ConfigAttributeError | ConfigKeyError):
        if not in_job and not (siblings := _siblings(error.parent_node, key)):
            group, _, option = str(key).rpartition(".")
            if (top := group.rpartition(".")[2]) != group and (CONF / top).is_dir():  # as evaluator.data is ${data}
                return f"option: {group} is ${{{top}}}: write {top}.{option}=VALUE"
            chosen = group in ("hydra.launcher", "hydra.sweeper") or (CONF / group).is_dir()
            there = f"; choose another one with {group.replace('.', '/')}=NAME" if chosen else ""
            return f"option: unknown {str(key)!r}: {group} as it is chosen has no options{there}"
        return None if in_job else str(unknown("option", key, siblings))
    if isinstance(error, MissingMandatoryValue):
        return f"{key} is missing: give it with {key}=VALUE"
    if isinstance(error, InterpolationResolutionError):
        if missing := re.search(r"Missing mandatory value: (\S+)", text):
            return f"{missing[1]} is missing: give it with {missing[1]}=VALUE"
        return f"{key}: the interpolation cannot be resolved: {text}"
    if isinstance(error, ValidationError):
        match = _CONVERT.match(text) or _BOOL.match(text)
        if match is None:
            return f"{key}: {text}"
        kind = "true or false" if match["kind"] == "bool" else _KINDS.get(match["kind"], match["kind"])
        hint = "; to run one job for each value, add -m" if "," in match["value"] else ""
        return f"{key} must be {kind}, got {match['value']!r}{hint}"
    if text == "Cannot merge DictConfig with ListConfig":  # whichever is which
        text = "a list cannot take the place of a mapping, nor a mapping that of a list"
    return f"{key}: {text}" if key else text


def _siblings(node: Container | None, key: object) -> list[str]:
    """The keys at the level where ``key`` was looked for, written in full."""
    prefix = str(key).rpartition(".")[0]
    names = node.keys() if isinstance(node, DictConfig) else ()
    found = [str(name) for name in names if name != "hydra"]
    return [f"{prefix}.{name}" if prefix else name for name in found if name[:1] != "_"]


def _instantiation(error: InstantiationException) -> str | None:
    """What kept a module that a config names from being made: our own check, its arguments, or its import."""
    cause, text = error.__cause__, str(error)
    where = re.search(r"^full_key: (.+)$", text, re.MULTILINE)
    place = f"{where[1]}: " if where else ""
    if cause is None:
        return place + _one_line(text)
    if text.startswith("Error locating target"):
        target = re.search(r"'(.+?)'", text)
        name = target[1] if target else ""
        if (new := find_moved(name)) is not None:
            return f"{place}_target_: {name} is now {new}"
        reason = str(cause).splitlines()[1:2] or [str(cause)]
        return f"{place}_target_: cannot import {name!r}: {reason[0]}; a module of your own must be on PYTHONPATH"
    inner = explain_error(cause, in_job=True)
    if inner is not None:
        return inner
    if isinstance(cause, TypeError):
        return _arguments(cause, text, place)
    return None


def _arguments(cause: TypeError, text: str, place: str) -> str | None:
    """A call whose arguments do not fit, told by its signature from a TypeError inside a constructor."""
    target = re.search(r"Error in call to target '(.+?)'", text)
    extra = re.search(r"got an unexpected keyword argument '(\w+)'", str(cause))
    lacking = re.search(r"missing \d+ required .*argument", str(cause))
    if target is None or not (extra or lacking):
        return None
    try:
        names = list(inspect.signature(get_object(target[1])).parameters)
    except (HydraException, ImportError, TypeError, ValueError):
        return None
    accepted = f"it takes: {', '.join(names) or 'none'}"
    if extra:
        return None if extra[1] in names else f"{place}{target[1]} has no argument {extra[1]!r}; {accepted}"
    return f"{place}{target[1]}: {str(cause).partition('() ')[2] or cause}; {accepted}"


def _one_line(text: Any) -> str:
    lines = [line.strip() for line in str(text).splitlines()]
    return " ".join(
        line for line in lines if line and not line.startswith(("full_key:", "object_type=", "reference_type="))
    )
