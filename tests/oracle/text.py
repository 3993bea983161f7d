"""Captions as compact token ids for training."""

import json
from pathlib import Path

import numpy as np
import torch
from transformers import T5Tokenizer

from networks import END, PADDING, UNKNOWN
from scenes import caption, sample

TOKENIZER = Path(__file__).resolve().parents[2] / "web/models/scenes/tokenizer"
STRANGE_PART = 0.15  # of captions get one to three words that training never names


class Captions:
    """Tokenizes as the pipeline does: stripped and in lower case."""

    def __init__(self, tokenizer: T5Tokenizer, known: list[int]):
        self.tokenizer, self.known = tokenizer, known
        self.compact = {token: index for index, token in enumerate(known, UNKNOWN + 1)} | {PADDING: PADDING, END: END}

    @staticmethod
    def open(folder: Path, samples: int = 20000) -> "Captions":
        """Reads the known tokens of `folder`, or finds them in many captions and writes them there."""
        tokenizer, path = T5Tokenizer.from_pretrained(TOKENIZER), folder / "vocabulary.json"
        if not path.exists():
            rng, known = np.random.default_rng(5), set()
            for _ in range(samples):
                known.update(tokenizer(caption(sample(rng), rng).lower().strip()).input_ids)
            path.write_text(json.dumps(sorted(known - {PADDING, END, UNKNOWN})))
        return Captions(tokenizer, json.loads(path.read_text()))

    @property
    def size(self) -> int:
        return UNKNOWN + 1 + len(self.known)

    def rows(self, texts: list[str], rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and mask, padded to the longest. Some captions get unknown words: the model learns to pass over them."""
        rows = []
        for text in texts:
            row = [self.compact.get(token, UNKNOWN) for token in self.tokenizer(text.lower().strip()).input_ids]
            if text and rng.random() < STRANGE_PART:
                for _ in range(rng.integers(1, 4)):
                    row.insert(rng.integers(0, len(row)), UNKNOWN)
            rows.append(row)
        longest = max(map(len, rows))
        ids = torch.tensor([row + [PADDING] * (longest - len(row)) for row in rows])
        mask = torch.tensor([[1.0] * len(row) + [0.0] * (longest - len(row)) for row in rows])
        return ids, mask
