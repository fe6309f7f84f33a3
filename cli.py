"""The command line, ``effnas COMMAND [--flag value ...] [key=value ...]``: one function per command.

Standard output carries the result and nothing else; progress, warnings and errors go to standard error. Exit status: 0;
2 for a mistake of the user's, told in one message; 130 after Ctrl-C; 1 for a bug, with its traceback.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .commandline.arguments import parse, scan, to_hydra
from .commandline.help import command_help, overview
from .commandline.options import CONF, Options, Positional, read_options
from .space.errors import UserError, unknown

if TYPE_CHECKING:
    from omegaconf import DictConfig


def _search(cfg: DictConfig, output: Path, command: str) -> str:
    from .search.job import run_search_job
    from .search.report import summary_text

    summary = run_search_job(cfg, output, command)
    return json.dumps(summary, indent=2) if cfg.json else summary_text(summary)


def _search_schema() -> type:
    from .search.job import SearchJob

    return SearchJob


def _grid(cfg: DictConfig, output: Path, command: str) -> str:
    from .scaling.grid.job import run_grid_job
    from .scaling.grid.report import summary_text

    summary = run_grid_job(cfg, output, command)
    return json.dumps(summary, indent=2) if cfg.json else summary_text(summary)


def _grid_schema() -> type:
    from .scaling.grid.job import GridJob

    return GridJob


def _train(cfg: DictConfig, output: Path, command: str) -> str:
    from .evaluate.train.job import run_train_job
    from .evaluate.train.report import summary_text

    summary = run_train_job(cfg, output, command)
    if not summary:  # one of torchrun's processes, but not the first
        return ""
    return json.dumps(summary, indent=2) if cfg.json else summary_text(summary)


def _train_schema() -> type:
    from .evaluate.train.job import TrainJob

    return TrainJob


def _evaluate(cfg: DictConfig, output: Path, command: str) -> str:
    from .evaluate.measure.job import run_evaluate_job
    from .evaluate.measure.report import summary_text

    summary = run_evaluate_job(cfg, output, command)
    return json.dumps(summary, indent=2) if cfg.json else summary_text(summary)


def _evaluate_schema() -> type:
    from .evaluate.measure.job import EvaluateJob

    return EvaluateJob


def _scale(cfg: DictConfig, output: Path, command: str) -> str:
    from omegaconf import OmegaConf

    from .scaling.scale.job import ScaleJob, render, run_scale
    from .space.built import configured_network

    job = OmegaConf.to_object(cfg)
    if not isinstance(job, ScaleJob):  # a primary config of the user's
        raise UserError("the configuration of effnas scale begins with the defaults [scale_job, _self_]")
    job.network = configured_network(cfg.network)
    return render(job, run_scale(job, output))


def _scale_schema() -> type:
    from .scaling.scale.job import ScaleJob

    return ScaleJob


def _cam(cfg: DictConfig, output: Path, command: str) -> str:
    from .evaluate.cam.job import run_cam_job
    from .evaluate.cam.report import summary_text

    summary = run_cam_job(cfg, output, command)
    return json.dumps(summary, indent=2) if cfg.json else summary_text(summary)


def _cam_schema() -> type:
    from .evaluate.cam.job import CamJob

    return CamJob


def _reproduce(cfg: DictConfig, output: Path, command: str) -> str:
    from omegaconf import OmegaConf

    from .scaling.reproduce.job import ReproduceJob, render, run_reproduce

    job = OmegaConf.to_object(cfg)
    if not isinstance(job, ReproduceJob):  # a primary config of the user's
        raise UserError("the configuration of effnas reproduce begins with the defaults [reproduce_job, _self_]")
    return render(job, run_reproduce(job, output))


def _reproduce_schema() -> type:
    from .scaling.reproduce.job import ReproduceJob

    return ReproduceJob


def _compare(cfg: DictConfig, output: Path, command: str) -> str:
    from .evaluate.compare.job import run_compare_job
    from .evaluate.compare.report import summary_text

    summary = run_compare_job(cfg, output, command)
    return json.dumps(summary, indent=2) if cfg.json else summary_text(summary)


def _compare_schema() -> type:
    from .evaluate.compare.job import CompareJob

    return CompareJob


def _transfer(cfg: DictConfig, output: Path, command: str) -> str:
    from .evaluate.transfer.job import run_transfer_job
    from .evaluate.transfer.report import summary_text

    summary = run_transfer_job(cfg, output, command)
    return json.dumps(summary, indent=2) if cfg.json else summary_text(summary)


def _transfer_schema() -> type:
    from .evaluate.transfer.job import TransferJob

    return TransferJob


def _ablate(cfg: DictConfig, output: Path, command: str) -> str:
    from .scaling.ablate.job import run_ablate_job
    from .scaling.ablate.report import summary_text

    summary = run_ablate_job(cfg, output, command)
    return json.dumps(summary, indent=2) if cfg.json else summary_text(summary)


def _ablate_schema() -> type:
    from .scaling.ablate.job import AblateJob

    return AblateJob


@dataclass(frozen=True)
class _Command:
    """``run`` returns what goes to standard output; ``schema`` is the structured config, stored as ``CONFIG_job``."""

    config: str
    summary: str
    run: Callable[[DictConfig, Path, str], str]
    schema: Callable[[], type]
    examples: tuple[str, ...]
    positional: Positional | None = None


COMMANDS = {
    "search": _Command(
        "search",
        "search a space for a baseline network",
        _search,
        _search_schema,
        (
            "effnas search",
            "effnas search --space mobile_cifar --data cifar10 --data.path ../shared/data/cifar10 --workers 2",
            "effnas search algorithm=random trials=100 hydra.run.dir=outputs/random",
            "effnas search -m objective.w=-0.05,-0.07 seed=0,1",
        ),
    ),
    "grid-alpha-beta-gamma": _Command(
        "grid",
        "find how depth, width and resolution should grow together",
        _grid,
        _grid_schema,
        (
            "effnas grid-alpha-beta-gamma --baseline outputs/search/baseline.yaml",
            "effnas grid-alpha-beta-gamma --seeds 3 --workers 2",
        ),
    ),
    "train": _Command(
        "train",
        "train one network, from scratch or from pretrained weights",
        _train,
        _train_schema,
        (
            "effnas train --architecture outputs/search/baseline.yaml",
            "effnas train --architecture efficientnet_lite0 --weights lite0.pth --training finetune --data folder"
            " --data.path photos",
            "effnas train -m training=paper,modern seed=0,1,2 architecture=baseline.yaml",
            "torchrun --nproc-per-node 2 -m effnas train --architecture efficientnet_b0 --training paper",
        ),
    ),
    "scale": _Command(
        "scale",
        "scale a baseline to any size: by phi, as a family, or to a budget",
        _scale,
        _scale_schema,
        (
            "effnas scale --phi 3",
            "effnas scale --baseline baseline.yaml --coefficients coefficients.yaml --family 0..3",
            "effnas scale --preset b3 --json",
            "effnas scale --target-macs 1.5G",
            "effnas scale --explain",
        ),
    ),
    "evaluate": _Command(
        "evaluate",
        "measure a trained network: accuracy, each class, calibration, latency",
        _evaluate,
        _evaluate_schema,
        (
            "effnas evaluate --weights outputs/train/weights.safetensors",
            "effnas evaluate --weights outputs/train/weights.safetensors --part heldout --json",
            "effnas evaluate --architecture efficientnet_lite0 --weights lite0.pth --data parquet --data.path imagenet"
            " --data.center-crop 0.875 --data.interpolation bicubic",
        ),
    ),
    "cam": _Command(
        "cam",
        "show where networks look: class activation maps, side by side",
        _cam,
        _cam_schema,
        (
            "effnas cam --weights outputs/train/weights.safetensors --images 0,1,2",
            "effnas cam --architecture efficientnet_b0,efficientnet_b2 --weights b0.pth,b2.pth --images photos",
            "effnas cam --weights a.safetensors,b.safetensors --images cat.jpg --method grad_cam --layer stages.4",
        ),
    ),
    "reproduce": _Command(
        "reproduce",
        "compute the EfficientNet paper's tables of scaled networks anew",
        _reproduce,
        _reproduce_schema,
        ("effnas reproduce table2", "effnas reproduce table3", "effnas reproduce table7 --json"),
        Positional("table", ("table2", "table3", "table7")),
    ),
    "compare": _Command(
        "compare",
        "show accuracy against MACs, parameters or latency, beside other networks",
        _compare,
        _compare_schema,
        (
            "effnas compare --members outputs/small,outputs/large",
            "effnas compare --members efficientnet --references imagenet",
            "effnas compare 'families={compound: [runs/c*], width: [runs/w*]}' --x macs,latency --latency",
        ),
    ),
    "transfer": _Command(
        "transfer",
        "fine-tune several networks on several data sets, as one table",
        _transfer,
        _transfer_schema,
        (
            "effnas transfer --weights lite0.pth,lite1.pth --architecture efficientnet_lite0,efficientnet_lite1"
            " --datasets digits,cifar10 +data.cifar10.path=../shared/data/cifar10 +data.cifar10.limit=2000",
            "effnas transfer --weights a.safetensors,b.safetensors +data@data.pets=folder data.pets.path=photos/pets"
            " --datasets pets --seeds 3",
        ),
    ),
    "ablate": _Command(
        "ablate",
        "compare rules of scaling at equal cost, with a test over seeds",
        _ablate,
        _ablate_schema,
        (
            "effnas ablate --seeds 5 --workers 2",
            "effnas ablate --baseline outputs/search/baseline.yaml --coefficients outputs/grid/coefficients.yaml"
            " --factors 2,4,8 --rules compound,depth,width,resolution,dwr",
        ),
    ),
}
_SHELLS = ("bash", "zsh", "fish")


class _JobFailed(BaseException):
    """Carries a job's exception past Hydra, which would print a line of its own about it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    name = words[0] if words and words[0] in COMMANDS else None
    try:
        status = _main(words)
        sys.stdout.flush()
        return status
    except UserError as error:
        return _fail(name, str(error))
    except KeyboardInterrupt:
        print("interrupted; run the same command again to continue", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader has gone (`| head`): nothing more to say, not at interpreter exit either
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception:
        traceback.print_exc()
        return 1


def _fail(name: str | None, text: str) -> int:
    print(f"effnas{f' {name}' if name else ''}: error: {text}", file=sys.stderr)
    return 2


def _main(words: list[str]) -> int:
    if not words:
        raise UserError(f"a command is needed: {', '.join(COMMANDS)}; see effnas --help")
    first = words[0]
    if first in ("-h", "--help", "help"):
        print(overview({name: command.summary for name, command in COMMANDS.items()}))
        return 0
    if first == "--version":
        from . import __version__

        print(f"effnas {__version__}")
        return 0
    if first in ("-sc", "--shell-completion"):
        return _completion(words[1:])
    if first not in COMMANDS:
        if first.startswith("-") or "=" in first:
            raise UserError(f"the command comes first, then {first}; choose one of: {', '.join(COMMANDS)}")
        raise unknown("command", first, COMMANDS)
    return _run(first, words[1:])


def _run(name: str, words: list[str]) -> int:
    if "-sc" in words or "--shell-completion" in words:
        return _completion([word for word in words if "=" in word])
    command = COMMANDS[name]
    options = _options(name, words)
    if "-h" in words or "--help" in words:
        print(command_help(name, options, command.examples, f"default outputs/{command.config}"))
        return 0
    typed = shlex.join(["effnas", name, *words])
    arguments = parse(words, options)
    multirun = "--multirun" in arguments.hydra
    failed: dict[str, Exception] = {}

    def job(cfg: DictConfig) -> None:
        try:
            _job(command, cfg, typed)
        except Exception as error:
            failed[_job_name() if multirun else ""] = error
            if multirun:
                raise  # the other jobs of the sweep still run
            raise _JobFailed from error

    composed = to_hydra(arguments, options)
    if os.environ.get("RANK", "0") != "0":  # torchrun's: the folder is the first process's
        composed.append("hydra.output_subdir=null")
    return _hydra(name, composed, job, failed)


def _options(name: str, words: Sequence[str]) -> Options:
    hydra, chosen = scan(words)
    folders = [Path(folder) for folder in (hydra.get("--config-path") or CONF, hydra.get("--config-dir")) if folder]
    command = COMMANDS[name]
    return read_options(hydra.get("--config-name") or command.config, folders, chosen, command.positional)


def _job(command: _Command, cfg: DictConfig, typed: str) -> None:
    """Run one job of Hydra's; only its result reaches standard output, whatever a library prints."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf import OmegaConf

    schema = OmegaConf.get_type(cfg)
    if is_dataclass(schema):
        names = [field.name for field in fields(schema)]
        for key in map(str, cfg):
            if key not in names:  # +key=value adds to a group's module, never to the job
                raise unknown("option", f"+{key}", names)
    settings = HydraConfig.get()
    output = Path(settings.runtime.output_dir)
    if output.is_relative_to(Path.cwd()):  # messages and tables name it as the user would
        output = output.relative_to(Path.cwd())
    if settings.mode is RunMode.MULTIRUN:
        print(f"job {settings.job.num}: {_job_name()} -> {output}", file=sys.stderr)
    with contextlib.redirect_stdout(sys.stderr):
        text = command.run(cfg, output, typed)
    if text:
        print(text, flush=True)


def _store(command: _Command, schema: type | dict[str, object]) -> None:
    """The job's schema, and Hydra's own settings under whichever primary config: fixed folders, so that the same
    command continues where it stopped, a sweep's jobs named by what differs between them, and no logs on standard
    output.
    """
    from hydra.conf import HydraConf, JobConf, RunDir, SweepDir
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    store.store(name=f"{command.config}_job", node=schema)
    folder = f"outputs/{command.config}"
    settings = HydraConf(
        job=JobConf(name=command.config),
        run=RunDir(folder),
        sweep=SweepDir(f"{folder}-sweep", "${hydra.job.override_dirname}"),
    )
    for group in settings.defaults:
        group.update((key, "none") for key in group if key in ("job_logging", "hydra_logging"))
    store.store(group="hydra", name="config", node=settings, provider="effnas")


def _job_name() -> str:
    from hydra.core.hydra_config import HydraConfig

    return HydraConfig.get().job.override_dirname


def _hydra(
    name: str, words: list[str], job: Callable[[DictConfig], None], failed: Mapping[str, Exception] | None = None
) -> int:
    """Compose the configuration and run the job or the sweep; a mistake on the way becomes one message."""
    import hydra

    from .commandline.errors import message

    command = COMMANDS[name]
    _store(command, {} if "-sc" in words else command.schema())
    traceback_wanted = os.environ.get("HYDRA_FULL_ERROR") == "1"
    start = hydra.main(config_path=str(CONF), config_name=command.config, version_base="1.3")(job)
    try:
        with _as_program(words):
            start()
        return 0
    except SystemExit as error:  # --hydra-help and the like are done
        return error.code if isinstance(error.code, int) else 0
    except (_JobFailed, Exception) as error:
        causes: Mapping[str, BaseException] = failed or {"": error}
        texts = []
        for job_name, cause in causes.items():
            text = message(cause, in_job=bool(failed))
            if text is None:
                raise cause from cause.__cause__
            if traceback_wanted:
                traceback.print_exception(cause)
            texts.append(f"{job_name}: {text}" if job_name else text)
        return _fail(name, "\n".join(texts))


@contextlib.contextmanager
def _as_program(words: Sequence[str]) -> Iterator[None]:
    """Hydra reads its words from ``sys.argv``, and hands over its exceptions where this variable says so."""
    argv, full = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv, os.environ["HYDRA_FULL_ERROR"] = ["effnas", *words], "1"
    try:
        yield
    finally:
        sys.argv = argv
        if full is None:
            os.environ.pop("HYDRA_FULL_ERROR", None)
        else:
            os.environ["HYDRA_FULL_ERROR"] = full


def _completion(words: Sequence[str]) -> int:
    """``effnas -sc install=bash`` and what the installed function asks: ``effnas -sc query=bash``."""
    from .commandline.completion import candidates

    action, _, shell = words[0].partition("=") if len(words) == 1 else ("", "", "")
    if action not in ("install", "uninstall", "query") or shell not in _SHELLS:
        raise UserError(f"-sc takes install=SHELL or uninstall=SHELL, SHELL one of {', '.join(_SHELLS)}")
    if action != "query":
        return _hydra("scale", ["-sc", f"{action}={shell}"], lambda cfg: None)

    def query(name: str, before: list[str], word: str) -> list[str]:
        folders = [part for flag in ("--config-dir", "--config-path", "--config-name") for part in _pair(flag, before)]
        overrides = [w for w in before if "=" in w and w not in folders]
        os.environ["COMP_LINE"] = " ".join(["effnas", *overrides, word])
        answer = io.StringIO()
        with (
            contextlib.redirect_stdout(answer),
            contextlib.redirect_stderr(io.StringIO()),
            contextlib.suppress(Exception),  # no traceback at the prompt: the command itself will tell
        ):
            _hydra(name, [*folders, "-sc", "query=bash"], lambda cfg: None)
        return answer.getvalue().split()

    line = os.environ.get("COMP_LINE", "")
    line = line[: int(os.environ.get("COMP_POINT") or len(line))]
    print(*candidates(line, COMMANDS, _options, query), sep="\n" if shell == "fish" else " ")
    return 0


def _pair(flag: str, words: Sequence[str]) -> list[str]:
    """A flag and its value, where it is among the words."""
    return [flag, words[words.index(flag) + 1]] if flag in words else []
