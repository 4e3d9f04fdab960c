"""TextToImage samples pictures from captions by a checkpoint.

All sampling uses it. It needs no data set or Lightning.
"""

import json
import math
import operator
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from dataclasses import asdict
from functools import cached_property
from itertools import pairwise
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cgan.damage import building
from cgan.interfaces import TextEncoder, TextFeatures, UserError
from cgan.models.generators import build_generator
from cgan.models.generators.base import GeneratorConfig
from cgan.models.text import restore_text_encoder
from cgan.models.text.lstm import UNKNOWN, LSTMTextEncoder
from cgan.models.weights_hash import hash_tensors
from cgan.pixels import as_bytes, as_floats
from cgan.ranges import check_seed
from cgan.renamed import OLDER_GENERATOR, rename_settings
from cgan.sampling.guidance import away_from
from cgan.sampling.mixing import mixed
from cgan.sampling.request import MAX_GUIDANCE, MAX_SOURCES, check_keep
from cgan.sampling.weights import DAMAGED, INVERTER, INVERTER_PARTS, PARTS, Weights, find, read, write

if TYPE_CHECKING:
    from cgan.models.inverter import Inverter
    from cgan.sampling.sources import Source

Score = Callable[[Tensor, str], Tensor]  # how well images (B, 3, H, W) fit a caption, (B,)


