"""How well `effnas predict` tells the larger members of published families, from their smaller ones.

The families are those of ImageNet that timm has published results of (networks.csv beside the repository), one recipe
each: told apart by name and tag, one row a network, at the smallest size that it was measured at. For each number of
the smallest members from four on, each larger member up to 15 times the largest known one's cost is predicted, by

- predict: `effnas predict`, members off the law left out as there;
- power: err = a·M^-b, a line through log err over log M;
- log-linear: err = a - b·log M;
- fit: err = c + a·M^-b by least squares of log(err - c), c from 80 values, without a prior.

The table has mean absolute errors in points of top-1 up to 6 times, between 6 and 15 times and up to 15 times the cost,
the bias (said minus was), and the share of members inside predict's 90 % interval with its mean width.
With --leave-out the prior is chosen among 27 by the likelihood of the other families: each family is predicted with a
prior that has not seen it or its relatives.

    python benchmarks/predict.py [--data ../shared/data/timm_results/networks.csv] [--x macs] [--leave-out]

A minute on one core, with --leave-out five; the results are benchmarks/results/predict.csv.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from record import find_commit
from scipy.special import logsumexp

from effnas.scaling.predict.checks import find_off_law, fit_members
from effnas.scaling.predict.law import FEWEST, PRIORS, Law, Prior, fit_law
from effnas.scaling.predict.members import Member

RESULTS = Path(__file__).resolve().parent / "results" / "predict.csv"
#: Family, relatives, pattern of the model's name, tag. The first part is of convolutional networks.
FAMILIES = (
    ("EfficientNet aa", "efficientnet", r"tf_efficientnet_b\d", "aa_in1k"),
    ("EfficientNet ap", "efficientnet", r"tf_efficientnet_b\d", "ap_in1k"),
    ("EfficientNet ns", "efficientnet", r"tf_efficientnet_(b\d|l2)", "ns_jft_in1k"),
    ("EfficientNet", "efficientnet", r"tf_efficientnet_b\d", "in1k"),
    ("EfficientNet-Lite", "efficientnet", r"tf_efficientnet_lite\d", "in1k"),
    ("EfficientNetV2", "efficientnetv2", r"tf_efficientnetv2_\w+", "in1k"),
    ("EfficientNetV2 21k", "efficientnetv2", r"tf_efficientnetv2_\w+", "in21k_ft_in1k"),
    ("TinyNet", "tinynet", r"tinynet_.", "in1k"),
    ("ResNet a1", "resnet", r"resnet\d+", "a1_in1k"),
    ("ResNet a2", "resnet", r"resnet\d+", "a2_in1k"),
    ("ResNet a3", "resnet", r"resnet\d+", "a3_in1k"),
    ("ResNet gluon", "resnet", r"resnet\d+", "gluon_in1k"),
    ("ResNet tv", "resnet", r"resnet\d+", "tv_in1k"),
    ("ResNet-D", "resnet", r"resnet\d+d", "ra2_in1k"),
    ("SE-ResNet", "resnet", r"legacy_seresnet\d+", "in1k"),
    ("ConvNeXt", "convnext", r"convnext_\w+", "fb_in1k"),
    ("ConvNeXt 22k", "convnext", r"convnext_\w+", "fb_in22k_ft_in1k"),
    ("ConvNeXt 22k 384", "convnext", r"convnext_\w+", "fb_in22k_ft_in1k_384"),
    ("MobileNetV3", "mobilenetv3", r"tf_mobilenetv3_(small|large)_\d+", "in1k"),
    ("RepGhostNet", "ghostnet", r"repghostnet_\d+", "in1k"),
    ("RepViT 300", "repvit", r"repvit_\w+", "dist_300e_in1k"),
    ("RepViT 450", "repvit", r"repvit_\w+", "dist_450e_in1k"),
    ("FasterNet", "fasternet", r"fasternet_\w+", "in1k"),
    ("HRNet", "hrnet", r"hrnet_w\d+", "ms_in1k"),
    ("HardCoRe-NAS", "hardcore", r"hardcorenas_.", "miil_green_in1k"),
    ("MobileViTv2", "mobilevit", r"mobilevitv2_\d+", "cvnets_in1k"),
    ("VGG", "vgg", r"vgg\d+", "tv_in1k"),
    ("VGG-BN", "vgg", r"vgg\d+_bn", "tv_in1k"),
    ("DLA", "dla", r"dla\d+", "in1k"),
    ("DenseNet", "densenet", r"densenet\d+", "tv_in1k"),
    ("StarNet", "starnet", r"starnet_s\d+", "in1k"),
    ("SHViT", "shvit", r"shvit_s\d", "in1k"),
    ("RDNet", "rdnet", r"rdnet_\w+", "nv_in1k"),
    ("ResNeXt SSL", "resnext", r"resnext\d+_32x\d+d", "fb_ssl_yfcc100m_ft_in1k"),
    ("ConvFormer", "metaformer", r"convformer_\w+", "sail_in1k"),
    ("FastViT", "fastvit", r"fastvit_\w+", "apple_in1k"),
    ("ResNeSt", "resnest", r"resnest\d+\w", "in1k"),
    ("Res2Net", "res2net", r"res2net\d+_26w_\ds", "in1k"),
    ("BiT", "bit", r"resnetv2_\w+", "goog_in21k_ft_in1k"),
    ("InceptionNeXt", "inceptionnext", r"inception_next_\w+", "sail_in1k"),
    ("MambaOut", "mambaout", r"mambaout_\w+", "in1k"),
    # transformers and mixed networks
    ("EfficientViT-M", "efficientvit", r"efficientvit_m\d", "r224_in1k"),
    ("EfficientViT-B", "efficientvit", r"efficientvit_b\d", "r224_in1k"),
    ("PVTv2", "pvt", r"pvt_v2_b\d", "in1k"),
    ("DeiT-III", "deit", r"deit3_.*_224", "fb_in1k"),
    ("DeiT-III 22k", "deit", r"deit3_.*_224", "fb_in22k_ft_in1k"),
    ("VOLO", "volo", r"volo_d\d_224", "sail_in1k"),
    ("XCiT p8", "xcit", r"xcit_.*p8_224", "fb_in1k"),
    ("XCiT p16", "xcit", r"xcit_.*p16_224", "fb_in1k"),
    ("XCiT p16 distilled", "xcit", r"xcit_.*p16_224", "fb_dist_in1k"),
    ("XCiT p8 distilled", "xcit", r"xcit_.*p8_224", "fb_dist_in1k"),
    ("Hiera", "hiera", r"hiera_\w+", "mae_in1k_ft_in1k"),
    ("MaxViT", "maxvit", r"maxvit_.*_tf_224", "in1k"),
    ("SwiftFormer", "swiftformer", r"swiftformer_\w+", "dist_in1k"),
    ("EfficientFormerV2", "efficientformer", r"efficientformerv2_\w+", "snap_dist_in1k"),
    ("LeViT", "levit", r"levit_\d+\w*", "fb_dist_in1k"),
    ("MViTv2", "mvit", r"mvitv2_\w+", "fb_in1k"),
    ("CoaT-Lite", "coat", r"coat_lite_\w+", "in1k"),
    ("Swin 22k", "swin", r"swin_\w+", "ms_in22k_ft_in1k"),
    ("CAFormer", "metaformer", r"caformer_\w+", "sail_in1k"),
    ("PoolFormer", "metaformer", r"poolformer_\w+", "sail_in1k"),
    ("PoolFormerV2", "metaformer", r"poolformerv2_\w+", "sail_in1k"),
    ("GCViT", "gcvit", r"gcvit_\w+", "in1k"),
)
#: Of the table's last rows: families that people ask about.
NAMED = ("EfficientNet", "TinyNet", "ResNet", "ConvNeXt", "MobileNetV3", "RepGhostNet")
FARTHEST, NEAR = 15.5, 6.0
COLUMNS = {"macs": ("gmacs", 1e9), "activations": ("mactivations", 1e6), "params": ("params_m", 1e6)}
PRIOR_GRID = [
    Prior(exponent, factor, scatter=scatter)
    for exponent, factor, scatter in itertools.product((0.7, 0.86, 1.05), (0.25, 0.35, 0.5), (0.007, 0.01, 0.014))
]
#: Takes known costs and accuracies, and a cost: an accuracy.
Rival = Callable[[np.ndarray, np.ndarray, float], float]


@dataclass(frozen=True)
class Case:
    """A prediction that is asked for."""

    family: str
    relatives: str
    known: tuple[Member, ...]
    target: Member
    axis: str

    @property
    def ratio(self) -> float:
        """The target's cost in the largest known one's."""
        return self.target.costs[self.axis] / self.known[-1].costs[self.axis]


def read_families(file: Path, axis: str) -> dict[tuple[str, str], list[Member]]:
    """The members of each family, by cost."""
    rows = list(csv.DictReader(file.open(encoding="utf-8")))
    column, unit = COLUMNS[axis]
    found = {}
    for family, relatives, pattern, tag in FAMILIES:
        mine = [row for row in rows if row["tag"] == tag and re.fullmatch(pattern, row["model"])]
        smallest: dict[str, dict[str, str]] = {}
        for row in sorted(mine, key=lambda row: int(row["img_size"])):
            smallest.setdefault(row["model"], row)
        members = [
            Member(name, float(row["top1"]) / 100, {axis: unit * float(row[column].replace(",", ""))}, 1, None, None)
            for name, row in smallest.items()
        ]
        members.sort(key=lambda member: member.costs[axis])
        if len({member.costs[axis] for member in members}) > FEWEST:
            found[family, relatives] = members
    return found


def list_cases(families: dict[tuple[str, str], list[Member]], axis: str) -> list[Case]:
    """Every prediction that is asked for."""
    cases = []
    for (family, relatives), members in families.items():
        for count in range(FEWEST, len(members)):
            known = tuple(members[:count])
            if len({member.costs[axis] for member in known}) < FEWEST:
                continue
            cases += [Case(family, relatives, known, target, axis) for target in members[count:]]
    return [case for case in cases if 1.02 < case.ratio <= FARTHEST]


def power(x: np.ndarray, accuracy: np.ndarray, cost: float) -> float:
    """err = a·M^-b."""
    line = np.polyfit(np.log(x), np.log(1 - accuracy), 1)
    return 1 - math.exp(np.polyval(line, math.log(cost)))


def log_linear(x: np.ndarray, accuracy: np.ndarray, cost: float) -> float:
    """err = a - b·log M."""
    return float(np.polyval(np.polyfit(np.log(x), accuracy, 1), math.log(cost)))


def plain_fit(x: np.ndarray, accuracy: np.ndarray, cost: float) -> float:
    """err = c + a·M^-b, by least squares."""
    errors, best = 1 - accuracy, (math.inf, 0.0)
    for c in np.linspace(0, 0.97, 80) * errors.min():
        line = np.polyfit(np.log(x), np.log(errors - c), 1)
        misses = float(((np.exp(np.polyval(line, np.log(x))) + c - errors) ** 2).sum())
        best = min(best, (misses, 1 - c - math.exp(np.polyval(line, math.log(cost)))))
    return best[1]


RIVALS: dict[str, Rival] = {"fit": plain_fit, "power": power, "log-linear": log_linear}


def log_density(law: Law, case: Case) -> float:
    """Of the logarithm of the target's error, by the law's draws."""
    at = np.exp(-law.b * math.log(case.target.costs[case.axis] / law.largest))
    mean = law.log_error + np.log(law.kappa + (1 - law.kappa) * at)
    sd = np.sqrt(law.scatter**2 + 1 / law.precision)
    z = (math.log(1 - case.target.accuracy) - mean) / sd
    return float(logsumexp(-0.5 * z**2 - np.log(sd)) - math.log(len(mean)))


def choose_priors(cases: Sequence[Case], axis: str) -> dict[str, Prior]:
    """For each group of relatives the prior that all others like best."""
    scores: dict[str, list[np.ndarray]] = {}
    groups_of = [list(mine) for _, mine in itertools.groupby(cases, lambda case: (case.family, len(case.known)))]
    for mine in groups_of:
        known = mine[0].known
        x, accuracy = [m.costs[axis] for m in known], [m.accuracy for m in known]
        laws = [fit_law(x, accuracy, axis=axis, prior=prior) for prior in PRIOR_GRID]
        for case in mine:
            scores.setdefault(case.family, []).append(np.array([log_density(law, case) for law in laws]))
    means = {family: np.mean(rows, axis=0) for family, rows in scores.items()}
    groups = {case.family: case.relatives for case in cases}
    return {
        group: PRIOR_GRID[int(np.argmax(sum(means[f] for f in means if groups[f] != group)))]
        for group in set(groups.values())
    }


def predict_case(case: Case, prior: Prior | None) -> tuple[float, float, float]:
    """The accuracy that is said, and its interval."""
    kept, _ = find_off_law(case.known, case.axis, 0.0)
    cost = case.target.costs[case.axis]
    if prior is None:
        said = fit_members(kept, case.axis, 0.0).predict(cost)
    else:
        x, accuracy = [m.costs[case.axis] for m in kept], [m.accuracy for m in kept]
        said = fit_law(x, accuracy, axis=case.axis, prior=prior).predict(cost)
    return said.accuracy, said.low, said.high


def summarise(label: str, rows: Sequence[dict[str, float | str]], method: str) -> str:
    """A line of the table."""
    cells = []
    for low, high in ((1.0, NEAR), (NEAR, FARTHEST), (1.0, FARTHEST)):
        part = [row for row in rows if low < float(row["ratio"]) <= high]
        misses = [abs(float(row[method]) - float(row["actual"])) for row in part]
        cells.append(f"{np.mean(misses):.2f} ({len(part)})" if part else "-")
    bias = np.mean([float(row[method]) - float(row["actual"]) for row in rows])
    inside = np.mean([float(row["low"]) <= float(row["actual"]) <= float(row["high"]) for row in rows])
    width = np.mean([float(row["high"]) - float(row["low"]) for row in rows])
    ends = [f"{inside:.0%}", f"{width:.2f}"] if method == "predict" else ["", ""]
    return f"| {label} | {method} | {' | '.join(cells)} | {bias:+.2f} | {' | '.join(ends)} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/timm_results/networks.csv"))
    parser.add_argument("--x", choices=COLUMNS, default="macs")
    parser.add_argument("--leave-out", action="store_true")
    parser.add_argument("--csv", type=Path, default=RESULTS)
    given = parser.parse_args()
    families = read_families(given.data, given.x)
    cases = list_cases(families, given.x)
    priors = choose_priors(cases, given.x) if given.leave_out else {}
    if priors:
        counts = {prior: list(priors.values()).count(prior) for prior in priors.values()}
        print("chosen priors:", "; ".join(f"{prior} ({n} groups)" for prior, n in counts.items()))
        print("prior in use:", PRIORS[given.x])
    sha = find_commit()
    rows = []
    for case in cases:
        said = [100 * value for value in predict_case(case, priors.get(case.relatives))]
        x = np.array([member.costs[given.x] for member in case.known])
        accuracy = np.array([member.accuracy for member in case.known])
        cost = case.target.costs[given.x]
        row: dict[str, float | str] = {"family": case.family, "known": len(case.known), "target": case.target.name}
        row |= {"ratio": round(case.ratio, 3), "actual": 100 * case.target.accuracy}
        row |= dict(zip(("predict", "low", "high"), said, strict=True))
        row |= {name: 100 * rival(x, accuracy, cost) for name, rival in RIVALS.items()}
        rows.append({**row, "x": given.x, "leave_out": int(given.leave_out), "commit": sha})
    with given.csv.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    print(f"{len(families)} families, {len(rows)} predictions over {given.x}")
    print("| members known | method | up to 6x | 6 to 15x | up to 15x | bias | in 90 % | width |")
    print("|---|---|---|---|---|---|---|---|")
    five = [row for row in rows if int(row["known"]) >= 5]
    named = [row for row in five if str(row["family"]).startswith(NAMED)]
    parts = {"5 and more": five, "5 and more, families of the list": named, "4": [r for r in rows if r["known"] == 4]}
    for label, part in parts.items():
        for method in ("predict", *RIVALS):
            print(summarise(label, part, method))


if __name__ == "__main__":
    main()
