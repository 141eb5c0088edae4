"""Checkpoint to GGUF: `python -m demo_model.export` writes the bundled file with its template and sampling defaults.

The sampling defaults are general.sampling.* metadata, which llama.cpp applies where the request says nothing. min_p is
applied before the temperature, so that even temperature 1 only chooses among words nearly as likely as the best one.
"""

import argparse
import json
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf.quants import quantize

from .conversation import END, SPECIAL, TEMPLATE
from .model import Shape
from .tokenizer import load
from .train import CHECKPOINT

OUT = Path(__file__).parent.parent / "src" / "antiphon" / "models" / "antiphon-demo.gguf"
ABOUT = (
    "Tiny model for trying out and testing the API offline: short stories, memory over turns, tool calls, JSON. "
    "Not for real use: it knows nothing of the world. Trained from scratch on generated conversations only."
)
TEMPERATURE, TOP_K, MIN_P = 0.3, 20, 0.25


def interleaved(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of a query or key matrix from rotary pairs (i, i + half) to llama.cpp's (2i, 2i + 1)."""
    rows, columns = weight.shape
    return weight.view(heads, 2, rows // heads // 2, columns).transpose(1, 2).reshape(rows, columns)


def tensors(saved: dict[str, torch.Tensor], s: Shape) -> dict[str, torch.Tensor]:
    """llama.cpp's tensor names; output.weight is left out since it is the embedding."""
    out = {"token_embd.weight": saved["embed.weight"], "output_norm.weight": saved["norm.weight"]}
    for i in range(s.layers):
        mine, its = f"blocks.{i}.", f"blk.{i}."
        q, k, v = saved[mine + "qkv.weight"].chunk(3)
        gate, up = saved[mine + "up.weight"].chunk(2)
        out |= {
            its + "attn_q.weight": interleaved(q, s.heads),
            its + "attn_k.weight": interleaved(k, s.heads),
            its + "attn_v.weight": v,
            its + "attn_output.weight": saved[mine + "out.weight"],
            its + "ffn_gate.weight": gate,
            its + "ffn_up.weight": up,
            its + "ffn_down.weight": saved[mine + "down.weight"],
            its + "attn_norm.weight": saved[mine + "norm1.weight"],
            its + "ffn_norm.weight": saved[mine + "norm2.weight"],
        }
    return out


def describe(w: gguf.GGUFWriter, s: Shape, tokens: int) -> None:
    """Name, licence, sizes, sampling defaults."""
    w.add_name("antiphon-demo")
    w.add_author("The Antiphon authors")
    w.add_license("apache-2.0")
    w.add_description(f"{ABOUT} {tokens / 1e6:.1f} M training tokens.")
    w.add_tags(["text-generation", "demo"])
    w.add_languages(["en"])
    w.add_context_length(s.context)
    w.add_embedding_length(s.dim)
    w.add_block_count(s.layers)
    w.add_feed_forward_length(s.ffn)
    w.add_head_count(s.heads)
    w.add_head_count_kv(s.heads)
    w.add_rope_dimension_count(s.head)
    w.add_rope_freq_base(s.rope)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_vocab_size(s.vocab)
    w.add_sampling_temp(TEMPERATURE)
    w.add_sampling_top_k(TOP_K)
    w.add_sampling_top_p(1.0)
    w.add_sampling_min_p(MIN_P)


def vocabulary(w: gguf.GGUFWriter) -> None:
    """Tokens, merges, special ids and the chat template."""
    model = json.loads(load().to_str())["model"]
    vocab = model["vocab"]
    words = sorted(vocab, key=vocab.__getitem__)
    kinds = dict.fromkeys(SPECIAL, gguf.TokenType.CONTROL)
    shown = ("<tool_call>", "</tool_call>", "<think>", "</think>")
    kinds |= dict.fromkeys(shown, gguf.TokenType.USER_DEFINED)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("smollm")
    w.add_token_list(words)
    w.add_token_types([kinds.get(t, gguf.TokenType.NORMAL) for t in words])
    w.add_token_merges([" ".join(m) for m in model["merges"]])
    w.add_bos_token_id(vocab["<|endoftext|>"])
    w.add_eos_token_id(vocab[END])
    w.add_pad_token_id(vocab["<|endoftext|>"])
    w.add_add_bos_token(False)
    w.add_add_eos_token(False)
    w.add_chat_template(TEMPLATE)


def export(checkpoint: Path, out: Path, kind: str) -> None:
    """Write `out`; kind is F16 or Q8_0. Norms stay 32 bits."""
    saved = torch.load(checkpoint, map_location="cpu", weights_only=False)
    s = Shape(**saved["shape"])
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_suffix(".part")
    w = gguf.GGUFWriter(str(part), "llama")
    describe(w, s, saved["state"]["tokens"])
    vocabulary(w)
    w.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0 if kind == "Q8_0" else gguf.LlamaFileType.MOSTLY_F16)
    for name, t in tensors(saved["model"], s).items():
        array = t.float().numpy()
        if array.ndim == 1:
            w.add_tensor(name, array)
        elif kind == "Q8_0":
            w.add_tensor(
                name, quantize(array, gguf.GGMLQuantizationType.Q8_0), raw_dtype=gguf.GGMLQuantizationType.Q8_0
            )
        else:
            w.add_tensor(name, array.astype(np.float16))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    part.replace(out)
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB, {saved['state']['tokens'] / 1e6:.2f} M tokens seen")


def main() -> None:
    """Read the options, export."""
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    p.add_argument("--out", type=Path, default=OUT)
    p.add_argument("--kind", choices=("F16", "Q8_0"), default="Q8_0")
    args = p.parse_args()
    export(args.checkpoint, args.out, args.kind)


if __name__ == "__main__":
    main()
