"""cgan judge: train the judge of scenes, and show what it reads and what it rejects."""

import argparse
import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from cgan.cli.parsing import Parser
from cgan.cli.unused import refuse_unused
from cgan.errors import UserError
from cgan.files import check_writable_file, write_bytes, write_json
from cgan.ranges import Range, check_number, check_seed
from cgan.workers import in_parallel


def main(arguments: list[str]) -> None:
    """Train on scenes against their unrecognisable likes; write weights and the table of its errors."""
    options = parser().parse_args(arguments)
    options.out = options.out or Path(f"assets/judge{'' if options.level == 'one' else '-two'}.safetensors")
    check(options)
    import torch

    torch.manual_seed(options.seed)
    kinds = ["real"] * options.num_images + spoilt_kinds(options.num_images, options.level)
    images, values, kinds = pictures(kinds, options.level, seed=options.seed)
    print(f"drew {len(kinds)} pictures", flush=True)
    images, values, kinds = with_young(images, values, kinds, options)
    judge = train(images, values, torch.tensor([kind == "real" for kind in kinds]), options)
    table = examine(judge, options)
    save(judge, table, options.out)
    print(json.dumps(table, indent=2))
    print(options.out)


def parser() -> argparse.ArgumentParser:
    result = Parser(prog="cgan judge", description="Train the judge that reads scenes.")
    result.add_argument("--level", choices=("one", "two"), default="one", help="objects in a scene")
    result.add_argument("--num-images", type=int, default=30_000, help="real scenes; as many unrecognisable ones")
    result.add_argument("--images", type=int, default=600_000, help="pictures seen in training")
    result.add_argument("--young", type=Path, nargs="*", default=[], help="checkpoints whose pictures nobody can read")
    result.add_argument("--young-images", type=int, default=1500, help="pictures of each young checkpoint")
    result.add_argument("--test-images", type=int, default=3600, help="of each sort, for the table of errors")
    result.add_argument("--seed", type=int, default=0)
    result.add_argument("--out", type=Path, help="default: assets/judge.safetensors, or assets/judge-two.safetensors")
    return result


def check(options: argparse.Namespace) -> None:
    """Raise UserError for what is wrong at first sight."""
    check_seed(f"--seed={options.seed}", options.seed, spread=1)
    for name in ("num_images", "images", "young_images", "test_images"):
        least = 128 if name == "images" else 1  # a batch
        check_number(f"--{name.replace('_', '-')}={getattr(options, name)}", getattr(options, name), Range(least))
    if not options.young:
        refuse_unused(options, parser(), ["young_images"], "without --young")
    for checkpoint in options.young:
        if not checkpoint.is_file():
            raise UserError(f"--young {checkpoint}: no such checkpoint")
    check_writable_file(options.out, "give another --out")


class Lesson(NamedTuple):
    """What the judge of a level is to learn."""

    level: object  # cgan.data.scenes.dataset.Level
    kinds: tuple[str, ...]  # of unrecognisable pictures
    spoil: Callable
    num_values: tuple[int, ...]  # of each attribute


def lesson_of(level: str) -> Lesson:
    from cgan.metrics.scenes import JudgeConfig

    if level == "one":
        from cgan.data.scenes.corruptions import KINDS, spoil
        from cgan.data.scenes.dataset import ONE

        return Lesson(ONE, KINDS, spoil, JudgeConfig().num_values)
    from cgan.data.scenes.pair_corruptions import PAIR_KINDS, spoil_pair
    from cgan.data.scenes.two_objects import TWO
    from cgan.metrics.two_objects import NUM_VALUES

    return Lesson(TWO, PAIR_KINDS, spoil_pair, NUM_VALUES)


def spoilt_kinds(num_images: int, level: str) -> list[str]:
    kinds = lesson_of(level).kinds
    return [kinds[i % len(kinds)] for i in range(num_images)]


def drawn(job: tuple[str, str, int, int, str | None]):
    """One picture of a kind, with its scene; the split is any when None."""
    import numpy as np

    kind, level, seed, index, split = job
    lesson, rng = lesson_of(level), np.random.default_rng([seed, 77, index])
    scene = lesson.level.sample(rng, split or ("heldout" if rng.random() < 0.1 else "seen"))
    return (lesson.level.draw(scene, 64, rng) if kind == "real" else lesson.spoil(kind, scene, 64, rng)), scene


