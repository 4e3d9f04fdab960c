"""Calls the functions of cgan.training.step as they are, or compiled whole by torch.compile."""

from collections.abc import Callable, Collection
from types import FunctionType
from typing import Any, ParamSpec, TypeVar, cast

import torch
from torch import Tensor
from torch._functorch import config as functorch_config

from cgan.config import GANConfig
from cgan.interfaces import Report, silent
from cgan.training import step

P = ParamSpec("P")
T = TypeVar("T")


class StepFunctions:
    """Calls functions of a training step: as they are, or compiled after `compile`.

    A function is compiled whole at its first call, for the forward and the backward pass. Where that fails, this call
    and all later ones run the functions as they are, with the same arguments, so that a training goes on.
    """

    def __init__(self) -> None:
        self.compiled: dict[Callable, Callable] = {}  # by the function that each was made of
        self.cuda_graphs = False
        self.report: Report = silent

    def compile(
        self,
        functions: Collection[Callable],
        backend: str | Callable = "inductor",
        cuda_graphs: bool = False,
        report: Report = silent,
    ) -> None:
        """Compile these functions at their first call. report gets a line where that fails.

        With cuda_graphs a function replays its kernels as CUDA graphs. The next call of any of them writes over what it
        returned, apart from dictionaries of scalars, and over gradients.
        """
        self.cuda_graphs, self.report = cuda_graphs, report
        mode = "reduce-overhead" if cuda_graphs and backend == "inductor" else None  # others know no mode
        self.compiled = {
            function: torch.compile(own_copy(function), backend=backend, mode=mode, fullgraph=True, dynamic=False)
            for function in functions
        }

    def __call__(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Returns function(*arguments, **named); an error of the function itself is raised as without compiling."""
        compiled = self.compiled.get(function)
        if compiled is None:
            return function(*arguments, **named)
        if self.cuda_graphs:
            torch.compiler.cudagraph_mark_step_begin()  # a tree of graphs for each loss, and none across two networks
        try:
            with backward_compiled_at_once():
                found = compiled(*arguments, **named)
        except Exception as error:
            found = function(*arguments, **named)
            self.fall_back(error)
            return found
        return cast(T, with_scalars_cloned(found)) if self.cuda_graphs else found

    def fall_back(self, error: Exception) -> None:
        """Call the functions as they are from now on, and report why."""
        self.compiled, self.cuda_graphs = {}, False
        reason = " ".join(str(error).split())[:200]
        self.report(f"torch.compile failed, and the training goes on without it ({type(error).__name__}: {reason})")


def own_copy(function: Callable) -> Callable:
    """Returns a function with a code object of its own: dynamo counts compilations by code object, for all GANs."""
    assert isinstance(function, FunctionType)
    code, names = function.__code__.replace(), function.__globals__
    return FunctionType(code, names, function.__name__, function.__defaults__, function.__closure__)


def backward_compiled_at_once() -> Any:
    """Returns a context in which a function's backward pass is compiled with it, not in loss.backward()."""
    return functorch_config.patch(force_non_lazy_backward_lowering=True)


def with_scalars_cloned(found: object) -> object:
    """Returns a result with copies of the tensors of dictionaries in it, which outlive the next replay of a graph."""
    if isinstance(found, dict):
        return {name: x.clone() if isinstance(x, Tensor) else x for name, x in found.items()}
    if type(found) is tuple:
        return tuple(with_scalars_cloned(part) for part in found)
    return found


def functions_to_compile(config: GANConfig, cuda_graphs: bool, report: Report) -> list[Callable]:
    """Returns the functions of a step that are called with these settings and can be compiled.

    report gets a line for a loss that can't.
    """
    if cuda_graphs or config.accumulate > 1:  # each loss is one function, which generates its own fakes
        found: list[Callable] = [step.discriminator_loss_on_new_fakes, step.generator_loss_on_new_fakes]
    else:
        found = [step.generate_fakes, step.discriminator_loss, step.generator_loss]
    if config.penalty_weight > 0 and config.penalty != "finite":
        del found[-2]
        why = "torch.compile has no gradients of gradients"
        report(f"gan.penalty={config.penalty}: the discriminator's loss is not compiled, as {why}")
    return found
