"""Losses of the GAN and of the joint encoder: functions of tensors that return a scalar."""

from collections.abc import Callable
from typing import assert_never

import torch
from torch import Tensor
from torch.nn import functional as F

from cgan.config import Adversarial
from cgan.models.layers import average_pool


def discriminator_loss(kind: Adversarial, real: Tensor, fake: Tensor, fake_weight: float = 1.0) -> Tensor:
    """Returns how badly logits of real and fake images, each (B,) or (B, heads), are told apart.

    fake_weight is that of the fakes' term; the relativistic loss, which is of pairs, has one term.
    """
    match kind:
        case "hinge":  # Lim and Ye 2017
            return F.relu(1 - real).mean() + fake_weight * F.relu(1 + fake).mean()
        case "nonsaturating":  # Goodfellow et al. 2014
            return F.softplus(-real).mean() + fake_weight * F.softplus(fake).mean()
        case "relativistic":  # R3GAN, equation 3: each real against the fake in its place
            return F.softplus(fake - real).mean()
        case unknown:
            assert_never(unknown)


def generator_loss(kind: Adversarial, fake: Tensor, real: Tensor | None = None) -> Tensor:
    """Returns how far logits of fakes, (B,) or (B, heads), are from fooling the discriminator.

    The relativistic kind needs the logits of real images too, and raises ValueError without them.
    """
    match kind:
        case "hinge":
            return -fake.mean()
        case "nonsaturating":
            return F.softplus(-fake).mean()
        case "relativistic":
            if real is None:
                raise ValueError("the relativistic loss needs the logits of real images")
            return F.softplus(real - fake).mean()
        case unknown:
            assert_never(unknown)


def mismatch_loss(kind: Adversarial, matched: Tensor, mismatched: Tensor, valid: Tensor) -> Tensor:
    """Returns the loss of real images with captions of other ones, which count as fake (Reed et al. 2016).

    matched and mismatched are logits (B, ...) of an image with its own and with the other caption. Rows where
    valid (B,) is False count as 0. It is a mean over all rows, so that micro-batches average to the whole batch.
    """
    match kind:
        case "hinge":
            loss = F.relu(1 + mismatched)
        case "nonsaturating":
            loss = F.softplus(mismatched)
        case "relativistic":
            loss = F.softplus(mismatched - matched)
        case unknown:
            assert_never(unknown)
    return (loss * valid.to(loss.dtype).view(-1, *[1] * (loss.dim() - 1))).mean()


