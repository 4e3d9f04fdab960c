"""What test_processes.py starts twice: a tiny GAN's steps on one part of each batch, by Lightning and gloo."""

import sys
from pathlib import Path

import pytorch_lightning as pl
import torch

from cgan.callbacks import SeededSteps
from cgan.data.loading import endless_loader
from cgan.gan import GANConfig, TextToImageGAN
from cgan.interfaces import Sample
from cgan.networks.discriminator import DiscriminatorConfig
from cgan.networks.generator import GeneratorConfig
from cgan.networks.image_encoder import SmallResNet
from cgan.processes import SharedGradients
from cgan.text.lstm import LSTMConfig, LSTMTextEncoder, Vocabulary

CAPTIONS = ["a red dog", "a blue cat", "a red dog", "a tree", "a red cat"]
BATCH, STEPS = 8, 3


class Gradients(pl.Callback):
    """Of each player in each step, as they are when it steps."""

    def __init__(self) -> None:
        self.seen = []

    def on_before_optimizer_step(self, trainer, module, optimizer) -> None:
        grads = {n: p.grad.clone() for n, p in module.named_parameters() if p.requires_grad and p.grad is not None}
        self.seen.append(grads)


def tiny_gan() -> TextToImageGAN:
    torch.manual_seed(0)
    config = GANConfig(
        generator=GeneratorConfig(noise_dim=8, style_dim=16, width=4, max_channels=16),
        discriminator=DiscriminatorConfig(width=4, max_channels=16, head_dim=8),
        penalty_weight=0.01,
    )
    text = LSTMTextEncoder(LSTMConfig(dim=16, embedding_dim=8), Vocabulary.of(CAPTIONS))
    return TextToImageGAN(config, text, SmallResNet(width=4, embedding_dim=16), 32)


def main(processes: int, folder: Path) -> None:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(256, (24, 3, 32, 32), dtype=torch.uint8, generator=generator)
    dataset = [Sample(image, [CAPTIONS[i % 5]], i // 2) for i, image in enumerate(images)]
    gan, gradients = tiny_gan(), Gradients()
    trainer = pl.Trainer(
        max_steps=STEPS, accelerator="cpu", devices=processes, strategy=SharedGradients() if processes > 1 else "auto",
        logger=False, enable_progress_bar=False, default_root_dir=folder, enable_checkpointing=False,
        enable_model_summary=False, use_distributed_sampler=False, callbacks=[SeededSteps(0), gradients],
    )  # fmt: skip
    trainer.fit(gan, endless_loader(dataset, BATCH, 0, 0, 0, trainer.global_rank, trainer.world_size))
    found = {"gradients": gradients.seen, "weights": gan.state_dict()}
    torch.save(found, folder / f"{processes}-{trainer.global_rank}.pt")


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
