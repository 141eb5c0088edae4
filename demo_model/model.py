"""A small Llama-shaped network, and the initial weights that already can copy.

No data and no files here. Rotary pairs are (i, i + head/2), as PyTorch likes it; export reorders them for llama.cpp.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Shape:
    """Sizes; `vocab` is the tokenizer's. `scratch` is the number of embedding dimensions kept free for copying."""

    vocab: int
    dim: int = 192
    layers: int = 4
    heads: int = 3
    ffn: int = 512
    rope: float = 1e6
    context: int = 2048
    scratch: int = 64

    @property
    def head(self) -> int:
        """Dimensions per head."""
        return self.dim // self.heads


class Norm(nn.Module):
    """Root mean square norm in 32 bits."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., dim)."""
        return functional.rms_norm(x.float(), (x.shape[-1],), self.weight, 1e-5)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions; x: (batch, heads, time, head), cos and sin: (time, head)."""
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat((-b, a), -1) * sin


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention; q, k, v: (batch, heads, time, head). On a CPU plain products train a quarter faster."""
    if q.device.type != "cpu":
        return functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    later = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool).triu(1)
    scores = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).masked_fill(later, -torch.inf)
    return functional.softmax(scores, -1, dtype=torch.float32).to(v.dtype) @ v


class Block(nn.Module):
    """Attention and a gated feed-forward part, each after a norm."""

    def __init__(self, s: Shape) -> None:
        super().__init__()
        self.heads = s.heads
        self.norm1, self.norm2 = Norm(s.dim), Norm(s.dim)
        self.qkv = nn.Linear(s.dim, 3 * s.dim, bias=False)
        self.out = nn.Linear(s.dim, s.dim, bias=False)
        self.up = nn.Linear(s.dim, 2 * s.ffn, bias=False)
        self.down = nn.Linear(s.ffn, s.dim, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """x: (batch, time, dim)."""
        b, t, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        cos, sin = cos.to(q.dtype), sin.to(q.dtype)
        y = attend(rotate(q, cos, sin), rotate(k, cos, sin), v)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, d))
        gate, up = self.up(self.norm2(x)).chunk(2, -1)
        return x + self.down(functional.silu(gate) * up)


class Model(nn.Module):
    """Token ids in, hidden states out; the embedding is the output matrix too."""

    cos: Tensor
    sin: Tensor

    def __init__(self, s: Shape, seed: int = 1) -> None:
        super().__init__()
        self.shape = s
        self.embed = nn.Embedding(s.vocab, s.dim)
        self.blocks = nn.ModuleList(Block(s) for _ in range(s.layers))
        self.norm = Norm(s.dim)
        freq = frequencies(s)
        angle = torch.outer(torch.arange(s.context).float(), freq).repeat(1, 2)
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)
        with torch.no_grad():
            Circuit(self, torch.Generator().manual_seed(seed)).write()

    def forward(self, ids: Tensor) -> Tensor:
        """ids: (batch, time) -> normed states (batch, time, dim)."""
        x = self.embed(ids)
        cos, sin = self.cos[: ids.shape[1]], self.sin[: ids.shape[1]]
        for block in self.blocks:
            x = block(x, cos, sin)
        return self.norm(x)

    def logits(self, states: Tensor) -> Tensor:
        """States (n, dim) -> logits (n, vocab)."""
        return functional.linear(states, self.embed.weight)


def frequencies(s: Shape) -> Tensor:
    """Radians per position of each rotary pair, fastest first."""
    return s.rope ** (-torch.arange(0, s.head, 2).float() / s.head)


