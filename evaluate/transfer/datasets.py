"""The data sets of ``effnas transfer``, by name: choices of the group ``data`` and what the user changes or adds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ...space.errors import UserError, unknown
from ..data.labelled_images import LabelledImages


def make_named_data(names: Sequence[str], settings: Mapping[str, Any]) -> dict[str, LabelledImages]:
    """The data set of each name.

    Args:
        names: in the order of the table.
        settings: by name. With a ``_target_`` they are all there is (``+data@data.pets=folder`` puts them there);
            without, they are laid over the choice of that name in the group ``data``, of the package or, in a job of
            Hydra's, the user's ``--config-dir``.

    Raises:
        UserError: there is no such name or setting, or :class:`~effnas.evaluate.data.ImageData` refuses a
            value.
    """
    with _group_choices() as choices:
        if not names:
            raise UserError(f"datasets: none given; choose one or more of: {', '.join(choices)}")
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise UserError(
                f"datasets: {twice!r} appears twice; give one of them another name: +data@data.NAME={twice}"
            )
        for name in settings:
            if name not in names and name not in choices and not _complete(settings[name]):
                raise unknown("data", name, names)
        return {name: _data(name, settings.get(name) or {}, choices) for name in names}


@contextmanager
def _group_choices() -> Iterator[list[str]]:
    """The choices of the group ``data``: in a job of Hydra's those of its search path, else the package's."""
    from hydra import initialize_config_module
    from hydra.core.global_hydra import GlobalHydra

    hydra = GlobalHydra.instance()
    if hydra.is_initialized():
        yield hydra.config_loader().get_group_options("data")
        return
    with initialize_config_module("effnas.conf", version_base="1.3"):
        yield GlobalHydra.instance().config_loader().get_group_options("data")


def _complete(settings: Any) -> bool:
    return isinstance(settings, Mapping) and "_target_" in settings


def _data(name: str, settings: Any, choices: Sequence[str]) -> LabelledImages:
    from hydra import compose
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    if not isinstance(settings, Mapping):
        raise UserError(f"data.{name} must map settings to values, like data.{name}.limit=2000, got {settings!r}")
    if not _complete(settings):
        if name not in choices:
            raise unknown("datasets", name, choices)
        composed: Any = OmegaConf.to_container(compose(f"data/{name}").data, resolve=True)
        for key in settings:
            if key not in composed:
                raise unknown(f"data.{name}", key, [key for key in composed if not key.startswith("_")])
        settings = composed | dict(settings)
    try:
        made = instantiate(settings, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, UserError):
            raise UserError(f"data set {name}: {error.__cause__}") from error
        raise
    if not isinstance(made, LabelledImages):
        raise UserError(f"data set {name}: {settings['_target_']} does not make an ImageData")
    return made
