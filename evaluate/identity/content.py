"""What makes two runs the same one: the content of what they are given, as plain data.

A folder or a study that was begun with other content is refused, whether the run comes from the command line or from
Python.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import inspect
import json
import math
import os
import re
import sys
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from ...space.paths import expand_path

#: Settings that say how the work is shared out, or what is shown of it, and change no result.
FREE = ("workers", "executor", "threads", "memory_mb", "quiet")
#: Settings that name what is read: equal where they lead to the same place.
READ = ("path", "initial", "weights")
#: In a ``repr``: a place in memory, or something left out.
_INCOMPLETE = re.compile(r"\b0x[0-9a-fA-F]{6,}|\.\.\.|…")
#: Items of a list or mapping, or characters of a text, of which more are known by their digest.
_MOST = 1000
#: Bytes of a file that are read: of a larger one so many, in :data:`_PIECES` that are spread over it.
_WHOLE, _PIECES = 64 << 20, 64


def describe_content(value: Any) -> Any:
    """Plain data, equal for objects of equal content; what changes no result (:data:`FREE`) is left out.

    A path counts as the place that it leads to, however it is spelled; arrays, tensors, data frames and modules by
    their shape and a digest of all their values; sets and mappings in any order. Functions are known by their name,
    those without one of their own (``lambda``, a function in a function) by their code and what they captured.

    Any other object is known by what its method ``identity()`` returns, where it has one; else by its class and what
    its constructor was given: the fields of a dataclass (``compare=False`` and ``init=False`` left out), or the
    attributes named like the constructor's parameters. So counters and caches do not count. Where an attribute is
    lacking, by its ``repr`` if that is written out, else by what ``pickle`` would keep.
    """
    return _describe(value, ())


def describe_files(value: Any) -> dict[str, str]:
    """Digests of the files that it reads, by their names; empty where it does not say.

    An object says so by ``input_files``, paths of files or folders; folders are not looked into.
    """
    found = {}
    for path in getattr(value, "input_files", ()):
        if os.path.isfile(place := expand_path(path)):
            found[place.name] = _digest_file(place)
    return found


def _describe(value: Any, inside: tuple[int, ...]) -> Any:
    """As :func:`describe_content`; ``inside``: the ids of what it stands in, which may refer to itself."""
    if isinstance(value, float) and not math.isfinite(value):
        return repr(float(value))
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return _shorten(str(value), len(value))
    if isinstance(value, os.PathLike):
        return os.path.realpath(os.path.expanduser(value))
    if id(value) in inside:
        return "..."
    inside = (*inside, id(value))
    if isinstance(value, Mapping):
        known = {_name(key): _describe_setting(key, value[key], inside) for key in value if key not in FREE}
        return _shorten(known, len(known))
    if isinstance(value, set | frozenset):
        return _shorten(sorted((_describe(item, inside) for item in value), key=_to_text), len(value))
    if isinstance(value, list | tuple) and not _has_identity(value):
        return _shorten([_describe(item, inside) for item in value], len(value))
    try:
        return _describe_object(value, inside)
    except Exception:  # of its own code
        return {"_target_": _name_of(type(value))}


def _describe_object(value: Any, inside: tuple[int, ...]) -> Any:
    kind = type(value)
    if isinstance(value, type | types.ModuleType):
        return getattr(value, "__name__", "") if isinstance(value, types.ModuleType) else _name_of(value)
    if _has_identity(value):
        return {"_target_": _name_of(kind), "identity": _describe(value.identity(), inside)}
    if (content := _describe_values(value, inside)) is not None:
        return {"_target_": _name_of(kind), **content}
    if (function := _describe_function(value, inside)) is not None:
        return function
    if isinstance(value, enum.Enum):
        return f"{_name_of(kind)}.{value.name}"
    given = _read_arguments(value)
    if given is None:
        text = repr(value) if _has_repr(kind) else ""
        if text and not _INCOMPLETE.search(text):
            return _shorten(text, len(text))
        return {"_target_": _name_of(kind), **_describe_pickle(value, inside)}
    return {"_target_": _name_of(kind), **_describe(given, inside)}


def _has_identity(value: Any) -> bool:
    return callable(getattr(type(value), "identity", None))


def _has_repr(kind: Any) -> bool:
    return kind.__repr__ is not object.__repr__


def _name_of(kind: Any) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _name(key: Any) -> str:
    return key if isinstance(key, str) else repr(key)


def _describe_setting(name: Any, value: Any, inside: tuple[int, ...]) -> Any:
    if isinstance(value, str):
        place = os.path.expanduser(value)
        if name in READ and os.path.exists(place):
            return os.path.realpath(place)
        if value.startswith(("./", "../", "~", "/")):
            return os.path.normpath(place)
    return _describe(value, inside)


# -- objects by what they were made of -------------------------------------------------------------------


def _read_arguments(value: Any) -> dict[str, Any] | None:
    """What its constructor was given, as far as it is kept by those names; None: something is not."""
    kind = type(value)
    if is_dataclass(kind):
        return {field.name: getattr(value, field.name) for field in fields(kind) if field.init and field.compare}
    try:
        parameters = inspect.signature(kind).parameters
    except (TypeError, ValueError):
        return None
    if not parameters and _has_repr(kind):
        return None
    found = {}
    for name in parameters:
        keeper = next((own for own in (name, f"_{name}") if hasattr(value, own)), None)
        if keeper is None:
            return None
        found[name] = getattr(value, keeper)
    return found


def _describe_function(value: Any, inside: tuple[int, ...]) -> Any:
    """A function, a method or a partial; None: it is none."""
    if isinstance(value, functools.partial):
        parts = {"func": value.func, "args": value.args, "keywords": value.keywords}
        return {"_target_": "functools.partial", **_describe(parts, inside)}
    if isinstance(value, types.MethodType):
        return {"method": value.__func__.__qualname__, "of": _describe(value.__self__, inside)}
    if isinstance(value, types.FunctionType) and "<" in value.__qualname__:
        cells = [cell.cell_contents for cell in value.__closure__ or () if cell != types.CellType()]
        captured = [cells, value.__defaults__, value.__kwdefaults__]
        return {"function": _name_of(value), "code": _digest_code(value.__code__), "with": _describe(captured, inside)}
    return _name_of(value) if callable(value) and hasattr(value, "__qualname__") else None


def _digest_code(code: types.CodeType) -> str:
    parts = [code.co_code, repr(code.co_names).encode(), repr(code.co_varnames).encode()]
    for constant in code.co_consts:
        parts.append(_digest_code(constant).encode() if isinstance(constant, types.CodeType) else _text_of(constant))
    return _digest(b"\0".join(parts))


def _text_of(constant: Any) -> bytes:
    shown = sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant
    return repr(shown).encode(errors="surrogatepass")


def _describe_pickle(value: Any, inside: tuple[int, ...]) -> dict[str, Any]:
    """What ``pickle`` would keep of it, without what ``cached_property`` has kept."""
    reduced = value.__reduce_ex__(4)
    if isinstance(reduced, str):
        return {"name": reduced}
    make, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
    if isinstance(state, Mapping):
        lazy = functools.cached_property
        state = {name: kept for name, kept in state.items() if not isinstance(getattr(type(value), name, None), lazy)}
    parts = [getattr(make, "__qualname__", ""), arguments, state, list(items or ()), list(pairs or ())]
    return {"content": _describe(parts, inside)}


# -- many values by their digest -------------------------------------------------------------------------


def _describe_values(value: Any, inside: tuple[int, ...]) -> dict[str, Any] | None:
    """An array, a tensor, a data frame or a module: its form, and a digest of its values; None: it is none of these."""
    if (np := sys.modules.get("numpy")) is not None:
        if isinstance(value, np.generic):
            return {"value": repr(value.item())}
        if isinstance(value, np.ndarray):
            return _describe_array(np, value, inside)
    if (torch := sys.modules.get("torch")) is not None:
        if isinstance(value, torch.Tensor):
            plain = value.detach().cpu()
            plain = plain.to_dense() if plain.layout != torch.strided else plain
            plain = plain.dequantize() if plain.is_quantized else plain
            bits = plain.resolve_conj().contiguous().reshape(-1).view(torch.uint8).numpy()
            return {"shape": list(value.shape), "dtype": str(value.dtype), "content": _digest(bits.tobytes())}
        if isinstance(value, torch.nn.Module):
            return {"module": _shorten(text := repr(value), len(text)), "state": _describe(value.state_dict(), inside)}
    if (pandas := sys.modules.get("pandas")) is not None:
        if isinstance(value, pandas.DataFrame):
            columns = [[_name(name), _describe(column, inside)] for name, column in value.items()]
            return {"columns": columns, "index": _describe(value.index, inside)}
        if isinstance(value, pandas.Series | pandas.Index):
            index = _describe(value.index, inside) if isinstance(value, pandas.Series) else None
            return {"dtype": str(value.dtype), "content": _describe(value.to_numpy(), inside), "index": index}
    return None


def _describe_array(np: Any, array: Any, inside: tuple[int, ...]) -> dict[str, Any]:
    form = {"shape": list(array.shape), "dtype": str(array.dtype)}
    if isinstance(array, np.ma.MaskedArray):
        form["mask"] = _digest(np.ascontiguousarray(np.ma.getmaskarray(array)).tobytes())
        array = array.filled()
    if array.dtype.hasobject:
        return {**form, "content": _describe(array.ravel().tolist(), inside)}
    return {**form, "content": _digest(np.ascontiguousarray(array).tobytes())}


def _shorten(plain: Any, size: int) -> Any:
    if size <= _MOST:
        return plain
    return {"size": size, "content": _digest(_to_text(plain).encode("utf-8", "surrogatepass"))}


def _to_text(plain: Any) -> str:
    return json.dumps(plain, sort_keys=True, ensure_ascii=False)


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()


@functools.lru_cache(maxsize=64)
def _digest_piecewise(path: str, size: int, changed: int) -> str:
    total = hashlib.blake2b(str(size).encode(), digest_size=8)
    with open(path, "rb") as file:
        if size <= _WHOLE:
            total.update(file.read())
        else:
            for piece in range(_PIECES):
                file.seek((size - _WHOLE // _PIECES) * piece // (_PIECES - 1))
                total.update(file.read(_WHOLE // _PIECES))
    return total.hexdigest()


def _digest_file(path: Path) -> str:
    facts = path.stat()
    return _digest_piecewise(os.path.realpath(path), facts.st_size, facts.st_mtime_ns)