def pictures(kinds: list[str], level: str, seed: int, split: str | None = None):
    """Pictures uint8 (N, 3, 64, 64), their scenes (N, attributes) and kinds."""
    import numpy as np
    import torch

    jobs, context = [(kind, level, seed, i, split) for i, kind in enumerate(kinds)], get_context("spawn")
    with in_parallel(drawn, jobs, 64, context=context) as results:  # a fork would inherit torch's threads, and hang
        pairs = list(results)
    images = torch.from_numpy(np.stack([image for image, _ in pairs])).permute(0, 3, 1, 2).contiguous()
    return images, torch.tensor([scene for _, scene in pairs]), kinds


def with_young(images, values, kinds: list[str], options):
    """The pictures together with those of young generators."""
    import torch

    for checkpoint in options.young:
        young = young_pictures(checkpoint, options.young_images, options.seed, options.level)
        images = torch.cat([images, young])
        values = torch.cat([values, torch.zeros(len(young), values.shape[1], dtype=values.dtype)])
        kinds = [*kinds, *["young"] * len(young)]
    return images, values, kinds


def young_pictures(checkpoint: Path, count: int, seed: int, level: str):
    """What a checkpoint draws for captions of random scenes, uint8 (count, 3, 64, 64)."""
    import numpy as np
    import torch
    from torchvision.transforms.v2.functional import resize

    from cgan.sampling.pipeline import TextToImage

    level, rng = lesson_of(level).level, np.random.default_rng([seed, 78])
    captions = [level.describe(level.sample(rng, "seen"), rng) for _ in range(count)]
    images = TextToImage.load(checkpoint).sample(captions, [(seed * 1_000_003 + i) % 2**32 for i in range(count)])
    images = torch.from_numpy(images).permute(0, 3, 1, 2)
    return resize(images, [64, 64], antialias=True).contiguous()


def train(images, values, recognisable, options):
    """Cross-entropy of each attribute on real scenes, and of being recognisable on all."""
    import torch
    from torch.nn import functional as F

    from cgan.data.scenes.corruptions import slightly_changed
    from cgan.metrics.scenes import JudgeConfig, SceneJudge
    from cgan.pixels import as_floats

    config, batch_size = JudgeConfig(num_values=lesson_of(options.level).num_values), 128
    judge = SceneJudge(config).to(memory_format=torch.channels_last)
    steps, generator = options.images // batch_size, torch.Generator().manual_seed(options.seed)
    optimizer = torch.optim.AdamW(judge.parameters(), 2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, steps, pct_start=0.1)
    for step in range(steps):
        index = torch.randint(len(images), (batch_size,), generator=generator)
        known = recognisable[index]
        batch = slightly_changed(as_floats(images[index]), generator)
        logits, score, _ = judge(batch.contiguous(memory_format=torch.channels_last))
        loss = F.binary_cross_entropy_with_logits(score, known.float())
        for head, target in zip(logits, values[index].t(), strict=True):
            loss = loss + 0.2 * F.cross_entropy(head[known], target[known])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"step {step} of {steps}: loss {loss.item():.4f}", flush=True)
    return judge.eval()


def examine(judge, options) -> dict:
    """On pictures that it never saw: accuracy on real scenes, and the share of each unrecognisable kind rejected."""
    import torch

    from cgan.pixels import as_floats

    kinds = ["real"] * options.test_images + spoilt_kinds(options.test_images, options.level)
    images, values, kinds = pictures(kinds, options.level, seed=options.seed + 1)
    reading = judge.read(as_floats(images))
    real = torch.tensor([kind == "real" for kind in kinds])
    right = (reading.values == values).all(dim=1)
    table = {
        "real: all attributes right and recognisable": share((right & reading.recognisable)[real]),
        "real: all attributes right": share(right[real]),
        "real: recognisable": share(reading.recognisable[real]),
    }
    rejected = defaultdict(list)
    for kind, recognised in zip(kinds, reading.recognisable.tolist(), strict=True):
        if kind != "real":
            rejected[kind].append(not recognised)
    for kind, answers in rejected.items():
        table[f"rejected: {kind}"] = share(torch.tensor(answers))
    for checkpoint in options.young:
        young = as_floats(young_pictures(checkpoint, 400, options.seed + 1, options.level))
        table[f"rejected: pictures of {checkpoint.stem}"] = share(~judge.read(young).recognisable)
    return table


def share(answers) -> float:
    return round(float(answers.float().mean()), 4)


def save(judge, table: dict, path: Path) -> None:
    """Weights in half precision, and beside them the table as JSON."""
    from safetensors.torch import save

    weights = {name: value.half().contiguous() for name, value in judge.state_dict().items()}
    write_bytes(path, save(weights, metadata={"judge": json.dumps(asdict(judge.config))}))
    write_json(path.with_suffix(".json"), table)