class TextToImage:
    """pipe(caption, seed=0) -> a PIL picture, which depends on its caption and seed alone."""

    def __init__(
        self,
        spec: dict,
        tensors: dict[str, Tensor],
        text_encoder: TextEncoder | None = None,
        path: Path | None = None,
    ) -> None:
        self.spec = {name: value for name, value in spec.items() if name != INVERTER}
        self.tensors = {name: value for name, value in tensors.items() if not name.startswith(INVERTER_PARTS)}
        self.device = torch.device("cpu")
        self.path, self.whole = path, (spec, tensors)  # from which a posterior is built when it is first used
        self.inverters: list[Inverter] = []  # shared by copies of the pipeline; at most one, once it is loaded
        self.sources: list[Source] = []  # pictures to start from, and how much of them stays
        self.keep = 1.0
        self.negative: Tensor | None = None  # a sentence, (D,), from which captions are pushed away
        self.guidance = 0.0
        self.text_encoder: TextEncoder = (text_encoder or restore_text_encoder(spec["text"])).eval()
        config = GeneratorConfig(**OLDER_GENERATOR | rename_settings(spec["generator"], "gan.generator"))
        self.generator = build_generator(config, spec["resolution"], self.text_encoder.dim).eval()
        for prefix, network in zip(PARTS, (self.generator, self.text_encoder), strict=True):
            mine = {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}
            network.load_state_dict(mine)

    @classmethod
    def from_pretrained(
        cls, name: str | Path, text_encoder: TextEncoder | None = None, revision: str | None = None
    ) -> "TextToImage":
        """Returns the pipeline of a checkpoint, exported weights, a run directory, an exported folder, or a hub name.

        A name on the Hugging Face hub has the form owner/name; `revision`, or owner/name@revision, is one of its
        branches, tags or commits. If the model was trained on a text encoder of your own, pass one of the same class;
        its weights are loaded into it. Raises UserError.
        """
        return cls.load(find(name, revision), text_encoder)

    @classmethod
    def load(cls, path: str | Path, text_encoder: TextEncoder | None = None) -> "TextToImage":
        """Returns the pipeline of one file, a training checkpoint (.ckpt) or exported weights (.safetensors).

        Raises UserError.
        """
        path = Path(path)
        if not path.is_file():
            raise UserError(f"{path}: no such checkpoint; train one with `cgan train`")
        spec, tensors = read(path)
        with building(path, DAMAGED):
            return cls(spec, tensors, text_encoder, path)

    def save(self, path: str | Path, half: bool = False, posterior: bool = False) -> None:
        """Writes weights as safetensors, in half precision if `half`, with the sampler's settings in the metadata.

        With `posterior` they can redraw pictures too; raises UserError where there is none.
        """
        spec, tensors = self.weights(posterior)
        write(Path(path), tensors, half, {"sampler": json.dumps(spec)})

    def weights(self, posterior: bool = False) -> Weights:
        """Returns the sampler's settings and tensors, with those of the posterior if asked; raises UserError."""
        if not posterior:
            return Weights(self.spec, self.tensors)
        inverter = self.inverter()
        return Weights({**self.spec, INVERTER: asdict(inverter.config)}, {**self.tensors, **inverter.tensors()})

    def to(self, device: str | torch.device) -> "TextToImage":
        """Moves the networks to a device, or by "auto" to a GPU if there is one, otherwise to the CPU.

        Noise is always drawn on the CPU, so a seed means the same on each device. Raises UserError.
        """
        device = present_device() if device == "auto" else device
        try:
            for network in (self.generator, self.text_encoder, *self.inverters):
                network.to(device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0][:120]
            raise UserError(f"device {device}: not available on this machine ({reason}); take cpu") from None
        self.device = torch.device(device)
        return self

    def compile(self, batch_size: int = 1, backend: str = "inductor") -> "TextToImage":
        """Compiles the generator by torch.compile, in place: a minute or so, then faster batches of batch_size.

        Pictures equal those without it up to rounding, about 1 of 255. Call it after `to`. Raises UserError where
        torch.compile can't, for instance without a C++ compiler.
        """
        self.generator.compile(backend=backend)
        try:
            self.generate(self.noise([0] * batch_size), self.encode(["a"] * batch_size))
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"the generator can't be compiled here ({reason}); sample without compiling") from error
        return self

    @torch.inference_mode()
    def away_from(self, negative: str, guidance: float = 0.5) -> "TextToImage":
        """Returns a pipeline of the same networks that pushes each caption away from a negative one.

        guidance is from 0, which changes nothing, to MAX_GUIDANCE; more of it fits the caption less.
        """
        if not negative.strip():
            raise UserError(
                'the negative caption is empty; give one of what the picture should not show, such as "snow"'
            )
        if not 0 <= guidance <= MAX_GUIDANCE:
            raise UserError(f"guidance={guidance}: must be from 0 to {MAX_GUIDANCE}; 0.5 is a good start")
        pushing = copy(self)
        pushing.negative, pushing.guidance = self.text_encoder([negative]).sentence[0], guidance
        return pushing

    def starting_from(self, image: Any, keep: float = 1.0) -> "TextToImage":
        """Returns a pipeline of the same networks that redraws a picture by other captions, or a blend of two.

        image is a path, a PIL picture, or an array (H, W, 3) of uint8, of any size; or a list of one or two of these.
        keep is from 0, which ignores the picture, to 1, which redraws it: what its caption does not say stays.
        Raises UserError where a picture can't be read, and where there is no posterior.
        """
        from cgan.sampling.sources import read_source  # torchvision, which other sampling does without

        check_keep(keep)
        images = list(image) if isinstance(image, list | tuple) else [image]
        if not 1 <= len(images) <= MAX_SOURCES:
            raise UserError(f"{len(images)} pictures to start from: give one, or two to blend")
        starting = copy(self)
        starting.sources = [read_source(one, self.generator.resolution) for one in images]
        starting.keep = float(keep)
        starting.inverter()
        return starting

    def inverter(self, path: Path | None = None) -> "Inverter":
        """Returns the posterior that finds the noise of pictures, loaded once, from `path` if it is given.

        Raises UserError where there is none, or where that of `path` was fitted to another generator.
        """
        from cgan.sampling.inversion import (
            find_inverter,
            load_inverter,
        )  # torchvision, which other sampling does without

        if path is not None:
            self.inverters[:] = [load_inverter(path, self.sha256)]
        elif not self.inverters:
            self.inverters.append(find_inverter(self.path, *self.whole, self.sha256))
        return self.inverters[0].to(self.device)

    @torch.inference_mode()
    def start(self, noise: Tensor, captions: list[str], share: float = 0.5) -> tuple[Tensor, TextFeatures]:
        """Returns noise (B, Z) and text to generate from: as they are, or with self.keep of what is in the sources.

        Of two source pictures, share is how much comes from the second.
        """
        if not self.sources or self.keep == 0:
            return noise, self.encode(captions)
        text = self.text_encoder(captions)
        found = [self.found(one.image.expand(len(captions), -1, -1, -1), text) for one in self.sources]
        start, sentence = found[0]
        if len(found) > 1:
            start, sentence = mixed(start, found[1][0], share), torch.lerp(sentence, found[1][1], share)
        text = text._replace(sentence=torch.lerp(text.sentence, sentence, self.keep))
        return mixed(noise, start, self.keep), self.pushed(text)

    @torch.inference_mode()
    def found(self, images: Tensor, text: TextFeatures) -> tuple[Tensor, Tensor]:
        """Returns what is found in images (B, 3, H, W), uint8 at the generator's resolution: noise and sentences.

        Noise (B, Z) redraws them. Sentences (B, D) are those of the text, completed by what is in the images, and of
        the same lengths. Raises UserError where there is no posterior.
        """
        pixels, inverter = as_floats(images.to(self.device)), self.inverter()
        completed = inverter.completed(pixels, text.sentence)
        lengths = text.sentence.norm(dim=1, keepdim=True) / completed.norm(dim=1, keepdim=True).clamp(min=1e-6)
        return inverter(pixels, text, self.generator.latent_prior), completed * lengths

    def __call__(
        self,
        captions: str | list[str],
        seed: int | list[int] = 0,
        num: int = 1,
        truncation: float = 1.0,
        batch_size: int = 1,
        negative: str | None = None,
        guidance: float = 0.5,
        image: Any = None,
        keep: float = 1.0,
    ) -> Image.Image | list[Image.Image]:
        """Samples pictures: one of a single caption and seed, otherwise a list, caption by caption.

        num pictures of each caption are of the seeds seed, seed + 1, ...; a list of seeds gives each caption its own,
        or a single caption all of them. Seeds are from 0 to 2**32 - 1, integers of any kind, or arrays of them.
        negative is a caption of what not to show; see away_from. image is a picture, or a list of two to blend, that is
        redrawn by the captions, and keep is how much of it stays; see starting_from. Raises UserError for values out of
        range.
        """
        each, seeds = pairs(captions, seed, num)
        pipe = self if negative is None else self.away_from(negative, guidance)
        pipe = pipe if image is None else pipe.starting_from(image, keep)
        pictures = [Image.fromarray(picture) for picture in pipe.stream(each, seeds, truncation, batch_size)]
        alone = isinstance(captions, str) and is_single(seed) and num == 1
        return pictures[0] if alone else pictures

    def sample(self, captions: list[str], seeds: list[int], truncation: float = 1.0, batch_size: int = 1) -> np.ndarray:
        """Returns a picture of each caption with its seed, uint8 (B, H, W, 3)."""
        return np.stack(list(self.stream(captions, seeds, truncation, batch_size)))

    def stream(
        self, captions: list[str], seeds: list[int], truncation: float = 1.0, batch_size: int = 1
    ) -> Iterator[np.ndarray]:
        """Yields a picture of each caption with its seed, one after another, uint8 (H, W, 3).

        truncation below 1 scales noise towards zero: safer, less varied. Sampled alone, as by default, a picture is
        the same bit for bit whatever stands beside it; batch_size above 1 is for throughput, and changes roundings.
        Raises UserError for values out of range.
        """
        if any(not caption.strip() for caption in captions):
            raise UserError('a caption is empty; give one, for instance "a dog on grass"')
        if len(captions) != len(seeds):
            raise UserError(f"{len(captions)} captions and {len(seeds)} seeds: give as many of one as of the other")
        if not (isinstance(batch_size, Integral) and batch_size >= 1):
            raise UserError(f"batch_size={batch_size}: must be at least 1")
        check_truncation(truncation)
        seeds = [checked_seed(seed) for seed in seeds]
        for start, end in pairwise([*range(0, len(captions), batch_size), len(captions)]):
            yield from self.generate(*self.start(self.noise(seeds[start:end]) * truncation, captions[start:end]))

    def best_of(
        self, captions: list[str], seeds: list[int], num: int, score: Score, truncation: float = 1.0
    ) -> np.ndarray:
        """Returns the best of `num` candidates of each picture by `score`; the first candidate is that of `sample`."""
        chosen = []
        if not (isinstance(num, Integral) and num >= 1):
            raise UserError(f"num={num}: must be at least 1")
        check_truncation(truncation)
        for caption, seed in zip(captions, [checked_seed(seed) for seed in seeds], strict=True):
            candidates = self.candidates(caption, seed, num, truncation)
            images = as_floats(torch.from_numpy(candidates).permute(0, 3, 1, 2))
            chosen.append(candidates[int(score(images, caption).argmax())])
        return np.stack(chosen)

    def candidates(self, caption: str, seed: int, num: int, truncation: float = 1.0) -> np.ndarray:
        """Returns `num` pictures of a caption, uint8 (num, H, W, 3); the first is that of `sample`."""
        rows = self.noise([seed], num).split(1)
        return np.concatenate([self.generate(*self.start(row * truncation, [caption])) for row in rows])

    def noise(self, seeds: list[int], num: int = 1) -> Tensor:
        """Returns noise (B num, Z): `num` rows of each seed, which is from 0 to 2**32 - 1, all that torch uses."""
        dim, rows = self.generator.config.noise_dim, []
        for seed in seeds:
            generator = torch.Generator().manual_seed(checked_seed(seed))
            rows += [torch.randn(dim, generator=generator) for _ in range(num)]
        return torch.stack(rows).to(self.device)

    @torch.inference_mode()
    def encode(self, captions: list[str]) -> TextFeatures:
        """Returns the features of captions, pushed away from the negative caption where there is one."""
        return self.pushed(self.text_encoder(captions))

    def pushed(self, text: TextFeatures) -> TextFeatures:
        """Returns text pushed away from the negative caption where there is one."""
        if self.negative is None:
            return text
        return away_from(text, self.negative.to(text.sentence.device), self.guidance)

    @torch.inference_mode()
    def generate(self, noise: Tensor, text: TextFeatures) -> np.ndarray:
        """Returns the pictures of noise (B, Z) and text, uint8 (B, H, W, 3)."""
        images = self.generator(noise, text)
        return as_bytes(images).permute(0, 2, 3, 1).cpu().numpy()

    def unknown_words(self, captions: list[str]) -> list[str]:
        """Returns the words that are not in the training captions, each once."""
        return self.text_encoder.unknown_words(captions)

    def without_known_words(self, captions: list[str]) -> list[str]:
        """Returns the captions without any known word, such as emoji alone; their pictures do not depend on them."""
        if not isinstance(self.text_encoder, LSTMTextEncoder):
            return []  # it spells every word in pieces
        numbers = ((caption, self.text_encoder.vocabulary.encode(caption)) for caption in captions)
        return [caption for caption, words in numbers if set(words) <= {UNKNOWN}]

    @cached_property
    def sha256(self) -> str:
        """The SHA-256 of the weights in float32; pipelines with equal hashes sample equal pictures."""
        return hash_tensors({name: value.float() for name, value in self.tensors.items()})


