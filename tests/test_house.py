"""The laws of the house, checked on its source: rooms, imports, files, configurations, and how errors are tested."""

from __future__ import annotations

import ast
import configparser
import fnmatch
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import yaml
from hydra.utils import instantiate
from omegaconf import OmegaConf

from effnas.cli import main
from effnas.commandline.commands import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "conf"
#: Each may import those before it; ``conf`` has no code, and what is on top may import all.
ROOMS = ("space", "report", "evaluate", "search", "scaling")
ON_TOP = ("commandline", "cli", "__main__", "__init__")

#: Of a file, of a folder, and of the package: branches on the kind of network.
LINES, FILES, BRANCHES = 300, 20, 10
#: Bytes of a tracked file: a larger one has been written by a command, and slipped in.
LARGEST = 500_000

#: Where torch may be loaded by an import; everything else starts without it.
TORCH = (
    *("space/blocks.py", "space/network.py", "space/torch_private.py", "space/builders/*", "space/weights/*"),
    *("evaluate/data/*", "evaluate/machine/*", "evaluate/train/*", "evaluate/measure/*", "evaluate/cam/*"),
    *(
        "evaluate/compare/*",
        "evaluate/compress/*",
        "evaluate/profile/job.py",
        "evaluate/export/*",
        "evaluate/export/writers/*",
        "evaluate/latency/measuring.py",
        "evaluate/supernet/*",
        "evaluate/transfer/*",
        "evaluate/pretrained.py",
        "evaluate/proxy.py",
    ),
    *(
        f"evaluate/zero_cost/{name}.py"
        for name in ("az_nas", "conditions", "gradients", "naswot", "synflow", "zen_score")
    ),
    *(f"search/algorithms/{name}.py" for name in ("decision_policy", "infeasible", "reinforce")),
    "search/algorithms/predicting/gaussian.py",
    "scaling/ablate/job.py",
)

#: Where names that a library keeps to itself may be used, few files a library.
FENCES = {
    "optuna": "search/optuna_private.py",
    "optuna's tables": "search/sharing/tables_private.py",
    "their rows": "search/sharing/rows_private.py",
    "its tables in MySQL": "search/sharing/mysql_private.py",
    "torch": "space/torch_private.py",
    "nni": "search/algorithms/nni_library.py",
    "datasets": "evaluate/data/hugging_face.py",
}


# -- the source ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Import:
    """Of a file of the package, by another one; ``typing`` where only a type checker follows it."""

    line: int
    target: Path
    name: str
    typing: bool


@cache
def package_files() -> tuple[Path, ...]:
    """Of the package, relative to the root: tests, benchmarks and what stands in hidden folders are none."""
    folders = sorted(file.parent for file in ROOT.glob("*/__init__.py"))
    return tuple(
        file.relative_to(ROOT)
        for file in (*sorted(ROOT.glob("*.py")), *(f for folder in folders for f in sorted(folder.rglob("*.py"))))
    )


@cache
def source(file: Path) -> ast.Module:
    return ast.parse((ROOT / file).read_text(encoding="utf-8"), str(file))


def module_of(file: Path) -> tuple[str, ...]:
    return file.parent.parts if file.name == "__init__.py" else file.with_suffix("").parts


def room(file: Path) -> str:
    return module_of(file)[0] if module_of(file) else "__init__"


def level(file: Path) -> int:
    return ROOMS.index(room(file)) if room(file) in ROOMS else len(ROOMS)


