"""A recurrent policy over vectors of decisions, and proximal policy optimisation (Schulman et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ..encoding import Rows

Array = NDArray[np.float64]

#: What Adam keeps of each weight.
_MEANS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class PPO:
    """How a policy learns from one batch.

    Args:
        epochs: gradient steps.
        learning_rate: of Adam.
        clip: epsilon: how far the ratio of new to old probability counts.
        entropy: weight of the mean entropy of a decision, nats.
    """

    epochs: int
    learning_rate: float
    clip: float
    entropy: float


class DecisionPolicy(nn.Module):
    """An LSTM reads the decisions so far, its state gives the logits of the next.

    New ones are all alike and give every vector the same probability.

    Args:
        sizes: levels of each decision, shape (d,).
        hidden: width of the embeddings and the LSTM.
    """

    def __init__(self, sizes: NDArray[np.int64], hidden: int) -> None:
        super().__init__()
        # Token 0 begins; each level of each decision has its own.
        self._offsets = torch.from_numpy(np.cumsum([1, *sizes[:-1]]))
        self._legal = torch.arange(int(sizes.max())) < torch.from_numpy(sizes)[:, None]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.embedding = nn.Embedding(1 + int(sizes.sum()), hidden)
            self.lstm = nn.LSTM(hidden, hidden, batch_first=True)
        self.weight = nn.Parameter(torch.zeros(len(sizes), hidden, int(sizes.max())))
        self.bias = nn.Parameter(torch.zeros(len(sizes), int(sizes.max())))

    def log_probs(self, rows: Tensor) -> Tensor:
        """Of each level of each decision, given those before it: shape (n, d) → (n, d, levels)."""
        tokens = functional.pad(rows[:, :-1] + self._offsets[:-1], (1, 0))
        states, _ = self.lstm(self.embedding(tokens))
        return self._normalised(torch.einsum("ndh,dhl->ndl", states, self.weight) + self.bias, self._legal)

    @torch.no_grad()
    def draw(self, noise: Array) -> Rows:
        """Vectors from the policy, shape (n, d), for standard Gumbel ``noise``, shape (n, d, levels)."""
        gumbel = torch.from_numpy(noise).float()
        token = torch.zeros(len(noise), dtype=torch.int64)
        state, chosen = None, []
        for i, offset in enumerate(self._offsets):
            states, state = self.lstm(self.embedding(token)[:, None], state)
            logits = self._normalised(states[:, 0] @ self.weight[i] + self.bias[i], self._legal[i])
            chosen.append((logits + gumbel[:, i]).argmax(dim=1))
            token = chosen[-1] + offset
        return torch.stack(chosen, dim=1).numpy()

    @staticmethod
    def _normalised(logits: Tensor, legal: Tensor) -> Tensor:
        return functional.log_softmax(logits.masked_fill(~legal, -torch.inf), dim=-1)


class PolicyLearner:
    """A policy and its optimiser."""

    def __init__(self, sizes: NDArray[np.int64], hidden: int, ppo: PPO) -> None:
        self.policy = DecisionPolicy(sizes, hidden)
        self._ppo = ppo
        self._adam = torch.optim.Adam(self.policy.parameters(), ppo.learning_rate)

    def learn(self, rows: Rows, advantages: Array) -> None:
        """PPO's steps for vectors, shape (n, d), that the policy drew and that turned out so, shape (n,)."""
        vectors, advantage = torch.from_numpy(rows), torch.from_numpy(advantages).float()
        low, high = 1 - self._ppo.clip, 1 + self._ppo.clip
        old = None
        for _ in range(self._ppo.epochs):
            logs = self.policy.log_probs(vectors)
            taken = logs.gather(2, vectors[:, :, None]).sum(dim=(1, 2))
            old = taken.detach() if old is None else old
            ratio = (taken - old).exp()
            gain = torch.minimum(ratio * advantage, ratio.clamp(low, high) * advantage).mean()
            entropy = -(logs.exp() * logs.clamp(min=-1e4)).sum(dim=2).mean()
            self._adam.zero_grad()
            (-gain - self._ppo.entropy * entropy).backward()  # type: ignore[no-untyped-call]
            self._adam.step()

    @property
    def length(self) -> int:
        """Of what :meth:`save` gives, in bytes."""
        return 4 * 3 * sum(weights.numel() for weights in self.policy.parameters())

    def save(self) -> bytes:
        """All that learning has changed: the weights, and Adam's two means of each, as float32."""
        weights = list(self.policy.parameters())
        means = [self._adam.state[one][name] for name in _MEANS for one in weights]
        return torch.cat([one.detach().ravel() for one in (*weights, *means)]).numpy().astype("<f4").tobytes()

    def load(self, state: bytes, batches: int) -> None:
        """Go on from what :meth:`save` gave after so many batches, at least 1; bit by bit as if it had learned them."""
        numbers = torch.from_numpy(np.frombuffer(state, "<f4").astype(np.float32))
        weights = list(self.policy.parameters())
        sizes = [one.numel() for one in weights]
        parts = iter(torch.split(numbers, sizes * (1 + len(_MEANS))))
        with torch.no_grad():
            for one in weights:
                one.copy_(next(parts).view_as(one))
        means = [[next(parts).view_as(one).clone() for one in weights] for _ in _MEANS]
        steps = float(batches * self._ppo.epochs)
        settings = self._adam.state_dict()
        settings["state"] = {
            place: {"step": torch.tensor(steps), **dict(zip(_MEANS, pair, strict=True))}
            for place, pair in enumerate(zip(*means, strict=True))
        }
        self._adam.load_state_dict(settings)