def present_device() -> str:
    """Returns cuda if there is a GPU, otherwise cpu."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def is_single(seed: object) -> bool:
    """Returns whether a value is one seed and not a list of seeds.

    An array or tensor without dimensions is one seed.
    """
    return isinstance(seed, SupportsIndex) and not getattr(seed, "ndim", 0)


def checked_seed(seed: Any) -> int:
    """Returns an integer of any type as a seed.

    Raises UserError for other types, and if it is not from 0 to 2**32 - 1.
    """
    try:
        number = operator.index(seed)
    except TypeError:
        raise UserError(f"seed={seed}: must be an integer, such as 0") from None
    check_seed(f"seed={number}", number)
    return number


def check_truncation(truncation: float) -> None:
    """Raises UserError for a truncation that is negative or not finite."""
    if not (math.isfinite(truncation) and truncation >= 0):
        raise UserError(f"truncation={truncation}: must be at least 0; 1 is plain, 0.7 safer")


def pairs(captions: str | list[str], seed: int | list[int], num: int) -> tuple[list[str], list[int]]:
    """Returns captions and seeds, one of each for each picture; raises UserError for an invalid number or seed."""
    each = [captions] if isinstance(captions, str) else list(captions)
    if not (isinstance(num, Integral) and num >= 1):
        raise UserError(f"num={num}: must be at least 1")
    if is_single(seed):
        first = checked_seed(seed)
        check_seed(f"seed={first} with num={num}", first, spread=int(num) - 1)
        return [c for c in each for _ in range(num)], [first + k for _ in each for k in range(num)]
    if num != 1:
        raise UserError(f"num={num} with a list of seeds: the list determines the number; leave num out")
    if not isinstance(seed, Iterable):
        raise UserError(f"seed={seed}: must be an integer or a list of them")
    seeds = [checked_seed(one) for one in seed]
    return each * len(seeds) if len(each) == 1 else each, seeds
