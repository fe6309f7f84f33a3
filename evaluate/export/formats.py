"""The formats: a row each, with the file it is, what writes it and what runs it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from torch import Tensor, nn

from ...space.built import find_built
from ...space.errors import EXHAUSTED, UserError, unknown
from ..arguments import as_list
from .subject import Subject
from .writers import (
    executorch_program,
    litert_model,
    onnx_graph,
    openvino_model,
    python_source,
    safetensors_file,
    timm_folder,
    torch_program,
    torchscript,
)

#: Images as the network takes them to all that the exported network gives, the logits last.
Run = Callable[[Tensor], Sequence[Tensor]]

#: Operators of torch in messages of its exporters, and the place of code that has none.
_OPERATOR = re.compile(r"\b((?:aten|prims|torchvision|quantized|\w+_ops)(?:::|\.)\w+)")
_PLACE = re.compile(r"Caused by: \((?!_export/)(.+?)\)")


@dataclass(frozen=True)
class Format:
    """One row.

    Args:
        name: as ``to`` has it.
        file: or folder, inside the export's.
        write: writes it.
        open: reads it and returns what runs it: a module whose layers have the network's names, or a function. It is
            given the number of threads, None being the runtime's own.
        needs: packages beside the core ones.
        any_network: whether networks of builders have it too.
        extra: of an installation, that brings the packages.
        most: images at once; None: any number.
        any_size: whether its graphs may take images of any size.
    """

    name: str
    file: str
    write: Callable[[Subject, Path], None]
    open: Callable[[Subject, Path, int | None], nn.Module | Run]
    needs: tuple[str, ...] = ()
    any_network: bool = True
    extra: str = "export"
    most: int | None = None
    any_size: bool = True


#: By name; ``safetensors`` is in every export.
FORMATS = {
    row.name: row
    for row in (
        Format("safetensors", "weights.safetensors", safetensors_file.write, safetensors_file.read),
        Format("python", "network.py", python_source.write, python_source.read, any_network=False),
        Format("timm", "timm", timm_folder.write, timm_folder.read, any_network=False),
        Format("torchscript", "model.torchscript.pt", torchscript.write, torchscript.read),
        Format("torch_export", "model.pt2", torch_program.write, torch_program.read),
        Format("onnx", "model.onnx", onnx_graph.write, onnx_graph.read, ("onnx", "onnxscript", "onnxruntime")),
        Format("openvino", "openvino", openvino_model.write, openvino_model.read, ("openvino",)),
        Format(
            "executorch",
            "model.pte",
            executorch_program.write,
            executorch_program.read,
            ("executorch",),
            extra="executorch",
            most=executorch_program.MOST,
            any_size=False,
        ),
        Format(
            "litert",
            "model.tflite",
            litert_model.write,
            litert_model.read,
            ("litert_torch", "ai_edge_litert"),
            extra="litert",
            most=1,
            any_size=False,
        ),
    )
}


def find_formats(to: Sequence[str] | str, subject_is_built: object = None, any_size: bool = False) -> list[Format]:
    """The rows of these names, ``safetensors`` first, each once.

    Args:
        to: names.
        subject_is_built: the network, where it is a builder's.
        any_size: whether the graphs are to take images of any size.

    Raises:
        UserError: no such format, one whose packages are not installed, or one that the network cannot have, or not so.
    """
    names = ["safetensors", *(str(name) for name in as_list(to))]
    found = []
    for name in dict.fromkeys(names):
        if name not in FORMATS:
            raise unknown("to", name, FORMATS)
        row = FORMATS[name]
        check_installed(f"to={name}", row.needs, row.extra)
        built = find_built(subject_is_built)
        if built is not None and not row.any_network:
            raise UserError(
                f"to={name} writes the code of networks that are Architectures; {built.name} is made by the builder "
                f"{built.code}, whose code is its own: choose another format"
            )
        if any_size and not row.any_size:
            can = ", ".join(one.name for one in FORMATS.values() if one.any_size)
            raise UserError(
                f"resize_inside=true: {name} plans its memory for one size of images, and cannot take any: "
                f"choose among {can}, or preprocess_inside=true"
            )
        found.append(row)
    return found


def check_installed(what: str, packages: Sequence[str], extra: str = "export") -> None:
    """Refuse what needs packages that are not installed; ``extra`` brings them.

    Raises:
        UserError: some are not.
    """
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        is_or_are = "is" if len(missing) == 1 else "are"
        raise UserError(
            f"{what} needs {', '.join(missing)}, which {is_or_are} not installed: pip install 'effnas[{extra}]'"
        )


def write_format(row: Format, subject: Subject, folder: Path) -> None:
    """Write one.

    Raises:
        UserError: its exporter cannot; the message names the operator where the exporter does.
        OSError: the disk is full, which is not the network's fault.
    """
    try:
        row.write(subject, folder / row.file)
    except UserError:
        raise
    except MemoryError:
        raise
    except Exception as error:  # of an exporter, or of the network's own code while it is traced
        full = [one for one in _causes(error) if isinstance(one, OSError) and one.errno in EXHAUSTED]
        if full:
            raise full[0] from None
        what = f"{subject.architecture.name} cannot be exported{_find_operator(error)}"
        raise UserError(f"to={row.name}: {what}: {_first_line(error)}") from error


def _find_operator(error: BaseException) -> str:
    """The operator, or else the line of code, that an exporter's message names, in it or in what it came from."""
    texts = [str(one) for one in _causes(error)]
    for pattern, words in ((_OPERATOR, "because of the operator"), (_PLACE, "because of what is done at")):
        for text in reversed(texts):
            if found := pattern.search(text):
                return f", {words} {found[1]}"
    return ""


def _causes(error: BaseException) -> list[BaseException]:
    """The error, what it came from, and so on."""
    found: list[BaseException] = [error]
    while len(found) < 10 and (cause := found[-1].__cause__ or found[-1].__context__) is not None:
        found.append(cause)
    return found


def _first_line(error: BaseException) -> str:
    """Of the message that says most: an exporter's own only says how far it came."""
    told = next((one for one in reversed(_causes(error)) if str(one).strip()), error)
    lines = [line.strip() for line in re.sub(r"\x1b\[[0-9;]*m", "", str(told)).splitlines() if line.strip()]
    return f"{type(told).__name__}: {lines[0]:.200}" if lines else type(told).__name__
