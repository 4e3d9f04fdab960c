"""Muon (Jordan et al. 2024): an optimizer with orthogonalised steps for the matrices inside a network."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

EARLIER_NAMES = {"mean": "exp_avg", "square": "exp_avg_sq"}  # in the optimizer's state of old checkpoints
QUINTIC = 3.4445, -4.7750, 2.0315  # Jordan's coefficients, steepest at zero


class Muon(torch.optim.Optimizer):
    """Optimizes by Muon in groups with orthogonal=True, and by Adam in the others, under one schedule.

    torch.optim.Muon takes nothing but matrices; here the weight of a convolution is one, (C', C k k). A step has
    Adam's size at the same rate, about 0.2 for each entry (Liu et al. 2025, "Muon is scalable", equation 4).
    """

    def __init__(
        self, groups: Iterable[dict], betas: tuple[float, float] = (0.9, 0.99), momentum: float = 0.95
    ) -> None:
        super().__init__(groups, {"lr": 1e-3, "betas": betas, "momentum": momentum, "orthogonal": False})

    @torch.no_grad()
    def step(self, closure: Callable[[], None] | None = None) -> None:
        """Takes one step, after the closure where there is one: Lightning's on_before_optimizer_step runs in it."""
        if closure is not None:
            with torch.enable_grad():
                closure()
        by_adam: dict[tuple, list[Tensor]] = {}  # weights by their rate and betas, as torch's kernel takes one of each
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if group["orthogonal"]:
                self.step_orthogonally(weights, group["lr"], group["momentum"])
            else:
                by_adam.setdefault((group["lr"], group["betas"]), []).extend(weights)
        for (rate, betas), weights in by_adam.items():
            self.step_by_adam(weights, rate, betas)

    def load_state_dict(self, state_dict: dict) -> None:
        """Restores a state_dict(), on the device of each weight; states with earlier names are understood.

        The number of steps has to be moved here: torch leaves it on the CPU, to which checkpoints are loaded, unless
        the group has fused=True, and Lightning never moves it.
        """
        super().load_state_dict(state_dict)
        for weight, state in self.state.items():
            for old, new in EARLIER_NAMES.items():
                if old in state:
                    state[new] = state.pop(old)
            if "step" in state:
                state["step"] = state["step"].to(weight.device)

    def step_orthogonally(self, weights: list[Tensor], rate: float, momentum: float) -> None:
        """Moves matrices, or convolutions' weights as such, along their orthogonalised gradients."""
        if not weights:
            return
        for weight in weights:
            if not self.state[weight]:
                self.state[weight]["momentum"] = torch.zeros_like(weight)
        averages, gradients = [self.state[weight]["momentum"] for weight in weights], gradients_of(weights)
        torch._foreach_lerp_(averages, gradients, 1 - momentum)  # pyright: ignore[reportPrivateImportUsage]
        ahead = torch._foreach_lerp(gradients, averages, momentum)  # pyright: ignore[reportPrivateImportUsage]  # Nesterov
        with torch.autocast(weights[0].device.type, enabled=False), without_tf32():  # coarser it does not converge
            directions = orthogonalised([as_matrix(x) for x in ahead])
        by_size: dict[int, list[tuple[Tensor, Tensor]]] = {}  # a weight and its step, by the long side of its matrix
        for weight, direction in zip(map(channels_last, weights), directions, strict=True):
            by_size.setdefault(max(direction.shape), []).append((weight, direction.view_as(weight)))
        for size, pairs in by_size.items():
            moved, steps = zip(*pairs, strict=True)
            torch._foreach_add_(moved, steps, alpha=-0.2 * rate * size**0.5)  # pyright: ignore[reportPrivateImportUsage]

    def step_by_adam(self, weights: list[Tensor], rate: float, betas: tuple[float, float]) -> None:
        """Moves weights by torch's fused Adam."""
        if not weights:
            return
        for weight in weights:
            if not self.state[weight]:
                start = {"exp_avg": torch.zeros_like(weight), "exp_avg_sq": torch.zeros_like(weight)}
                self.state[weight] |= start | {"step": torch.zeros((), device=weight.device)}
        names = "exp_avg", "exp_avg_sq", "step"
        means, squares, steps = ([self.state[weight][name] for weight in weights] for name in names)
        one = [torch.ones_like(steps[0])] * len(steps)  # on a CPU a plain number becomes a tensor for each weight
        torch._foreach_add_(steps, one)  # pyright: ignore[reportPrivateImportUsage]
        torch._fused_adam_(  # pyright: ignore[reportPrivateImportUsage]
            weights, gradients_of(weights), means, squares, [], steps, amsgrad=False,
            beta1=betas[0], beta2=betas[1], lr=rate, weight_decay=0.0, eps=1e-8, maximize=False,
        )  # fmt: skip


@contextmanager
def without_tf32() -> Iterator[None]:
    """Has matrix products on GPUs keep all bits of float32 within the block."""
    products = torch.backends.cuda.matmul
    before, products.fp32_precision = products.fp32_precision, "ieee"
    try:
        yield
    finally:
        products.fp32_precision = before


def gradients_of(weights: list[Tensor]) -> list[Tensor]:
    """Returns the gradients of weights, all of which must have one."""
    return [weight.grad for weight in weights if weight.grad is not None]


def channels_last(weight: Tensor) -> Tensor:
    """Returns a view of a convolution's weight with its input channels last, (C', K, K, C); others as they are."""
    return weight.permute(0, 2, 3, 1) if weight.dim() == 4 else weight


def as_matrix(weight: Tensor) -> Tensor:
    """Returns a weight as a matrix; a convolution's is (C', K K C), to which its numbers need not move in memory."""
    return channels_last(weight).flatten(1)


def orthogonalised(matrices: Sequence[Tensor], num_steps: int = 5) -> list[Tensor]:
    """Returns about U V^T of each matrix's singular value decomposition U S V^T, by Newton and Schulz's iteration.

    Each iteration multiplies by a polynomial of the smaller of X X^T and X^T X, a square of the short side. Squares of
    one size are iterated together, and only the first and the last product touch the long side.
    """
    wide = [x if x.shape[0] <= x.shape[1] else x.t() for x in matrices]
    found: list[Tensor] = list(wide)
    for size in dict.fromkeys(len(x) for x in wide):
        chosen = [i for i, x in enumerate(wide) if len(x) == size]
        factors = inverse_roots(torch.stack([wide[i] @ wide[i].t() for i in chosen]), num_steps)
        for i, factor in zip(chosen, factors.unbind(), strict=True):
            product = factor @ wide[i]
            found[i] = product if wide[i] is matrices[i] else product.t()
    return found


def inverse_roots(grams: Tensor, num_steps: int) -> Tensor:
    """Returns about (X X^T)^(-1/2) of each X X^T, both (N, M, M), by Newton and Schulz's iteration."""
    a, b, c = QUINTIC
    sizes = grams.diagonal(dim1=1, dim2=2).sum(dim=1)[:, None, None] + 1e-14  # of the matrices, squared
    grams, product = grams / sizes, sizes.rsqrt()
    for step in range(num_steps):
        factor = torch.baddbmm(grams, grams, grams, beta=b, alpha=c)
        factor.diagonal(dim1=1, dim2=2).add_(a)
        product = factor * product if step == 0 else factor.bmm(product)
        if step < num_steps - 1:
            grams = factor.bmm(grams).bmm(factor)
    return product
