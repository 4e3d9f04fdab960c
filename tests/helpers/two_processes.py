"""What test_distributed.py starts twice: a tiny GAN's steps on one part of each batch, by Lightning and gloo."""

import sys
from pathlib import Path

import pytorch_lightning as pl
import torch

from cgan import sharding
from cgan.data.loading import endless_loader
from cgan.interfaces import Sample
from cgan.models.text.lstm import LSTMConfig, LSTMTextEncoder, Vocabulary
from cgan.training.callbacks.seeding import SeededSteps
from cgan.training.distributed import SharedGradients
from helpers.gan import tiny_gan

CAPTIONS = ["a red dog", "a blue cat", "a red dog", "a tree", "a red cat"]
BATCH, STEPS = 8, 4


class Gradients(pl.Callback):
    """Of each player in each step, as they are when it steps."""

    def __init__(self) -> None:
        self.seen = []

    def on_before_optimizer_step(self, trainer, module, optimizer) -> None:
        grads = {n: p.grad.clone() for n, p in module.named_parameters() if p.requires_grad and p.grad is not None}
        self.seen.append(grads)


class Chance(pl.Callback):
    """At the end this process's part of a large draw, and the numbers of the words that a text encoder reads."""

    def on_train_end(self, trainer, module) -> None:
        torch.manual_seed(5)
        self.draw = sharding.sharded_randn(4 // trainer.world_size, sharding.LARGEST_DRAW // 3)[:, :50].clone()
        encoder = LSTMTextEncoder(LSTMConfig(dim=16, embedding_dim=8, word_dropout=0.5), Vocabulary.of(CAPTIONS))
        encoder.embedding.register_forward_pre_hook(lambda _, inputs: setattr(self, "words", inputs[0]))
        captions = ["a red cat", "a tree", "a red dog", "a dog", "a cat", "a red tree", "a dog", "a cat and a dog"]
        share = len(captions) // trainer.world_size
        encoder.train()(captions[share * trainer.global_rank :][:share])
        self.words = torch.nn.functional.pad(self.words, (0, 5 - self.words.shape[1]))


def main(num_processes: int, folder: Path, compiled: bool = False, contrastive: bool = False) -> None:
    # with some seeds a pixel or a ReLU lies on its kink, where rounding decides on a gradient
    generator = torch.Generator().manual_seed(5)
    images = torch.randint(256, (24, 3, 32, 32), dtype=torch.uint8, generator=generator)
    dataset = [Sample(image, [CAPTIONS[i % 5]], i // 2) for i, image in enumerate(images)]
    matching = "contrastive" if contrastive else "relational"
    gan = tiny_gan(penalty_weight=0.01, latent_prior_alone_from=0.75, matching=matching)
    gradients, chance = Gradients(), Chance()
    if compiled:
        gan.compile_losses("eager")
    strategy = SharedGradients() if num_processes > 1 else "auto"
    trainer = pl.Trainer(
        max_steps=STEPS, accelerator="cpu", devices=num_processes, strategy=strategy,
        logger=False, enable_progress_bar=False, default_root_dir=folder, enable_checkpointing=False,
        enable_model_summary=False, use_distributed_sampler=False, callbacks=[SeededSteps(0), gradients, chance],
    )  # fmt: skip
    trainer.fit(gan, endless_loader(dataset, BATCH, 0, 0, 0, trainer.global_rank, trainer.world_size))
    found = {"gradients": gradients.seen, "weights": gan.state_dict(), "draw": chance.draw, "words": chance.words}
    found["compilations"] = len(gan.functions.compiled)
    torch.save(found, folder / f"{num_processes}-{trainer.global_rank}.pt")


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), "compiled" in sys.argv, "contrastive" in sys.argv)
