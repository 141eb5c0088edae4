"""Training: `python -m demo_model.train --minutes 110`; stopped and started again, it goes on from its checkpoint.

The learning rate follows the share of the minutes used, so a slow machine gives fewer tokens, not a broken schedule.
"""

import argparse
import os
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from .generate import conversations
from .model import Model, Shape
from .tokenizer import WORK, load

CHECKPOINT = WORK / "model.pt"
LONGEST, DOCUMENTS, CROWDED = 640, 800, 4.0
Batch = tuple[Tensor, Tensor]


@dataclass
class State:
    """What a resumed run has to know."""

    seconds: float = 0.0
    step: int = 0
    tokens: int = 0
    chunk: int = 0
    history: list[tuple[int, float]] = field(default_factory=list)


def encode(tok: Tokenizer, talks: list[list[tuple[str, float]]]) -> list[Batch]:
    """Conversations as (ids, weights of each token as a target)."""
    out = []
    for talk, coded in zip(talks, tok.encode_batch(["".join(t for t, _ in parts) for parts in talks]), strict=True):
        weights: list[float] = []
        for text, weight in talk:
            weights += [weight] * len(text)
        # A token belongs to the piece in which it ends; offsets count characters of the whole text.
        per_token = [weights[end - 1] for _, end in coded.offsets]
        if len(coded.ids) <= LONGEST:
            out.append((torch.tensor(coded.ids), torch.tensor(per_token)))
    return out


def batches(tok: Tokenizer, seed: int, dense: float, size: int) -> Iterator[Batch]:
    """One chunk of fresh conversations, cut into batches of about `size` tokens of similar length, padded."""
    docs = sorted(encode(tok, list(islice(conversations(seed, dense), DOCUMENTS))), key=lambda d: len(d[0]))
    groups: list[list[Batch]] = [[]]
    for doc in docs:
        if (len(groups[-1]) + 1) * len(doc[0]) > size:
            groups.append([])
        groups[-1].append(doc)
    random.Random(seed).shuffle(groups)
    for group in filter(None, groups):
        yield pad([d[0] for d in group]), pad([d[1] for d in group])


def pad(rows: list[Tensor]) -> Tensor:
    """Rows of different length as one matrix, zeros at the end."""
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


def orthogonal(g: Tensor) -> Tensor:
    """Five Newton-Schulz steps: the nearest matrix with singular values near 1."""
    x = g.bfloat16()
    flip = x.shape[0] > x.shape[1]
    x = x.T if flip else x
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return (x.T if flip else x).to(g.dtype)


class Muon(torch.optim.Optimizer):
    """Momentum whose step is made orthogonal, matrix by matrix; qkv counts as three matrices, up as two."""

    def __init__(self, params: list[tuple[Tensor, int]], lr: float) -> None:
        super().__init__([{"params": [p], "parts": n} for p, n in params], {"lr": lr, "momentum": 0.95})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002 - torch's signature
        """One update."""
        for group in self.param_groups:
            p = group["params"][0]
            m = self.state[p].setdefault("momentum", torch.zeros_like(p))
            m.lerp_(p.grad, 1 - group["momentum"])
            g = p.grad.lerp(m, group["momentum"])
            for weight, part in zip(p.chunk(group["parts"]), g.chunk(group["parts"]), strict=True):
                scale = max(1.0, part.shape[0] / part.shape[1]) ** 0.5
                weight.add_(orthogonal(part), alpha=-group["lr"] * scale)