def exact_gradient_penalty(critic: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Returns R1 on reals or R2 on fakes, the squared gradient norm of the logits' sum (Mescheder et al. 2018).

    critic gives logits of images (B, 3, H, W).
    """
    images = images.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(images).sum(), images, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean()


def finite_gradient_penalty(
    critic: Callable[[Tensor], Tensor], images: Tensor, noise: Tensor, step: float = 0.01
) -> Tensor:
    """Returns the exact penalty to first order, from differences along normal noise e.

    E[((D(x) - D(x + s e)) / s)^2] tends to |grad D|^2 for a small step s. noise has the shape of images, (B, 3, H, W).
    """
    images = images.detach()
    before, after = critic(torch.cat([images, images + step * noise])).chunk(2)
    difference = (after - before).reshape(len(images), -1).sum(dim=1)  # (B,): heads are summed, as in the exact form
    return (difference / step).square().mean()


def matching_aware_penalty(critic: Callable[[Tensor, Tensor], Tensor], images: Tensor, sentence: Tensor) -> Tensor:
    """Returns MA-GP of DF-GAN, E[|grad|^6], at matched real pairs of images and sentences (Tao et al. 2022).

    As (sum of squares)^3 its gradient has no NaN where the gradient of the logits is zero.
    """
    images, sentence = images.detach().requires_grad_(), sentence.detach().requires_grad_()
    gradients = torch.autograd.grad(critic(images, sentence).sum(), (images, sentence), create_graph=True)
    of_images, of_sentences = (gradient.flatten(1).square().sum(dim=1) for gradient in gradients)
    return (of_images + of_sentences).pow(3).mean()


# Contrastive losses compare the score of each row's own candidate, which has the row's number, with those of negatives:
# candidates of other images. They take scores (B, N), N >= B, and the image ids of rows (B,) and of candidates (N,).


def info_nce(scores: Tensor, image_ids: Tensor, candidate_ids: Tensor) -> Tensor:
    """Returns InfoNCE, where all negatives count softly (van den Oord et al. 2018); scores are over a temperature."""
    scores = scores.float().masked_fill(~negatives(image_ids, candidate_ids, keep_own=True), float("-inf"))
    return F.cross_entropy(scores, torch.arange(len(scores), device=scores.device))


def divergence_of_scores(scores: Tensor, wanted: Tensor) -> Tensor:
    """Returns KL(wanted || found) of each row's distribution over candidates, averaged over rows.

    Both are scores (B, N) over a temperature. Where a row's wanted distribution is all on its own candidate, this is
    InfoNCE; where several candidates fit equally well, none of them is pushed away (contrastive relational distillation
    in CLIP-KD, Yang et al. 2024).
    """
    found, wanted = scores.float().log_softmax(dim=1), wanted.float().log_softmax(dim=1)
    return F.kl_div(found, wanted, reduction="batchmean", log_target=True)


def hardest_negative(
    scores: Tensor, image_ids: Tensor, candidate_ids: Tensor, margin: float, hardness: float = 1.0
) -> Tensor:
    """Returns the hinge of the hardest negative of each row (VSE++, Faghri et al. 2018, equation 6).

    A training that starts with it collapses: all embeddings fall on one point, where the loss is the margin. hardness
    in [0, 1] goes from the mean over all violations (VSE0) to the hardest one.
    """
    violation = hinge_violations(scores, image_ids, candidate_ids, margin)
    hardest = violation.amax(dim=1)
    if hardness == 1:
        return hardest.mean()
    mean = violation.sum(dim=1) / negatives(image_ids, candidate_ids).sum(dim=1).clamp(min=1)
    return (hardness * hardest + (1 - hardness) * mean).mean()


def semi_hard_negative(scores: Tensor, image_ids: Tensor, candidate_ids: Tensor, margin: float) -> Tensor:
    """Returns the hinge of the hardest negative that is below the positive (FaceNet, section 3.2).

    A row without one takes the easiest negative.
    """
    scores, mask = scores.float(), negatives(image_ids, candidate_ids)
    own = scores.diagonal()[:, None]
    below = scores.masked_fill(~mask | (scores >= own), float("-inf")).amax(dim=1)
    easiest = scores.masked_fill(~mask, float("inf")).amin(dim=1)
    chosen = torch.where(below.isinf(), easiest, below)
    return F.relu(margin + chosen - own.squeeze(1)).masked_fill(chosen.isinf(), 0).mean()


def weighted_negatives(
    scores: Tensor, image_ids: Tensor, candidate_ids: Tensor, margin: float, temperature: float
) -> Tensor:
    """Returns the mean violation of negatives, weighted by softmax(score / temperature).

    That lies between all negatives (a high temperature) and the hardest one (a low one).
    """
    mask = negatives(image_ids, candidate_ids)
    violation = hinge_violations(scores, image_ids, candidate_ids, margin)
    logits = scores.detach().float() / temperature
    weights = logits.masked_fill(~mask, float("-inf")).softmax(dim=1).nan_to_num()  # a row without negatives: zeros
    return (weights * violation).sum(dim=1).mean()


def hinge_violations(scores: Tensor, image_ids: Tensor, candidate_ids: Tensor, margin: float) -> Tensor:
    """Returns how far each negative is within a margin of the row's own candidate, (B, N).

    It is 0 for candidates that are no negatives.
    """
    scores = scores.float()
    return F.relu(margin + scores - scores.diagonal()[:, None]) * negatives(image_ids, candidate_ids)


def negatives(image_ids: Tensor, candidate_ids: Tensor, keep_own: bool = False) -> Tensor:
    """Returns which candidates are of other images than the row's, (B, N) bool.

    With keep_own the row's own candidate is included.
    """
    mask = image_ids[:, None] != candidate_ids
    return mask.fill_diagonal_(True) if keep_own else mask


def multiscale_l1(images: Tensor, target: Tensor, levels: int = 3) -> Tensor:
    """Returns the L1 distance of images (B, 3, H, W), averaged over scales, so that coarse structure counts.

    Each level halves H and W, which must be even for all but the last.
    """
    difference = images - target  # whose means over patches are the differences of means
    loss = difference.abs().mean()
    for _ in range(levels - 1):
        difference = average_pool(difference, 2)
        loss = loss + difference.abs().mean()
    return loss / levels


def feature_matching_loss(maps: list[Tensor], target: list[Tensor]) -> Tensor:
    """Returns the mean L1 distance of maps (B, C, H, W), relative to the mean size of each target map."""
    pairs = [(a.float(), b.float()) for a, b in zip(maps, target, strict=True)]
    terms = [((a - b).abs().mean(dim=(1, 2, 3)) / b.abs().mean(dim=(1, 2, 3)).clamp(min=1e-3)).mean() for a, b in pairs]
    return torch.stack(terms).mean()


def spherical_distance(points: Tensor, target: Tensor) -> Tensor:
    """Returns the mean squared angle between vectors (B, E), as in StyleGAN-T (Sauer et al. 2023)."""
    points, target = F.normalize(points, dim=1), F.normalize(target, dim=1)
    half = ((points - target).norm(dim=1) / 2).clamp(max=1 - 1e-6)  # of the chord; arcsin is steepest at 1
    return (2 * half.arcsin()).square().mean()


def kl_to_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Returns KL(N(mean, exp(log_variance)) || N(0, 1)) of moments (B, Z), averaged over images (Kingma 2014)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1).mean()
