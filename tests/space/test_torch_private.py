"""The fence around torch: what it needs is still there, and nobody else needs anything."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import effnas

FENCE = "space/torch_private.py"


@contextmanager
def in_place(names: str) -> Iterator[Any]:
    """The fence; whatever goes wrong with it is told in one sentence."""
    try:
        fence = import_module("effnas.space.torch_private")
        yield fence
    except Exception as error:
        tested = ", ".join(fence.TESTED_VERSIONS) if "fence" in locals() else "others"
        pytest.fail(
            f"torch {torch.__version__} has moved {names} ({type(error).__name__}: {error}): mend {FENCE}, which was "
            f"tested with torch {tested}",
            pytrace=False,
        )


def update_lists(fence: Any) -> None:
    a, b = [torch.full((2,), 4.0), torch.full((3,), 9.0)], [torch.ones(2), torch.ones(3)]

    def is_now(values: list[torch.Tensor], first: float, second: float) -> bool:
        return [float(v[0]) for v in values] == pytest.approx([first, second])

    assert is_now(list(fence.foreach_add(a, 1.0)), 5, 10)
    fence.foreach_sqrt_(a)
    assert is_now(a, 2, 3)
    fence.foreach_mul_(a, 2.0)
    fence.foreach_addcmul_(a, b, b, 0.5)
    assert is_now(a, 4.5, 6.5)
    fence.foreach_addcdiv_(a, b, b, 0.5)
    fence.foreach_sub_(a, b)
    assert is_now(a, 4, 6)
    fence.foreach_lerp_(a, b, 0.5)
    assert is_now(a, 2.5, 3.5)


def see_operators(fence: Any) -> None:
    class Watch(fence.OperatorWatch):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[tuple[Any, int, int]] = []

        def see(self, operator: Any, inputs: Any, result: Any) -> None:
            self.seen.append((operator, len(fence.find_tensors(inputs)), len(fence.find_tensors(result))))

    with Watch() as watch, torch.no_grad():
        nn.functional.conv2d(torch.zeros(1, 1, 3, 3, device="meta"), torch.zeros(1, 1, 3, 3, device="meta"))
    assert (torch.ops.aten.convolution, 2, 1) in watch.seen
    assert fence.find_tensors({"a": [torch.zeros(1), (1, torch.ones(1))]}) == [torch.zeros(1), torch.ones(1)]


def tell_batch_norm(fence: Any) -> None:
    assert all(map(fence.is_batch_norm, (nn.BatchNorm1d(1), nn.BatchNorm2d(1), nn.SyncBatchNorm(1))))
    assert not fence.is_batch_norm(nn.GroupNorm(1, 1))


def ask_the_cpu(fence: Any) -> None:
    assert isinstance(fence.cpu_computes_bf16(), bool)
    assert callable(torch.cpu._is_avx512_bf16_supported)
    assert callable(torch.cpu._is_amx_tile_supported)


@pytest.mark.parametrize(
    ("names", "use"),
    [
        ("torch._foreach_*", update_lists),
        ("TorchDispatchMode, OpOverload._overloadpacket or tree_leaves", see_operators),
        ("_BatchNorm", tell_batch_norm),
        ("torch.cpu._is_avx512_bf16_supported or _is_amx_tile_supported", ask_the_cpu),
    ],
)
def test_what_the_fence_needs_is_in_place(names: str, use: Callable[[Any], None]) -> None:
    with in_place(names) as fence:
        use(fence)


def test_a_release_that_moves_a_name_is_told_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("effnas.space.torch_private.find_tensors")
    with pytest.raises(pytest.fail.Exception, match=r"has moved TorchDispatchMode.*: mend space/torch_private\.py, wh"):
        test_what_the_fence_needs_is_in_place("TorchDispatchMode", see_operators)


def private_names(tree: ast.AST) -> Iterator[str]:
    """Names of torch that begin with an underscore, as an import or as an attribute of what was imported."""
    roots = {"torch"}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "torch":
            roots |= {alias.asname or alias.name for alias in node.names}
            words = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            yield from (word for word in words if word.startswith("_"))
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "torch":
                    roots.add(alias.asname or "torch")
                    yield from (word for word in alias.name.split(".") if word.startswith("_"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            root: ast.AST = node
            while isinstance(root, ast.Attribute):
                root = root.value
            if isinstance(root, ast.Name) and root.id in roots:
                yield node.attr
        if isinstance(node, ast.Attribute) and node.attr in ("_overloadpacket", "_is_amx_tile_supported"):
            yield node.attr


def test_no_other_file_uses_private_names_of_torch() -> None:
    package = Path(effnas.__file__).parent
    rooms = ("space", "evaluate", "search", "scaling", "commandline")
    files = [file for room in rooms for file in sorted((package / room).rglob("*.py"))]
    found = {
        str(file.relative_to(package)): names
        for file in files
        if (names := sorted(set(private_names(ast.parse(file.read_text(encoding="utf-8"))))))
    }
    assert set(found) == {FENCE}, f"private names of torch belong into {FENCE}: {found}"
    assert "_foreach_add" in found[FENCE]