def optimizers(model: Model, muon_lr: float, adam_lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' matrices, AdamW for embedding and norms."""
    matrices, rest = [], []
    for name, p in model.named_parameters():
        if p.ndim == 2 and "embed" not in name:
            matrices.append((p, 3 if "qkv" in name else 2 if "up" in name else 1))
        else:
            rest.append(p)
    return [Muon(matrices, muon_lr), torch.optim.AdamW(rest, adam_lr, betas=(0.9, 0.95), weight_decay=0.0)]


def loss_of(model: Model, batch: Batch, device: str) -> tuple[Tensor, Tensor]:
    """(weighted mean loss, share of fully weighted tokens guessed right) of a batch."""
    ids, weights = (t.to(device) for t in batch)
    with torch.autocast(device, dtype=torch.bfloat16):
        states = model(ids[:, :-1])
        places = weights[:, 1:] > 0
        logits = model.logits(states[places]).float()
    target, weight = ids[:, 1:][places], weights[:, 1:][places]
    each = functional.cross_entropy(logits, target, reduction="none")
    right = ((logits.argmax(-1) == target) & (weight == 1)).sum() / (weight == 1).sum().clamp(min=1)
    return (each * weight).sum() / weight.sum(), right


@torch.no_grad()
def validate(model: Model, val: list[Batch], device: str) -> tuple[float, float]:
    """Mean loss and accuracy over the validation batches (another seed, dense practice left out)."""
    got = [loss_of(model, b, device) for b in val]
    return sum(float(a) for a, _ in got) / len(got), sum(float(b) for _, b in got) / len(got)


def rate(done: float, step: int, fall: float) -> float:
    """Share of the full learning rate: short warm-up, constant, linear to zero over the last `fall` of the time."""
    return min(1.0, (step + 1) / 20) * min(1.0, max(0.02, (1 - done) / fall))


class Run:
    """A training run with its checkpoint."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.tok, self.state = args, load(), State()
        torch.manual_seed(args.seed)
        self.model = Model(Shape(self.tok.get_vocab_size(), args.dim, args.layers, args.dim // 64, args.ffn), args.seed)
        self.model.to(args.device)
        self.optimizers = optimizers(self.model, args.muon_lr, args.adam_lr)
        self.base = [[g["lr"] for g in o.param_groups] for o in self.optimizers]
        self.file = Path(args.checkpoint)
        if self.file.exists():
            self.resume()
        if args.compile:
            for block in self.model.blocks:
                block.compile(dynamic=True)
        self.val = list(batches(self.tok, 5, 0.0, args.batch))[::12][:4]

    def resume(self) -> None:
        """Go on from the checkpoint; its shape must be the same."""
        saved = torch.load(self.file, map_location=self.args.device, weights_only=False)
        self.model.load_state_dict(saved["model"])
        for o, s in zip(self.optimizers, saved["optimizers"] or [], strict=bool(saved["optimizers"])):
            o.load_state_dict(s)  # a grown checkpoint has none
        self.state = State(**saved["state"])
        if self.args.again:
            self.state.seconds = 0.0
        print(f"going on from step {self.state.step}, {self.state.seconds / 60:.1f} min", flush=True)

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        part = self.file.with_suffix(".part")
        torch.save(
            {
                "model": self.model.state_dict(),
                "optimizers": [o.state_dict() for o in self.optimizers],
                "state": asdict(self.state),
                "shape": asdict(self.model.shape),
            },
            part,
        )
        part.replace(self.file)

    def step(self, batch: Batch) -> float:
        """One update; returns the loss."""
        s = self.state
        share = rate(s.seconds / (self.args.minutes * 60), s.step, self.args.fall)
        for o, base in zip(self.optimizers, self.base, strict=True):
            for g, lr in zip(o.param_groups, base, strict=True):
                g["lr"] = lr * share
        loss, _ = loss_of(self.model, batch, self.args.device)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for o in self.optimizers:
            o.step()
            o.zero_grad(set_to_none=True)
        s.step += 1
        s.tokens += batch[0].numel()
        return float(loss.detach())

    def progress(self, mean: float) -> None:
        """Print one line."""
        s = self.state
        at = f"{s.seconds / 60:5.1f} of {self.args.minutes:.0f} min  step {s.step}  {s.tokens / 1e6:.2f} M tokens"
        print(f"{at}  loss {mean:.3f}", flush=True)

    def train(self) -> None:
        """Until the minutes are used up."""
        s, mean, saved, told = self.state, 0.0, time.monotonic(), 0.0
        limit = self.args.minutes * 60
        while s.seconds < limit:
            done = s.seconds / limit
            clock = time.monotonic()
            size = self.args.batch * (2 if done > 0.6 else 1)
            for batch in batches(self.tok, 1000 + s.chunk, max(0.05, self.args.dense * (1 - done / 0.6)), size):
                # On a busy machine two threads mostly wait for one another.
                torch.set_num_threads(self.args.threads if os.getloadavg()[0] < CROWDED else 1)
                loss = self.step(batch)
                mean = loss if not mean else 0.97 * mean + 0.03 * loss
                now = time.monotonic()
                s.seconds += now - clock
                clock = now
                if now - told > 30:
                    told = now
                    self.progress(mean)
                if s.seconds >= limit:
                    break
            s.chunk += 1
            if time.monotonic() - saved > 150 or s.seconds >= limit:
                loss, right = validate(self.model, self.val, self.args.device)
                s.history.append((s.tokens, loss))
                print(f"{s.seconds / 60:5.1f} min  validation loss {loss:.3f}  accuracy {right:.3f}", flush=True)
                self.save()
                saved = time.monotonic()


def main() -> None:
    """Read the options, train, save."""
    p = argparse.ArgumentParser(description=__doc__)
    for name, default in (("minutes", 110.0), ("muon-lr", 0.012), ("adam-lr", 2e-3), ("fall", 0.75), ("dense", 0.22)):
        p.add_argument(f"--{name}", type=float, default=default)
    for name, value in (("dim", 256), ("layers", 6), ("ffn", 704), ("batch", 4096), ("threads", 2), ("seed", 1)):
        p.add_argument(f"--{name}", type=int, default=value)
    p.add_argument("--device", default="cpu")
    p.add_argument("--again", action="store_true", help="a whole new schedule from the weights of a finished run")
    p.add_argument("--compile", action="store_true", help="needs a C++ compiler and two minutes, then a sixth faster")
    p.add_argument("--checkpoint", default=str(CHECKPOINT))
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    Run(args).train()


if __name__ == "__main__":
    main()
