"""Callback that encodes the captions of a data set before a training starts."""

import pytorch_lightning as pl

from cgan.interfaces import Report
from cgan.training.gan import TextToImageGAN
from cgan.training.known_text import encode_all


class EncodeCaptions(pl.Callback):
    """Gives the GAN the text features of all captions, once its networks are on the device; no clock runs yet."""

    def __init__(self, texts: list[str], report: Report) -> None:
        self.texts, self.report = texts, report

    def on_fit_start(self, trainer: pl.Trainer, module: TextToImageGAN) -> None:
        """Encodes the captions."""
        found = encode_all(module.text_encoder, self.texts, module.device, module.uses_words, self.report)
        module.known_text = found
