"""The commands, one row each: name, function, purpose and examples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from ..space.zoo import ZOO
from .options import Positional

_PACKAGE = __package__.rpartition(".")[0]


@dataclass(frozen=True)
class Command:
    """One row.

    Args:
        name: as typed; up to its first hyphen that of its YAML file, of its schema (``NAME_job``) and of the folder
            that results go to (``outputs/NAME``).
        run: the function, ``ROOM.FOLDER.job.FUNCTION``; its parameters are the options. ``report.py`` beside it has
            ``summary_text``, which turns what it returns into what is printed.
        summary: one line.
        examples: command lines.
        only_prints: the switch with which alone nothing is written.
        endings: of one file that may be named in place of an output folder; no configuration is kept beside it.
        positional: the option whose value may stand alone.
    """

    name: str
    run: str
    summary: str
    examples: tuple[str, ...]
    positional: Positional | None = None
    only_prints: str | None = None
    endings: tuple[str, ...] = ()

    @property
    def config(self) -> str:
        """Of the YAML file."""
        return self.name.partition("-")[0]

    def load_run(self) -> Callable[..., Any]:
        """Import the function."""
        module, _, function = self.run.rpartition(".")
        loaded: Callable[..., Any] = getattr(import_module(f"{_PACKAGE}.{module}"), function)
        return loaded

    def load_text(self) -> Callable[..., str]:
        """Import the function that makes text of the result; it may ask for options by name."""
        folder = self.run.rsplit(".", 2)[0]
        loaded: Callable[..., str] = import_module(f"{_PACKAGE}.{folder}.report").summary_text
        return loaded


_ROWS = (
    Command(
        "search",
        "search.job.run_search",
        "search a space for a baseline network",
        (
            "effnas search",
            "effnas search --space mobile_cifar --data cifar10 --data.path ../shared/data/cifar10 --workers 2",
            "effnas search algorithm=random trials=100 -o outputs/random",
            "effnas search -m objective.w=-0.05,-0.07 seed=0,1",
        ),
    ),
    Command(
        "grid-alpha-beta-gamma",
        "scaling.grid.job.run_grid_search",
        "find how depth, width and resolution should grow together",
        (
            "effnas grid-alpha-beta-gamma --baseline outputs/search/baseline.yaml",
            "effnas grid-alpha-beta-gamma --seeds 3 --workers 2",
        ),
    ),
    Command(
        "train",
        "evaluate.train.job.run_train",
        "train one network, from scratch or from pretrained weights",
        (
            "effnas train --architecture outputs/search/baseline.yaml",
            "effnas train --architecture efficientnet_lite0 --weights lite0.pth --training finetune --data folder"
            " --data.path photos",
            "effnas train -m training=paper,modern seed=0,1,2 architecture=baseline.yaml",
            "torchrun --nproc-per-node 2 -m effnas train --architecture efficientnet_b0 --training paper",
        ),
    ),
    Command(
        "scale",
        "scaling.scale.job.run_scale",
        "scale a baseline to any size: by phi, as a family, or to a budget",
        (
            "effnas scale --phi 3",
            "effnas scale --baseline baseline.yaml --coefficients coefficients.yaml --family 0..3",
            "effnas scale --preset b3 --json",
            "effnas scale --target-macs 1.5G",
            "effnas scale --rule stagewise --from outputs/search --target-macs 12M",
            "effnas scale --explain",
        ),
        Positional("runs", (), word="RUN", flag="from"),
        only_prints="explain",
    ),
    Command(
        "predict",
        "scaling.predict.job.run_predict",
        "predict the accuracy of larger members of a family, with an interval and a backtest",
        (
            "effnas predict --from outputs/phi0 outputs/phi1 outputs/phi2 outputs/phi3 --family 4..7",
            "effnas predict --from 'outputs/family/*' --target-accuracy 0.95",
            "effnas predict --from published.csv --at-macs 4.5G,9.9G --json",
        ),
        Positional("runs", (), word="RUN", flag="from"),
    ),
    Command(
        "evaluate",
        "evaluate.measure.job.run_evaluate",
        "measure a trained network: accuracy, each class, calibration, latency",
        (
            "effnas evaluate --weights outputs/train/weights.safetensors",
            "effnas evaluate --weights outputs/train/weights.safetensors --part heldout --json",
            "effnas evaluate --architecture efficientnet_lite0 --weights lite0.pth --data parquet --data.path imagenet"
            " --data.center-crop 0.875 --data.interpolation bicubic",
        ),
    ),
    Command(
        "export",
        "evaluate.export.job.run_export",
        "write a trained network for timm, ONNX Runtime, OpenVINO and others, each proved",
        (
            "effnas export outputs/train --to onnx,timm,python",
            "effnas export weights.safetensors --to openvino --data folder --data.path photos -o outputs/ship",
            "effnas export lite0.pth --architecture efficientnet_lite0 --to onnx --data parquet --data.path imagenet"
            " --data.center-crop 0.875 --data.interpolation bicubic",
        ),
        Positional("weights", (), word="RUN"),
    ),
    Command(
        "cam",
        "evaluate.cam.job.run_cam",
        "show where networks look: class activation maps, side by side",
        (
            "effnas cam --weights outputs/train/weights.safetensors --images 0,1,2",
            "effnas cam --architecture efficientnet_b0,efficientnet_b2 --weights b0.pth,b2.pth --images photos",
            "effnas cam --weights a.safetensors,b.safetensors --images cat.jpg --method grad_cam --layer stages.4",
        ),
    ),
    Command(
        "profile",
        "evaluate.profile.job.run_profile",
        "count what networks cost, beside fvcore's count, and time them here",
        (
            "effnas profile efficientnet_b0",
            "effnas profile efficientnet_b0 resnet50 outputs/search/baseline.yaml --threads 1 --batch-size 8",
            "effnas profile outputs/search/baseline.yaml --device cuda --precision bf16 --json",
        ),
        Positional("networks", ZOO, word="NETWORK"),
    ),
    Command(
        "latency",
        "evaluate.latency.job.run_latency",
        "measure networks of a space here, or learn from measurements how fast all of them are",
        (
            "effnas latency measure --space mobile_cifar --members 100",
            "effnas latency fit outputs/latency/measurements.csv --space mobile_cifar -o outputs/latency-model",
            "effnas latency fit phone.csv --space accel_nasbench --unit ms -o outputs/phone",
        ),
        Positional("task", ("measure", "fit"), word="{measure | fit FILE}"),
    ),
    Command(
        "reproduce",
        "scaling.reproduce.job.run_reproduce",
        "recompute the EfficientNet paper's tables of scaled networks",
        ("effnas reproduce table2", "effnas reproduce table3", "effnas reproduce table7 --json"),
        Positional("table", ("table2", "table3", "table7")),
    ),
    Command(
        "compare",
        "evaluate.compare.job.run_compare",
        "show accuracy against MACs, parameters or latency, beside other networks",
        (
            "effnas compare --members outputs/small,outputs/large",
            "effnas compare --members efficientnet --references imagenet",
            "effnas compare 'families={compound: [runs/c*], width: [runs/w*]}' --x macs,latency --latency",
        ),
    ),
    Command(
        "compress",
        "evaluate.compress.job.run_compress",
        "prune a trained network to a budget of MACs, and fine-tune what is left",
        (
            "effnas compress --weights outputs/train/weights.safetensors --target-macs 0.5",
            "effnas compress --weights outputs/train/weights.safetensors --target-macs 20M --divisor 16 --data cifar10"
            " --data.path cifar10",
        ),
    ),
    Command(
        "transfer",
        "evaluate.transfer.job.run_transfer",
        "fine-tune several networks on several data sets, as one table",
        (
            "effnas transfer --weights lite0.pth,lite1.pth --architecture efficientnet_lite0,efficientnet_lite1"
            " --datasets digits,cifar10 +data.cifar10.path=../shared/data/cifar10 +data.cifar10.limit=2000",
            "effnas transfer --weights a.safetensors,b.safetensors +data@data.pets=folder data.pets.path=photos/pets"
            " --datasets pets --seeds 3",
        ),
    ),
    Command(
        "ablate",
        "scaling.ablate.job.run_ablation",
        "compare rules of scaling at equal cost, with a test over seeds",
        (
            "effnas ablate --seeds 5 --workers 2",
            "effnas ablate --baseline outputs/search/baseline.yaml --coefficients outputs/grid/coefficients.yaml"
            " --factors 2,4,8 --rules compound,depth,width,resolution,dwr",
        ),
    ),
    Command(
        "rank",
        "search.rank.job.run_rank",
        "measure how far shortcuts for training may be trusted",
        (
            "effnas rank",
            "effnas rank --shortcuts synflow,naswot,epochs_2,supernet --members 100 --workers 2",
            "effnas rank --space mobile_cifar --data cifar10 --data.path ../shared/data/cifar10 --data.limit 3000"
            " --shortcuts epochs_2+images_1000,resolution_16",
        ),
    ),
    Command(
        "report",
        "report.job.run_report",
        "put what runs have found on one page of HTML",
        (
            "effnas report outputs/search -o search.html",
            "effnas report outputs/search outputs/grid outputs/train -o chain.html",
            "effnas report 'outputs/search-sweep/*' -o sweep.html --json",
        ),
        Positional("runs", (), word="RUN"),
        endings=(".html", ".htm"),
    ),
)
#: By name, in the order of the chain.
COMMANDS = {row.name: row for row in _ROWS}
