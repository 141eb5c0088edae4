"""Make a trained network wider and deeper without changing what it says: `python -m demo_model.grow --source ...`.

New dimensions of the residual stream start at zero, new heads and hidden units write nothing yet, and new layers are
inserted that add nothing yet. So a larger run begins where a smaller one ended. Optimizer state is not carried over.
"""

import argparse
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from .model import Model, Shape
from .tokenizer import WORK

Weights = dict[str, Tensor]


def inserted(old: int, new: int) -> list[int | None]:
    """For each new layer the old one that it takes over, or None; new ones stand late, behind the copying circuit."""
    spots = {old - 1 - (i % max(old - 2, 1)) for i in range(new - old)}
    order: list[int | None] = []
    left = new - old
    for layer in range(old):
        if layer in spots and left:
            share = -(-left // len([s for s in spots if s >= layer]))
            order += [None] * share
            left -= share
        order.append(layer)
    return order + [None] * left


def widened(fresh: Tensor, old: Tensor, parts: int, *, quiet: bool) -> Tensor:
    """`old` in the first rows and columns of each of `parts` row blocks; `quiet` new columns are zero (outputs)."""
    out = torch.zeros_like(fresh) if quiet else fresh.clone()
    for mine, its in zip(out.chunk(parts), old.chunk(parts), strict=True):
        if quiet:
            mine[: its.shape[0]] = 0
        mine[: its.shape[0], : its.shape[1]] = its
    return out


def grow(old: Weights, s: Shape, to: Shape, seed: int = 11) -> Weights:
    """The weights of shape `to` that compute what `old` of shape `s` does (but for the norm's epsilon)."""
    rng = torch.Generator().manual_seed(seed)
    squeeze = (s.dim / to.dim) ** 0.5
    new = {k: v.detach().clone() for k, v in Model(to).state_dict().items()}
    new["embed.weight"] = widened(new["embed.weight"], old["embed.weight"], 1, quiet=True)
    new["norm.weight"] = torch.cat((old["norm.weight"], torch.ones(to.dim - s.dim))) * squeeze
    for i, source in enumerate(inserted(s.layers, to.layers)):
        b = f"blocks.{i}."
        for name in ("qkv", "up", "out", "down"):
            fresh = torch.randn(new[f"{b}{name}.weight"].shape, generator=rng) / to.dim**0.5
            if source is None:
                new[f"{b}{name}.weight"] = fresh if name in ("qkv", "up") else torch.zeros_like(fresh)
                continue
            parts = {"qkv": 3, "up": 2}.get(name, 1)
            new[f"{b}{name}.weight"] = widened(
                fresh, old[f"blocks.{source}.{name}.weight"], parts, quiet=name in ("out", "down")
            )
        for name in ("norm1", "norm2"):
            kept = old[f"blocks.{source}.{name}.weight"] if source is not None else torch.ones(s.dim)
            new[f"{b}{name}.weight"] = torch.cat((kept, torch.ones(to.dim - s.dim))) * squeeze
    return new


def main() -> None:
    """Read a checkpoint, write a larger one."""
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--source", type=Path, default=WORK / "model.pt")
    p.add_argument("--out", type=Path, default=WORK / "grown.pt")
    for name, value in (("dim", 256), ("layers", 6), ("ffn", 704)):
        p.add_argument(f"--{name}", type=int, default=value)
    args = p.parse_args()
    saved = torch.load(args.source, map_location="cpu", weights_only=False)
    s = Shape(**saved["shape"])
    to = replace(s, dim=args.dim, layers=args.layers, ffn=args.ffn, heads=args.dim // s.head)
    model = grow(saved["model"], s, to)
    state = {**saved["state"], "seconds": 0.0, "step": 0}
    torch.save({"model": model, "shape": asdict(to), "optimizers": None, "state": state}, args.out)
    print(f"{args.out}: {sum(v.numel() for v in model.values()) / 1e6:.2f} M parameters")


if __name__ == "__main__":
    main()
