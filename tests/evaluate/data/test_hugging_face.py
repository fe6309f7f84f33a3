"""The fence around ``datasets``: what is needed of it is still there, and no other file needs anything undocumented."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from image_files import write_parquet, write_tar

import effnas
from effnas.evaluate.data.hugging_face import TESTED_VERSIONS, read_files

FENCE = "evaluate/data/hugging_face.py"
#: Takes the mixin of the hub, a public name.
HUB = "evaluate/export/pretrained_folder.py"


@pytest.mark.parametrize("kind", ["parquet", "tar"])
def test_what_is_undocumented_is_still_there(tmp_path: Path, kind: str) -> None:
    import datasets

    file = (write_parquet if kind == "parquet" else write_tar)(tmp_path / f"a.{kind}", [0, 1])
    try:
        for memory in (0, 1 << 20):
            assert len(read_files([file], "here", memory)) == 2
    except Exception as error:
        pytest.fail(
            f"datasets {datasets.__version__} has moved its builders or data_files ({type(error).__name__}: {error}): "
            f"mend {FENCE}, which was tested with datasets {', '.join(TESTED_VERSIONS)}",
            pytrace=False,
        )


def test_no_other_file_imports_it() -> None:
    root = Path(effnas.__file__).parent
    folders = ("space", "evaluate", "search", "scaling", "commandline")
    found = {
        str(path.relative_to(root))
        for folder in folders
        for path in (root / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
        if getattr(node, "level", 0) == 0 and name.partition(".")[0] in ("datasets", "huggingface_hub")
    }
    assert found == {FENCE, HUB}
