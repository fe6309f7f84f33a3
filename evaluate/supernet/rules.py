"""Which members a step trains: the sampling rules.

All that is drawn follows from the seed and the number of the step, so a training that goes on from a checkpoint draws
what it would have drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...space.architecture import Architecture
from ...space.errors import check_choice
from .members import Members

RULES = ("sandwich", "single_path", "fair", "complexity")
#: Members that ``complexity`` draws and orders at a time.
WINDOW = 32
#: Random members of a step of ``sandwich``, beside the largest and the smallest.
BETWEEN = 2


@dataclass(frozen=True)
class Pick:
    """A member of a step.

    Args:
        architecture: of it.
        taught: it learns the outputs of the step's first member, not the labels.
        regularise: with its dropout and stochastic depth.
    """

    architecture: Architecture
    taught: bool = False
    regularise: bool = True


class Sampler:
    """The members of each step, whose gradients are summed.

    - ``sandwich``: the largest member learns the labels; the smallest one and two random ones learn what it answers,
      without dropout and stochastic depth (Yu et al. 2020, BigNAS; Wang et al. 2021, AttentiveNAS).
    - ``single_path``: one uniform member (Guo et al. 2020, Single Path One-Shot).
    - ``fair``: as many members as the decision with the most choices has, in which each choice of every decision is
      trained as often as the others (Chu et al. 2021, FairNAS).
    - ``complexity``: one uniform member, in an order in which the MACs of one step and the next differ little: some
      are drawn at a time, and taken from the cheapest up, the next ones from the dearest down.

    Args:
        members: of the space.
        rule: one of :data:`RULES`.
        seed: of what is drawn.

    Raises:
        UserError: there is no such rule.
    """

    def __init__(self, members: Members, rule: str, seed: int) -> None:
        check_choice("evaluator.rule", rule, RULES)
        self._members, self._rule, self._seed = members, rule, seed
        self._window: tuple[int, list[Architecture]] = (-1, [])

    def pick(self, step: int) -> list[Pick]:
        """The members of a step, counted from 0 over the whole training."""
        if self._rule == "complexity":
            return [Pick(self._order(step // WINDOW)[step % WINDOW])]
        rng = np.random.default_rng((self._seed, step))
        if self._rule == "single_path":
            return [Pick(self._members.draw(rng))]
        if self._rule == "fair":
            return [Pick(architecture) for architecture in self._members.draw_fairly(rng)]
        others = [self._members.draw_smallest(rng), *(self._members.draw(rng) for _ in range(BETWEEN))]
        taught = [Pick(architecture, taught=True, regularise=False) for architecture in others]
        return [Pick(self._members.draw_largest(rng)), *taught]

    def _order(self, number: int) -> list[Architecture]:
        """The members of one window: uniform draws, by MACs."""
        if self._window[0] != number:
            rng = np.random.default_rng((self._seed, number))
            drawn = [self._members.draw(rng) for _ in range(WINDOW)]
            self._window = number, sorted(drawn, key=lambda a: a.cost.macs, reverse=number % 2 == 1)
        return self._window[1]
