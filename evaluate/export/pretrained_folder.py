"""A folder that says which network it holds: ``config.json`` and ``weights.safetensors``, as data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from huggingface_hub import ModelHubMixin
from torch import nn

from ...space.built import BuiltNetwork
from ...space.errors import UserError
from ...space.files import write_text
from ...space.paths import as_path, is_file, is_folder
from ...space.weights.weights import load_into, read_weights, save_weights
from ...space.zoo import parse_network
from .preprocessing import Preprocessing

if TYPE_CHECKING:
    from ...space.network_spec import NetworkSpec

#: Of the file's form.
FORMAT = 1
CONFIG, WEIGHTS, CARD = "config.json", "weights.safetensors", "README.md"
#: Larger ones are none of ours.
MAX_BYTES = 20_000_000


def write_config(
    path: Path, architecture: NetworkSpec, preprocessing: Preprocessing, classes: tuple[str, ...] | None
) -> Path:
    """Write ``config.json``: the network as data, what its images need, the names of its outputs."""
    from ... import __version__

    document = {
        "effnas_export": FORMAT,
        "effnas_version": __version__,
        "architecture": architecture.to_dict(),
        "preprocessing": preprocessing.to_dict(),
        "classes": None if classes is None else list(classes),
    }
    return write_text(path, json.dumps(document, indent=2) + "\n")


def load_pretrained(folder: str | Path, network: BuiltNetwork | None = None) -> nn.Module:
    """The network in a folder that ``effnas export`` wrote, with its weights, in evaluation mode.

    It is the network itself, with four attributes more: ``architecture``, ``preprocessing``
    (:class:`~effnas.evaluate.export.preprocessing.Preprocessing`: an image to a batch of one), ``classes`` (names, or
    None) and ``card`` (the text of ``README.md``). It has the methods of ``huggingface_hub``'s mixin too:
    ``save_pretrained(folder)`` and ``push_to_hub(name)``; ``type(network).from_pretrained(folder_or_name)`` reads.

    Args:
        folder: of the export.
        network: of the user's own builder, for an export of one of its networks: no file names code to run.

    Raises:
        UserError: no such folder, not an export, one of another version, or damaged.
    """
    folder = as_path("folder", folder)
    document = _read_config(folder)
    source = str(folder / CONFIG)
    architecture = parse_network(document.get("architecture"), source, network)
    preprocessing = Preprocessing.from_dict(document.get("preprocessing", {}), source)
    classes = document.get("classes")
    if classes is not None and not (isinstance(classes, list) and all(isinstance(name, str) for name in classes)):
        raise UserError(f"{source}: classes must be a list of names or null")
    if not is_file(folder / WEIGHTS):
        raise UserError(f"{folder}: has {CONFIG} but no {WEIGHTS}: the export is not whole")
    module = architecture.module()
    load_into(module, read_weights(folder / WEIGHTS, network))
    found: Any = module.eval()
    kind: Any = type(module)
    found.__class__ = _with_hub(kind)
    found.architecture, found.preprocessing = architecture, preprocessing
    found.classes = None if classes is None else tuple(classes)
    found.card = (folder / CARD).read_text(encoding="utf-8") if is_file(folder / CARD) else ""
    return module


def _read_config(folder: Path) -> Mapping[str, Any]:
    path = folder / CONFIG
    if not is_folder(folder):
        raise UserError(f"{folder}: there is no such folder; name one that effnas export wrote")
    if not is_file(path):
        raise UserError(f"{folder}: has no {CONFIG}; name a folder that effnas export wrote")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES:,} bytes")
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({' '.join(str(error).split()):.100})") from None
    if not isinstance(document, dict) or "effnas_export" not in document:
        raise UserError(f"{path}: is not of effnas export (no 'effnas_export' in it)")
    if document["effnas_export"] != FORMAT:
        raise UserError(
            f"{path}: an export of form {document['effnas_export']!r:.20}; this version of effnas reads {FORMAT}: "
            "export the network again"
        )
    return document


class Shared(ModelHubMixin):
    """What a network gets from ``huggingface_hub``: its files are those of ``effnas export``."""

    architecture: NetworkSpec
    preprocessing: Preprocessing
    classes: tuple[str, ...] | None
    card: str

    def _save_pretrained(self, save_directory: Path) -> None:
        module: Any = self
        save_weights(
            save_directory / WEIGHTS,
            module,
            architecture=self.architecture,
            normalization=(self.preprocessing.mean, self.preprocessing.std),
            classes=self.classes,
        )
        write_config(save_directory / CONFIG, self.architecture, self.preprocessing, self.classes)
        write_text(save_directory / CARD, self.card or f"# {self.architecture.name}\n")

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **options: Any) -> Self:
        if is_folder(model_id):
            folder = Path(model_id)
        else:
            from huggingface_hub import snapshot_download

            names = ("revision", "cache_dir", "force_download", "local_files_only", "token")
            given = {name: options[name] for name in names if name in options}
            folder = Path(snapshot_download(model_id, allow_patterns=[CONFIG, WEIGHTS, CARD], **given))
        found: Any = load_pretrained(folder, options.get("network"))
        return found  # type: ignore[no-any-return]


@cache
def _with_hub(kind: Any) -> type[nn.Module]:
    """The class of a network with the mixin's methods."""
    return type(kind.__name__, (Shared, kind), {"__module__": kind.__module__})