class Circuit:
    """Writes an induction circuit into fresh weights: find where the last tokens stood before, say what followed them.

    Embedding: dimension 0 is one constant, then random dimensions, the last `scratch` are zero. Layer 0 has two heads
    that copy the previous token and the one before it into the scratch, so each place knows what stood before it.
    Layer 1 has two heads whose query is (present token, previous token) and whose key is the scratch: they find places
    that followed the same two tokens, and add what stands there. The second token matters: a bare space or a letter
    occurs often, a pair seldom.
    It is an ordinary transformer all the same; training changes every weight.
    """

    CONSTANT, SPREAD = 0.18, 0.06
    PREVIOUS, STORE, MATCH, SAY = math.sqrt(70) / 3, 1.5, 7.0, 8.0
    NEAR, FAR, ALSO = 28, 14, 2.2

    def __init__(self, model: Model, rng: torch.Generator) -> None:
        self.m, self.s, self.rng = model, model.shape, rng
        self.tokens = slice(1, self.s.dim - self.s.scratch)
        self.store = slice(self.s.dim - self.s.scratch, self.s.dim)

    def normal(self, *size: int) -> Tensor:
        """Standard normal numbers from the seeded source."""
        return torch.randn(*size, generator=self.rng)

    def orthonormal(self, rows: int, columns: int) -> Tensor:
        """`rows` orthonormal rows of length `columns`."""
        return torch.linalg.qr(self.normal(columns, rows))[0].T.contiguous()

    def write(self) -> None:
        """Set all weights."""
        s = self.s
        e = self.m.embed.weight
        e.zero_()
        e[:, 0] = self.CONSTANT
        e[:, self.tokens] = self.SPREAD * self.normal(s.vocab, s.dim - s.scratch - 1)
        for i, block in enumerate(self.m.blocks):
            for part in (block.qkv, block.up):
                part.weight.copy_(self.normal(*part.weight.shape) / math.sqrt(s.dim))
            block.out.weight.copy_(0.004 * self.normal(s.dim, s.dim))
            block.down.weight.copy_(0.006 * self.normal(s.dim, s.ffn))
            if i < 2:
                block.qkv.weight[2 * s.dim :] *= 0.3
        look = self.orthonormal(self.NEAR, self.tokens.stop - self.tokens.start)
        self.earlier(self.m.blocks[0], 0, 1, look, self.store.start)
        self.earlier(self.m.blocks[0], 1, 2, look[: self.FAR], self.store.start + self.NEAR)
        self.induction(self.m.blocks[1], look)

    def earlier(self, block: nn.Module, head: int, back: int, look: Tensor, start: int) -> None:
        """A head of layer 0: attends `back` places back by position alone, stores that token at `start`."""
        s, h, n = self.s, self.s.head, len(look)
        q, k, v = (block.qkv.weight[j * s.dim + head * h : j * s.dim + (head + 1) * h] for j in range(3))
        q.zero_()
        k.zero_()
        for pair, freq in enumerate(frequencies(s)[:6].tolist()):
            k[pair, 0] = self.PREVIOUS
            q[pair, 0] = self.PREVIOUS * math.cos(back * freq)
            q[pair + h // 2, 0] = -self.PREVIOUS * math.sin(back * freq)
        v.zero_()
        v[:n, self.tokens] = look
        block.out.weight[:, head * h : (head + 1) * h] = 0
        block.out.weight[start : start + n, head * h : head * h + n] = self.STORE * torch.eye(n)

    def induction(self, block: nn.Module, look: Tensor) -> None:
        """Layer 1, heads 0 and 1: match the present token with stored previous ones, say the token found."""
        s, h = self.s, self.s.head
        slow = [i for i, f in enumerate(frequencies(s).tolist()) if f < 0.012]
        rows = [*slow, *(i + h // 2 for i in slow)][: s.scratch]
        width = self.tokens.stop - self.tokens.start
        parts = self.orthonormal(width, width).split(h)
        for head in range(2):
            q, k, v = (block.qkv.weight[j * s.dim + head * h : j * s.dim + (head + 1) * h] for j in range(3))
            q.zero_()
            k.zero_()
            v.zero_()
            for n, row in enumerate(rows[: self.NEAR]):
                q[row, self.tokens] = self.MATCH * look[n]
                k[row, self.store.start + n] = self.MATCH
            for n, row in enumerate(rows[self.NEAR : self.NEAR + self.FAR]):
                q[row, self.store.start + n] = self.ALSO
                k[row, self.store.start + self.NEAR + n] = self.ALSO
            part = parts[head]
            v[: len(part), self.tokens] = part
            block.out.weight[:, head * h : (head + 1) * h] = 0
            block.out.weight[self.tokens, head * h : head * h + len(part)] = self.SAY * part.T
