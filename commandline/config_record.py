"""The configuration of a run, kept in its folder where Hydra keeps it: ``.hydra/``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..evaluate.folder import list_visible
from ..space.errors import UserError, hide_passwords
from ..space.files import write_text

if TYPE_CHECKING:
    from omegaconf import DictConfig

FOLDER = ".hydra"
#: What leaves it out, as in Hydra.
LEFT_OUT = "hydra.output_subdir=null"


@contextlib.contextmanager
def record_configuration(config: DictConfig) -> Iterator[None]:
    """Write ``config.yaml``, ``hydra.yaml`` and ``overrides.yaml`` of the run that is inside.

    Hydra writes them before the run, which may then be refused in the folder of another one: theirs must stay. Where an
    earlier run has left anything they are written when this one has ended, or was stopped; and of a run that is refused
    before it has written anything none are left.
    """
    from hydra.core.hydra_config import HydraConfig

    settings = HydraConfig.get()
    folder = Path(settings.runtime.output_dir).absolute() / FOLDER
    left_out = settings.output_subdir is not None or LEFT_OUT in settings.overrides.hydra
    texts = {} if left_out else _texts(config)  # of now: the run is told the storage's password
    first = not folder.exists() and not list_visible(folder.parent)
    if first:
        _write(folder, texts)
    try:
        yield
    except UserError:
        if first and not list_visible(folder.parent):
            _remove(folder, texts)
        raise
    except KeyboardInterrupt:
        if not first:
            _write(folder, texts)
        raise
    if not first:
        _write(folder, texts)


def _texts(config: DictConfig) -> dict[str, str]:
    """The files by name, without passwords."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    parts = {
        "config.yaml": config,
        "hydra.yaml": OmegaConf.masked_copy(HydraConfig.instance().cfg, "hydra"),  # type: ignore[arg-type]
        "overrides.yaml": HydraConfig.get().overrides.task,
    }
    address = config.get("storage")
    secrets = [address] if isinstance(address, str) else []
    return {name: hide_passwords(OmegaConf.to_yaml(part), *secrets) for name, part in parts.items()}


def _remove(folder: Path, texts: dict[str, str]) -> None:
    with contextlib.suppress(OSError):
        for name in texts:
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()


def _write(folder: Path, texts: dict[str, str]) -> None:
    for name, text in texts.items():
        write_text(folder / name, text)
