"""Builds the callback that evaluates during a training, by a plan of the metrics that are possible."""

from collections.abc import Callable
from pathlib import Path

from cgan.config import RunConfig
from cgan.evaluation.plan import Plan, evaluator_of, measured_by
from cgan.interfaces import ImageTextDataset, Report
from cgan.training.callbacks.evaluation import EvaluationCallback


def evaluation_callbacks(
    plan: Plan,
    config: RunConfig,
    dataset: ImageTextDataset,
    run_dir: Path,
    captions: list[str],
    progress: Callable[[int, int], None],
    report: Report,
) -> list[EvaluationCallback]:
    """Returns the callback that evaluates by a plan; none where the data set turns out to be too small for all metrics.

    captions are those of the table of samples in W&B. progress(done, total) is called during an evaluation. report
    gets what is evaluated, what is not and why, and each evaluation's result.
    """
    plan, evaluator = evaluator_of(plan, config, dataset, run_dir, report)
    if evaluator is None:
        return []
    every, followed = config.trainer.evaluate_every, plan.followed(config.trainer.best_metric)
    what = f"{evaluator.num_captions:,} captions every {every:,} images: {measured_by(plan, config)}"
    report(f"evaluating {what}; best.ckpt follows {followed}")
    callback = EvaluationCallback(
        evaluator=evaluator, noise_dim=config.gan.generator.noise_dim, every_images=every, followed=followed,
        folder=run_dir, captions=captions, progress=progress, report=report,
    )  # fmt: skip
    return [callback]
