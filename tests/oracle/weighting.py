"""Records prompt weighting.

    python weighting.py GOLDEN

writes GOLDEN/prompt_weights.json, the parts of prompts and their weights as AUTOMATIC1111's `parse_prompt_attention` (modules/prompt_parser.py)
reads them, but for brackets without a counterpart, which are text as in ComfyUI; and GOLDEN/prompt_weights.safetensors, embeddings
of GOLDEN/alpha_plain/pipeline as ComfyUI weights them for PixArt: `ClipTokenWeightEncoder.encode_token_weights`
(comfy/sd1_clip.py) with `T5XXLModel.gen_empty_tokens` (comfy/text_encoders/pixart_t5.py). With z the embeddings of a
prompt of n tokens, `</s>` included, and e those of n padding tokens, a token of weight w becomes (z - e)·w + e.
"""

import json
import pathlib
import re
import sys

import torch
from safetensors.torch import save_file
from transformers import T5EncoderModel, T5Tokenizer

TOKEN = re.compile(r"\\[()\[\]\\]|[()\[\]]|.", re.S)
WEIGHT = re.compile(r":\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*\)")

PROMPTS = [
    "normal text",
    "",
    "an (important) word",
    "a (red:1.3) circle",
    "a [red] circle",
    "((a)) (b (c:1.3) d) e",
    "(a (b:0.5)) c",
    "((foo:1.1))",
    "((foo):1.1)",
    "foo ((lol (cat:6) attack:10)) baz",
    "[[a]] [b (c)]",
    "(a [b)] c",
    r"\(literal\] \\ \x (a\)b:2)",
    "(unbalanced",
    "un) balanced",
    "[open (closed) a",
    "smile :) and :(",
    "(unnecessary)(parens)",
    "(ratio:a)",
    "(a:b:1.2)",
    "(a: 1.2 )",
    "(a:.5)",
    "(a:+2.)",
    "(a:-0.5)",
    "(a:1.2.3)",
    "(a:1e1)",
    "(a:inf)",
    "(a:nan)",
    "(a:)",
    "(:1.2)",
    "()",
    "(a:0)",
    "(a:1(.)2)",
    "[a:1.3]",
    "[cat:dog:0.5]",
    "one\n(two\nthree:1.5), four",
    "(日本:1.2) ünï (ﬁ)",
    "(a:1)",
]


def parts(prompt: str) -> list[list]:
    """Finds pairs of brackets first, then multiplies what is between them."""
    tokens, at = [], 0
    while at < len(prompt):
        weight = WEIGHT.match(prompt, at)
        token = weight or TOKEN.match(prompt, at)
        tokens.append((token.group(), float(weight.group(1)) if weight else None))
        at = token.end()
    pairs, open_round, open_square = [], [], []
    texts: list[str] = []
    for index, (token, weight) in enumerate(tokens):
        texts.append(token[1] if token[0] == "\\" and len(token) > 1 else token)
        if token == "(":
            open_round.append(index)
        elif token == "[":
            open_square.append(index)
        elif weight is not None and open_round:
            pairs.append((open_round.pop(), index, weight))
        elif token == ")" and open_round:
            pairs.append((open_round.pop(), index, 1.1))
        elif token == "]" and open_square:
            pairs.append((open_square.pop(), index, 1 / 1.1))
    for begin, end, _ in pairs:
        texts[begin] = texts[end] = ""
    merged: list[list] = []
    for index, text in enumerate(texts):
        weight = 1.0
        for begin, end, factor in pairs:
            weight *= factor if begin < index < end else 1
        if text and merged and abs(merged[-1][1] - weight) < 1e-7:
            merged[-1][0] += text
        elif text:
            merged.append([text, weight])
    return merged


# Parts that begin and end with words: tokenized one by one, as ComfyUI does, or as a whole they have the same tokens.
ENCODED = ["two (boats:1.4)", "a [dark] ((blue)) wall", "(a red circle:0.3) on a (blue:-0.5) background", "(two boats:1)"]
TOKENS = 20


def weighted(tokenizer, encoder, prompt: str) -> torch.Tensor:
    ids, weights = [], []
    for text, weight in parts(prompt):
        part = tokenizer(text, add_special_tokens=False).input_ids
        ids, weights = ids + part, weights + [weight] * len(part)
    plain = tokenizer("".join(text for text, _ in parts(prompt))).input_ids
    ids, weights = ids + [tokenizer.eos_token_id], weights + [1.0]
    assert ids == plain, f"{prompt}: the parts are tokenized as {ids}, the whole as {plain}"
    z = encoder(torch.tensor([ids])).last_hidden_state[0]
    e = encoder(torch.tensor([[tokenizer.pad_token_id] * len(ids)])).last_hidden_state[0]
    return (z - e) * torch.tensor(weights)[:, None] + e


def main(golden: pathlib.Path) -> None:
    lines = ",\n".join(json.dumps([prompt, parts(prompt)], ensure_ascii=False) for prompt in PROMPTS)
    (golden / "prompt_weights.json").write_text(f"[\n{lines}\n]\n")
    pipeline = golden / "alpha_plain/pipeline"
    tokenizer = T5Tokenizer.from_pretrained(pipeline / "tokenizer", extra_ids=100)
    encoder = T5EncoderModel.from_pretrained(pipeline / "text_encoder", dtype=torch.float32).eval()
    with torch.no_grad():
        tensors = {prompt: weighted(tokenizer, encoder, prompt).contiguous() for prompt in ENCODED}
    save_file(tensors, golden / "prompt_weights.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(pathlib.Path(sys.argv[1]))
