"""The options of a command are its function's parameters: the schema that Hydra checks, and the way back to a call.

A parameter's name, type and default are the option's; YAML repeats the default only to say what the option is.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field, make_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin, get_type_hints

from ..space.errors import UserError
from .options import CONF

if TYPE_CHECKING:
    from omegaconf import DictConfig

#: Parameters that are no options: the command line gives them itself, or leaves them.
GIVEN = ("output", "job", "command", "quiet")
#: Groups that are no parameters of the command: the configuration of the parameter of that name refers to them.
INGREDIENTS = {"evaluator": ("data", "training")}
#: Groups that change no result, and so do not identify a study.
ASIDE = ("tracker",)
_SCALARS = (bool, int, float, str)


def read_parameters(run: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The parameters that are options, by name; ``**options`` are spelled out."""
    found: dict[str, inspect.Parameter] = {}
    for parameter in inspect.signature(run, eval_str=True).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            found |= _study_options()
        else:
            found[parameter.name] = parameter
    return {name: parameter for name, parameter in found.items() if name not in GIVEN}


def _study_options() -> dict[str, inspect.Parameter]:
    from ..search.options import DEFAULTS, StudyOptions

    kinds = get_type_hints(StudyOptions)
    keyword = inspect.Parameter.KEYWORD_ONLY
    return {n: inspect.Parameter(n, keyword, default=d, annotation=kinds[n]) for n, d in DEFAULTS.items()}


def make_schema(run: Callable[..., Any]) -> type:
    """The structured config of a command: its function's parameters, their ingredients, ``quiet`` and ``json``."""
    options = read_parameters(run)
    fields: dict[str, tuple[Any, Any]] = {name: (_checked(name, p), _default(p)) for name, p in options.items()}
    fields |= {name: (Any, None) for owner in INGREDIENTS if owner in options for name in INGREDIENTS[owner]}
    fields |= {"quiet": (bool, False), "json": (bool, False)}
    return make_dataclass(run.__name__, [(name, kind, field(default=value)) for name, (kind, value) in fields.items()])


def read_arguments(run: Callable[..., Any], config: DictConfig, **own: Any) -> dict[str, Any]:
    """What the function is called with: plain data, objects made of the groups, and what it takes of :data:`GIVEN`.

    Args:
        run: the function.
        config: composed.
        own: of :data:`GIVEN`, what the command line gives itself.

    Raises:
        UserError: a group has no such file; whatever an object refuses.
    """
    taken = inspect.signature(run).parameters
    spelled = {*taken} | ({"quiet"} if any(p.kind is p.VAR_KEYWORD for p in taken.values()) else set())
    found = {name: value for name, value in own.items() if name in spelled}
    if "job" in taken:  # before the objects: what is lacking is told better as data
        found["job"] = dict(_chosen(config))
    for name, parameter in read_parameters(run).items():
        value = config[name]
        if value is None and _is_made(parameter) and parameter.default is not parameter.empty:
            continue
        found[name] = _argument(parameter, value)
    return found


def _kinds(parameter: inspect.Parameter) -> tuple[Any, ...]:
    """The members of a union, or the type itself."""
    annotation = parameter.annotation
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def _checked(name: str, parameter: inspect.Parameter) -> Any:
    """What Hydra checks: a number, string or truth value where the type allows one kind alone, else anything.

    An object is nothing that can be typed, but for the groups, whose YAML makes one.
    """
    kinds = _kinds(parameter)
    scalars = [kind for kind in kinds if kind in _SCALARS]
    if len(scalars) != 1 or any(get_origin(kind) for kind in kinds) or _is_group(name):
        return Any
    return scalars[0] | None if NoneType in kinds else scalars[0]


def _default(parameter: inspect.Parameter) -> Any:
    if parameter.default is not parameter.empty:
        return None if _is_made(parameter) else parameter.default
    return None if NoneType in _kinds(parameter) else "???"


def _is_group(name: str) -> bool:
    return (CONF / name).is_dir()


def _is_made(parameter: inspect.Parameter) -> bool:
    """Whether a mapping given for it describes an object to make."""
    return bool(_makers(parameter))


def _makers(parameter: inspect.Parameter) -> list[Any]:
    """The classes of objects that it may be, a callable being one."""
    plain = (*_SCALARS, NoneType, Path, Any)
    return [
        kind
        for kind in _kinds(parameter)
        if get_origin(kind) is Callable or (isinstance(kind, type) and kind not in plain)
    ]


def _argument(parameter: inspect.Parameter, value: Any) -> Any:
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    if not OmegaConf.is_config(value):
        if isinstance(value, str) and _is_made(parameter) and str not in _kinds(parameter):
            group, kind = parameter.name, _makers(parameter)[0]
            raise UserError(
                f"{group}: there is no {group}/{value:.100}.yaml in your --config-dir (give --config-dir DIR, and in "
                f"it {group}/NAME.yaml with `_target_: {kind.__module__}.{kind.__qualname__}`)"
            )
        return value
    if not _is_made(parameter):
        return OmegaConf.to_container(value, resolve=True)
    if "_target_" not in value and not any(get_origin(kind) is Mapping for kind in _kinds(parameter)):
        raise UserError(f"{parameter.name}: names no class; its YAML file needs `_target_: MODULE.NAME`")
    if get_origin(_makers(parameter)[0]) is Callable:
        return instantiate(value, _convert_="all", _partial_=True)
    return instantiate(value, _convert_="all")


def _chosen(config: DictConfig) -> Iterator[tuple[str, Any]]:
    """The groups of the package, as the user has set them: they identify a study beside what its job adds."""
    from omegaconf import OmegaConf
    from omegaconf.errors import InterpolationKeyError

    for name in map(str, config):
        try:
            value = config[name] if _is_group(name) and name not in ASIDE else None
            if OmegaConf.is_config(value):
                yield name, OmegaConf.to_container(value, resolve=True)
        except InterpolationKeyError as error:
            raise UserError(
                f"{error.full_key or name}: refers to an option that this command does not have "
                f"({str(error).splitlines()[0]}): set it yourself, like evaluator.space=mobile_cifar"
            ) from None