def typing_only(tree: ast.Module) -> set[ast.AST]:
    """The statements under ``if TYPE_CHECKING``."""
    blocks = (node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
    return {inner for block in blocks for statement in block.body for inner in ast.walk(statement)}


@cache
def imports(file: Path) -> tuple[Import, ...]:
    """All relative ones, those inside functions too."""
    by_module = {module_of(other): other for other in package_files()}
    package = file.parent.parts
    hidden = typing_only(source(file))
    found = []
    for node in ast.walk(source(file)):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = package[: len(package) - node.level + 1] + tuple(node.module.split(".") if node.module else ())
        for alias in node.names:
            target = by_module.get((*base, alias.name)) or by_module.get(base)
            assert target is not None, f"{file}:{node.lineno} imports what is not there: {ast.unparse(node)}"
            if target != file:
                found.append(Import(node.lineno, target, alias.name, node in hidden))
    return tuple(found)


def listed(found: Iterable[str]) -> str:
    return "\n" + "\n".join(sorted(found))


# -- rooms and imports -----------------------------------------------------------------------------------


def test_the_rooms_are_those_of_the_plan() -> None:
    assert {file.parts[0] for file in package_files() if len(file.parts) > 1} == {*ROOMS, "commandline", "conf"}
    assert {file.stem for file in package_files() if len(file.parts) == 1} <= set(ON_TOP)


def test_imports_point_only_down() -> None:
    up = [
        f"{file}:{one.line} imports {one.target}"
        for file in package_files()
        for one in imports(file)
        if level(one.target) > level(file) and one.name != "__version__"  # the root says which version it is
    ]
    assert not up, listed(up)


def test_no_file_imports_itself_by_way_of_others() -> None:
    arrows = {file: sorted({one.target for one in imports(file) if not one.typing}) for file in package_files()}
    done: set[Path] = set()

    def circle(file: Path, way: tuple[Path, ...]) -> tuple[Path, ...]:
        if file in way:
            return (*way[way.index(file) :], file)
        if file in done:
            return ()
        for target in arrows[file]:
            if found := circle(target, (*way, file)):
                return found
        done.add(file)
        return ()

    circles = {frozenset(found): " → ".join(map(str, found)) for file in arrows if (found := circle(file, ()))}
    assert not circles, listed(circles.values())


def test_imports_inside_the_package_are_relative() -> None:
    absolute = []
    for file in package_files():
        for node in ast.walk(source(file)):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            absolute += [f"{file}:{node.lineno}" for name in names if name.split(".")[0] in ("effnas", *ROOMS)]
    assert not absolute, listed(absolute)


def test_torch_stays_out_of_what_starts_without_it() -> None:
    light = [
        ".".join(("effnas", *module_of(file)))
        for file in package_files()
        if file.name == "__init__.py" or not any(fnmatch.fnmatch(str(file), pattern) for pattern in TORCH)
    ]
    light.remove("effnas.__main__")  # runs the command line
    code = (
        "import sys\nfrom importlib import import_module\n"
        f"for name in {light}:\n"
        "    import_module(name)\n"
        "    if 'torch' in sys.modules:\n"
        "        raise SystemExit(f'{name} imports torch')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# -- files and folders -----------------------------------------------------------------------------------


def test_setup_lists_every_package_and_every_file_that_is_not_python() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    folders = {file.parent for file in package_files() if file.name == "__init__.py"}
    names = {".".join(("effnas", *folder.parts)): folder for folder in folders}
    assert sorted(setup["options"]["packages"].split()) == sorted(names)
    shipped = {
        file.relative_to(ROOT)
        for name, patterns in setup["options.package_data"].items()
        for pattern in patterns.split(",")
        for file in (ROOT / names[name]).glob(pattern.strip())
    }
    others = {
        file.relative_to(ROOT)
        for folder in folders - {Path()}
        for file in (ROOT / folder.parts[0]).rglob("*")
        if file.is_file() and file.suffix not in (".py", ".pyc")
    }
    assert shipped == {Path("py.typed"), *others}


def test_files_say_their_subject() -> None:
    assert [str(file) for file in package_files() if file.stem in ("utils", "util", "helpers", "common", "misc")] == []


def test_files_are_short_and_folders_small() -> None:
    lengths = {str(file): len((ROOT / file).read_text(encoding="utf-8").splitlines()) for file in package_files()}
    assert {file for file, lines in lengths.items() if lines > LINES} == set()
    folders = [file.parent for file in package_files()]
    assert {str(folder) for folder in folders if folders.count(folder) > FILES} == set()


# -- what code may do ------------------------------------------------------------------------------------


def test_no_large_file_slipped_in() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("no clone of the repository")
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    assert files
    assert [str(f.relative_to(ROOT)) for f in files if f.is_file() and f.stat().st_size > LARGEST] == []


def test_few_places_ask_which_kind_of_network_they_hold() -> None:
    branches = [
        f"{file}:{node.lineno}"
        for file in package_files()
        for node in ast.walk(source(file))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "isinstance"
        and any(name in ast.unparse(node.args[1]) for name in ("BuiltNetwork", "Architecture"))
    ]
    assert len(branches) <= BRANCHES, listed(branches)


def private(name: str) -> bool:
    """As Python says it; ``datasets`` calls what it keeps to itself otherwise."""
    return (name.startswith("_") and not name.startswith("__")) or name == "packaged_modules"


@cache
def own_names(file: Path) -> frozenset[str]:
    """What a file gives such names, and what is public in spite of its name."""
    found = {"_replace", "_exit"}
    for node in ast.walk(source(file)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.id if isinstance(node, ast.Name) else node.attr)
    return frozenset(found)


def foreign(file: Path) -> Iterator[str]:
    """Uses of names that another library keeps to itself; what an object inherits from ours is its own."""
    inherited = frozenset[str]().union(*map(own_names, package_files()))
    for node in ast.walk(source(file)):
        names: list[str] = []
        if isinstance(node, ast.Attribute):
            own = inherited if ast.unparse(node.value) in ("self", "super()") else own_names(file)
            names = [] if node.attr in own else [node.attr]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [part for alias in node.names for part in alias.name.split(".")]
        if any(map(private, names)):
            yield f"{file}:{node.lineno} {ast.unparse(node)}"  # type: ignore[attr-defined]


def test_private_names_of_libraries_stay_behind_their_fences() -> None:
    outside = [use for file in package_files() if str(file) not in FENCES.values() for use in foreign(file)]
    assert not outside, listed(outside)
    assert all(any(foreign(Path(file))) for file in FENCES.values())  # or it is none


# -- configurations --------------------------------------------------------------------------------------


def groups(config: str) -> list[str]:
    """The groups in the defaults list of a command's configuration."""
    defaults = yaml.safe_load((CONF / f"{config}.yaml").read_text(encoding="utf-8"))["defaults"]
    return [name for entry in defaults if isinstance(entry, dict) for name in entry if (CONF / name).is_dir()]


CHOICES = [
    (command, group, file.stem)
    for command in COMMANDS
    for group in groups(COMMANDS[command].config)
    for file in sorted((CONF / group).glob("*.yaml"))
]


def test_every_folder_of_configurations_belongs_to_a_command() -> None:
    assert {path.name for path in CONF.iterdir() if path.is_dir()} == {group for _, group, _ in CHOICES}
    assert {path.stem for path in CONF.glob("*.yaml")} == {command.config for command in COMMANDS.values()}


#: What a choice cannot do without; in the folder of real data where it is not made up.
NEEDS = {
    "cifar10": "data.path={data}/cifar10",
    "folder": "data.path={folder}",
    "hub": "data.path=uoft-cs/cifar10",
    "parquet": "data.path={data}/imagenet_sample",
    "webdataset": "data.path={folder}",
    "accel_nasbench": "evaluator.path={data}/accel_nasbench",
    "supernet": "evaluator.space=tiny",
    "tabular": "evaluator.path={folder}/table.csv evaluator.space=tiny",
    "zero_cost": "evaluator.space=tiny",
}


@pytest.mark.parametrize(("command", "group", "choice"), CHOICES)
def test_every_configuration_composes_and_builds(
    command: str,
    group: str,
    choice: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    if choice.startswith("nni_"):
        pytest.importorskip("nni")
    if group == "tracker" and choice != "none":
        pytest.importorskip(choice, reason=f"needs the extra {choice}")
    need = NEEDS.get(choice, "") if group in ("data", "evaluator") else ""
    if "{data}" in need:
        need = need.format(data=request.getfixturevalue("shared_data"))
    need = need.format(folder=tmp_path)
    assert main([command, f"{group}={choice}", *need.split(), "--cfg", "job"]) == 0
    config = OmegaConf.create(capsys.readouterr().out)
    made = instantiate(config[group], _partial_=group == "algorithm", _convert_="all")
    if choice != "none":  # of the pruners
        assert type(made(seed=0) if group == "algorithm" else made).__module__ != "builtins"


# -- how errors are tested -------------------------------------------------------------------------------


def test_every_test_of_an_error_matches_its_text() -> None:
    """Ctrl-C has none."""
    silent = []
    for file in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("pytest.raises", "pytest.warns"):
                ctrl_c = ast.unparse(node.args[0]) == "KeyboardInterrupt"
                if not ctrl_c and not any(keyword.arg == "match" for keyword in node.keywords):
                    silent.append(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert not silent, listed(silent)
