"""Bilevel optimisation of architecture search: weights on the training part, architecture on the validation part.

    min_α  L_val(w*(α), α)   with   w*(α) = argmin_w L_train(w, α)

First order takes w for w*. Second order (DARTS, Liu et al., ICLR 2019, eq. 7-8)
takes one virtual weight step w' = w − ξ ∇_w L_train(w, α) and corrects

    ∇_α L_val(w', α) − ξ · (∇_α L_train(w⁺, α) − ∇_α L_train(w⁻, α)) / 2ε,
    w± = w ± ε ∇_w' L_val(w', α),   ε = 0.01 / ‖∇_w' L_val(w', α)‖.
"""
from __future__ import annotations

__all__ = ["BilevelOptimizer"]

from collections.abc import Callable, Sequence
from typing import Any

import torch

from torchreid_nas.distributed import average
from torchreid_nas.errors import InputError

LossClosure = Callable[[], torch.Tensor]


class BilevelOptimizer:
    """Steps weights and architecture in turn; knows nothing of the meaning of either.

    Args:
        weight_optimizer: over the weights w. Must not hold an architecture parameter.
        architecture_optimizer: over the architecture parameters α.
        order: 1 or 2.
        grad_clip: largest norm of the weights' gradient; 0 leaves it alone.

    A closure computes a loss afresh from the current parameters, returns a
    scalar and does not call ``backward``. With ``order=2`` a closure is called
    several times per architecture step and must see the same batch each time;
    torch's random numbers (of dropout) are the same in all calls. The running
    statistics of BatchNorms move at every call, so ``order=2`` needs networks
    that do not read them during the search (train mode).

    Of several processes all take the architecture's step by the mean gradient. The gradient that :meth:`add_gradient` adds up is
    the mean where the loss comes from :class:`~torchreid_nas.engine.parallel.ParallelLosses`.

    Raises:
        InputError: an architecture parameter among the weights, another order.

    >>> w, alpha = torch.ones(1, requires_grad=True), torch.ones(1, requires_grad=True)
    >>> bilevel = BilevelOptimizer(torch.optim.SGD([w], lr=0.5), torch.optim.SGD([alpha], lr=0.5))
    >>> bilevel.step_weights((w * alpha).sum())
    >>> bilevel.step_architecture(lambda: (w * alpha).sum()).item(), w.item(), alpha.item()
    (0.5, 0.5, 0.75)
    """

    def __init__(
        self, weight_optimizer: torch.optim.Optimizer, architecture_optimizer: torch.optim.Optimizer,
        order: int = 1, grad_clip: float = 0.0,
    ) -> None:
        if order not in (1, 2):
            raise InputError(f"search.order is {order}, expected 1 (first order) or 2 (second order)")
        self.weight_optimizer = weight_optimizer
        self.architecture_optimizer = architecture_optimizer
        self.order = order
        self.grad_clip = grad_clip
        self.weights = _parameters(weight_optimizer)
        self.architecture = _parameters(architecture_optimizer)
        if {id(p) for p in self.weights} & {id(p) for p in self.architecture}:
            raise InputError(
                "an architecture parameter is also in the weight optimiser, which would train it on the training part; "
                "build the weight optimiser over the parameters that architecture_parameters(model) of the space does not name"
            )

    def step_weights(self, loss: torch.Tensor) -> None:
        """Take one step of w down the gradient of the training loss; α and the gradient of α stay."""
        self.weight_optimizer.zero_grad(set_to_none=True)
        self.add_gradient(loss)
        self.apply_gradient()

    def add_gradient(self, loss: torch.Tensor) -> None:
        """Add the gradient of a training loss to the gradient of w, to be applied later; the gradient of α stays."""
        _accumulate(loss, self.weights)

    def apply_gradient(self) -> None:
        """Take one step of w by the gradient that was added up."""
        if self.grad_clip > 0:
            torch.nn.utils.clip_grad_norm_(self.weights, self.grad_clip)
        self.weight_optimizer.step()

    def step_architecture(
        self, validation: LossClosure | Sequence[LossClosure], training: LossClosure | Sequence[LossClosure] | None = None,
    ) -> torch.Tensor:
        """Take one step of α down the (hyper)gradient of the validation loss; w stays.

        Args:
            validation: closure of L_val; of several (gradient accumulation) the mean counts, one graph at a time.
            training: closure or closures of L_train, needed for ``order=2``.

        Returns:
            the validation loss, detached.
        """
        validations, trainings = _closures(validation), _closures(training)
        self.architecture_optimizer.zero_grad(set_to_none=True)
        if self.order == 1:
            loss = torch.zeros(())
            for closure in validations:
                value = closure() / len(validations)
                _accumulate(value, self.architecture)
                loss = loss + value.detach()
            average(parameter.grad for parameter in self.architecture if parameter.grad is not None)
        else:
            loss = self._second_order(validations, trainings)
        self.architecture_optimizer.step()
        return loss

    def _second_order(self, validation: Sequence[LossClosure], training: Sequence[LossClosure]) -> torch.Tensor:
        if not training:
            raise InputError("second order needs the training loss too; pass its closure or set search.order 1")
        start = [w.detach().clone() for w in self.weights]
        step_sizes = _learning_rates(self.weight_optimizer)
        gpus = sorted({weight.device.index for weight in self.weights if weight.is_cuda})
        try:
            with torch.random.fork_rng(gpus):
                directions = self._virtual_directions(training)
            _shift(self.weights, directions, [-rate for rate in step_sizes])
            with torch.random.fork_rng(gpus):
                loss, gradients = _mean_gradients(validation, self.weights + self.architecture)
            by_weights, by_architecture = gradients[: len(self.weights)], gradients[len(self.weights):]

            # The implicit term differentiates the virtual step. The step size ξ differs between parameter groups, so ξ
            # belongs into the direction, not in front of the difference.
            directions = [rate * g for rate, g in zip(step_sizes, by_weights)]
            norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(d) for d in directions]))
            # Where w has no gradient both sides are equal and nothing is subtracted; an `if` would make the CPU wait for a GPU.
            epsilon = 0.01 / norm.clamp(min=torch.finfo(norm.dtype).tiny ** 0.5)
            at = []
            for sign in (1, -1):
                _restore(self.weights, start)
                _shift(self.weights, directions, [sign * epsilon] * len(directions))
                # Both sides draw the same dropout, whose difference would be divided by 2 ε. The numbers after the step go
                # on from the second side.
                with torch.random.fork_rng(gpus, enabled=sign > 0):
                    at.append(_mean_gradients(training, self.architecture)[1])
            for gradient, plus, minus in zip(by_architecture, *at):
                gradient -= (plus - minus) / (2 * epsilon)
        finally:
            _restore(self.weights, start)
        for parameter, gradient in zip(self.architecture, by_architecture):
            parameter.grad = gradient
        return loss

    def _virtual_directions(self, training: Sequence[LossClosure]) -> list[torch.Tensor]:
        """Return the direction of the virtual weight step: gradient, decay, and SGD's momentum where there is one.

        Optimisers such as Adam get the plain gradient step, as in DARTS, where
        the virtual step is one of SGD.
        """
        _, gradients = _mean_gradients(training, self.weights)
        directions, index = [], 0
        for group in self.weight_optimizer.param_groups:
            for parameter in group["params"]:
                direction = gradients[index].add(parameter.detach(), alpha=group.get("weight_decay", 0.0))
                buffer = self.weight_optimizer.state.get(parameter, {}).get("momentum_buffer")
                if buffer is not None:
                    direction = direction.add(buffer, alpha=group.get("momentum", 0.0))
                directions.append(direction)
                index += 1
        return directions

    def state_dict(self) -> dict[str, Any]:
        """Return what a search needs to go on exactly: the states of both optimisers."""
        return {"weights": self.weight_optimizer.state_dict(), "architecture": self.architecture_optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        self.weight_optimizer.load_state_dict(state["weights"])
        self.architecture_optimizer.load_state_dict(state["architecture"])


def _parameters(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _learning_rates(optimizer: torch.optim.Optimizer) -> list[float]:
    return [group["lr"] for group in optimizer.param_groups for _ in group["params"]]


def _accumulate(loss: torch.Tensor, parameters: Sequence[torch.Tensor]) -> None:
    """Call backward into ``parameters`` alone, so that neither level leaves gradients at the parameters of the other."""
    torch.autograd.backward(loss, inputs=list(parameters))


def _closures(closures: LossClosure | Sequence[LossClosure] | None) -> Sequence[LossClosure]:
    if closures is None:
        return ()
    return (closures,) if callable(closures) else closures


def _mean_gradients(
    closures: Sequence[LossClosure], parameters: Sequence[torch.Tensor],
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return the mean loss of the closures, detached, and its gradients, zero for what a loss does not depend on.

    Gradients are those of the mean over all processes, the loss is this process's.
    """
    loss = torch.zeros(())
    total: list[torch.Tensor | None] = [None] * len(parameters)
    for closure in closures:
        value = closure() / len(closures)
        gradients = torch.autograd.grad(value, parameters, allow_unused=True)
        total = [new if old is None else old if new is None else old + new for old, new in zip(total, gradients)]
        loss = loss + value.detach()
    means = [torch.zeros_like(p) if gradient is None else gradient for gradient, p in zip(total, parameters)]
    average(means)
    return loss, means


@torch.no_grad()
def _shift(parameters: Sequence[torch.Tensor], directions: Sequence[torch.Tensor], steps: Sequence[float | torch.Tensor]) -> None:
    for parameter, direction, step in zip(parameters, directions, steps):
        parameter.add_(direction * step)


@torch.no_grad()
def _restore(parameters: Sequence[torch.Tensor], values: Sequence[torch.Tensor]) -> None:
    for parameter, value in zip(parameters, values):
        parameter.copy_(value)
