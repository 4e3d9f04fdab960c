"""Muon (Jordan et al. 2024): an optimizer with orthogonalised steps for the matrices inside a network."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.optim.adam import adam

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
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if group["orthogonal"]:
                for weight in weights:
                    self.step_orthogonally(weight, group["lr"], group["momentum"])
            elif weights:
                self.step_by_adam(weights, group["lr"], group["betas"])

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

    def step_orthogonally(self, weight: Tensor, rate: float, momentum: float) -> None:
        """Moves a matrix, or a convolution's weight as one, along its orthogonalised gradient."""
        state, gradient = self.state[weight], weight.grad
        assert gradient is not None  # weights without one are passed over in `step`
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        average = state["momentum"].lerp_(gradient, 1 - momentum)
        with torch.autocast(weight.device.type, enabled=False):  # in bfloat16 the iteration does not converge
            direction = orthogonalised(gradient.lerp(average, momentum).flatten(1))  # Nesterov's look ahead
        weight.add_(direction.view_as(weight), alpha=-0.2 * rate * max(direction.shape) ** 0.5)

    def step_by_adam(self, weights: list[Tensor], rate: float, betas: tuple[float, float]) -> None:
        """Moves weights by torch's fused Adam."""
        for weight in weights:
            if not self.state[weight]:
                start = {"exp_avg": torch.zeros_like(weight), "exp_avg_sq": torch.zeros_like(weight)}
                self.state[weight] |= start | {"step": torch.zeros((), device=weight.device)}
        names = "exp_avg", "exp_avg_sq", "step"
        means, squares, steps = ([self.state[weight][name] for weight in weights] for name in names)
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        adam(
            weights, gradients, means, squares, [], steps, fused=True, amsgrad=False,
            beta1=betas[0], beta2=betas[1], lr=rate, weight_decay=0.0, eps=1e-8, maximize=False,
        )  # fmt: skip


def orthogonalised(matrix: Tensor, num_steps: int = 5) -> Tensor:
    """Returns about U V^T of a matrix's singular value decomposition U S V^T, by Newton and Schulz's iteration.

    Each iteration multiplies by a polynomial of the smaller of X X^T and X^T X; they are gathered in a square of that
    size, so that only the first and the last product touch the long side.
    """
    wide = matrix.shape[0] <= matrix.shape[1]
    gram = matrix @ matrix.t() if wide else matrix.t() @ matrix
    size = gram.trace() + 1e-14  # of the matrix, squared
    gram, product = gram / size, size.rsqrt()
    a, b, c = QUINTIC
    for step in range(num_steps):
        factor = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal().add_(a)
        product = factor * product if step == 0 else factor @ product
        if step < num_steps - 1:
            gram = factor @ gram @ factor
    return product @ matrix if wide else matrix @ product
