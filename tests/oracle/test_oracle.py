"""`python -m unittest` in this folder: the training recipe's invariants, and that the scorer rejects wrong images."""

import hashlib
import json
import tempfile
import unittest
from pathlib import Path

import numpy as np
import torch

import evaluate
import networks
import optimiser
import score
from drawing import render
from scenes import caption, is_held_out, sample


class Scenes(unittest.TestCase):
    def test_a_seed_names_a_caption_and_its_pixels(self):
        digest = hashlib.sha256()
        for seed in range(64):
            rng = np.random.default_rng(seed)
            scene = sample(rng)
            digest.update(caption(scene, rng).encode())
            digest.update(render(scene, rng).tobytes())
        self.assertEqual(digest.hexdigest()[:16], "ca38df27d7485574")

    def test_held_out_combinations_are_drawn_only_when_asked_for(self):
        rng = np.random.default_rng(1)
        self.assertFalse(any(is_held_out(sample(rng)) for _ in range(300)))
        self.assertTrue(all(is_held_out(sample(rng, held=True)) for _ in range(100)))


class Judging(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        rng = np.random.default_rng(2)
        cls.scenes = [sample(rng, held=None) for _ in range(64)]
        cls.images = [render(scene, rng) for scene in cls.scenes]
        cls.scorer = score.load()

    def test_true_drawings_are_right_and_those_of_other_scenes_wrong(self):
        right = score.summary(score.judge(self.scorer, self.images, self.scenes))
        wrong = score.summary(score.judge(self.scorer, self.images[1:] + self.images[:1], self.scenes))
        self.assertGreater(right["core"], 0.85)
        self.assertLess(wrong["core"], 0.05)

    def test_an_image_too_few_is_refused(self):
        with self.assertRaises(ValueError):
            score.judge(self.scorer, self.images[1:], self.scenes)

    def test_a_missing_or_smaller_image_is_refused(self):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            with self.assertRaisesRegex(SystemExit, "missing"):
                evaluate.read_images(folder, 1)
            self.images[0].resize((64, 64)).save(evaluate.image_path(folder, 0))
            with self.assertRaisesRegex(SystemExit, "64x64"):
                evaluate.read_images(folder, 1)

    def test_a_written_list_of_prompts_reads_back_and_grows_without_changing(self):
        with tempfile.TemporaryDirectory() as name:
            few, many = Path(name) / "few.json", Path(name) / "many.json"
            evaluate.write_prompts(3, False, few)
            evaluate.write_prompts(5, False, many)
            self.assertEqual(json.loads(few.read_text()), json.loads(many.read_text())[:3])
            self.assertTrue(all(is_held_out(scene) for scene in evaluate.read_prompts(many)[1]))


class Networks(unittest.TestCase):
    @torch.no_grad()
    def test_a_deepened_transformer_computes_the_same(self):
        torch.manual_seed(0)
        old, new = networks.transformer(2), networks.transformer(3)
        for parameter in old.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
        new.load_state_dict(networks.deepened(old.state_dict(), 3))
        latent, text = torch.randn(1, 4, 16, 16), torch.randn(1, 5, networks.TEXT_WIDTH)
        call = {
            "encoder_hidden_states": text,
            "timestep": torch.tensor([500]),
            "added_cond_kwargs": {"resolution": None, "aspect_ratio": None},
        }
        before, after = (dit(latent, **call).sample for dit in (old, new))
        self.assertGreater(before.std(), 0.1)
        torch.testing.assert_close(after, before)

    def test_newton_schulz_makes_singular_values_about_one(self):
        torch.manual_seed(0)
        for shape in ((48, 192), (192, 48)):
            values = torch.linalg.svdvals(optimiser.orthogonal(torch.randn(shape)))
            self.assertTrue(((values > 0.6) & (values < 1.3)).all(), values)


if __name__ == "__main__":
    unittest.main()
