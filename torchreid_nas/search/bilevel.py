"""Bilevel optimisation of architecture search: weights on the training part, architecture on the validation part.

    min_α  L_val(w*(α), α)   with   w*(α) = argmin_w L_train(w, α)

First order takes w for w*. Second order (DARTS, Liu et al., ICLR 2019, eq. 7-8)
takes one virtual weight step w' = w − ξ ∇_w L_train(w, α) and corrects

    ∇_α L_val(w', α) − ξ · (∇_α L_train(w⁺, α) − ∇_α L_train(w⁻, α)) / 2ε,
    w± = w ± ε ∇_w' L_val(w', α),   ε = 0.01 / ‖∇_w' L_val(w', α)‖.
"""
from __future__ import annotations

__all__ = ["BilevelOptimizer"]

from typing import Any, Callable, Iterable, Sequence

import torch

from torchreid_nas.errors import InputError

LossClosure = Callable[[], torch.Tensor]


class BilevelOptimizer:
    """Steps weights and architecture in turn; knows nothing of either's meaning.

    Args:
        weight_optimizer: over the weights w. Must not hold an architecture parameter.
        architecture_optimizer: over the architecture parameters α.
        order: 1 or 2.
        grad_clip: largest norm of the weights' gradient; 0 leaves it alone.

    A closure computes a loss afresh from the current parameters and returns a
    scalar; it must not call ``backward``. With ``order=2`` it is called several
    times per architecture step and must see the same batch and the same
    randomness each time. BatchNorm's running statistics move at every call;
    ``order=2`` therefore wants networks that do not read them while searching
    (train mode).

    Raises:
        InputError: an architecture parameter among the weights, another order.
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
                "build that one over the parameters that the space's architecture_parameters(model) does not name"
            )

    def step_weights(self, loss: torch.Tensor, scaler: torch.amp.GradScaler | None = None) -> None:
        """One step of w down the gradient of the training loss; α and its gradient stay as they are."""
        self.weight_optimizer.zero_grad(set_to_none=True)
        scale = scaler or torch.amp.GradScaler(enabled=False)
        _accumulate(scale.scale(loss), self.weights)
        scale.unscale_(self.weight_optimizer)
        if self.grad_clip > 0:
            torch.nn.utils.clip_grad_norm_(self.weights, self.grad_clip)
        scale.step(self.weight_optimizer)
        scale.update()

    def step_architecture(self, validation: LossClosure, training: LossClosure | None = None) -> torch.Tensor:
        """One step of α down the (hyper)gradient of the validation loss; w stays as it is.

        Args:
            validation: closure of L_val.
            training: closure of L_train, needed for ``order=2``.

        Returns:
            the validation loss, detached.
        """
        self.architecture_optimizer.zero_grad(set_to_none=True)
        if self.order == 1:
            loss = validation()
            _accumulate(loss, self.architecture)
        else:
            loss = self._second_order(validation, training)
        self.architecture_optimizer.step()
        return loss.detach()

    def _second_order(self, validation: LossClosure, training: LossClosure | None) -> torch.Tensor:
        if training is None:
            raise InputError("second order needs the training loss too; pass its closure or set search.order 1")
        start = [w.detach().clone() for w in self.weights]
        step_sizes = _learning_rates(self.weight_optimizer)
        try:
            directions = self._virtual_directions(training)
            _shift(self.weights, directions, [-rate for rate in step_sizes])
            loss = validation()
            gradients = torch.autograd.grad(loss, self.weights + self.architecture, allow_unused=True)
            by_weights = _filled(gradients[: len(self.weights)], self.weights)
            by_architecture = _filled(gradients[len(self.weights):], self.architecture)

            # The implicit term differentiates the virtual step, whose size differs between parameter groups:
            # ξ belongs into the direction, not in front of the difference.
            directions = [rate * g for rate, g in zip(step_sizes, by_weights)]
            norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(d) for d in directions]))
            if norm > 0:
                epsilon = 0.01 / norm
                at = []
                for sign in (1, -1):
                    _restore(self.weights, start)
                    _shift(self.weights, directions, [sign * epsilon] * len(directions))
                    at.append(_filled(
                        torch.autograd.grad(training(), self.architecture, allow_unused=True), self.architecture
                    ))
                for gradient, plus, minus in zip(by_architecture, *at):
                    gradient -= (plus - minus) / (2 * epsilon)
        finally:
            _restore(self.weights, start)
        for parameter, gradient in zip(self.architecture, by_architecture):
            parameter.grad = gradient
        return loss

    def _virtual_directions(self, training: LossClosure) -> list[torch.Tensor]:
        """The direction of the virtual weight step: gradient, decay, and SGD's momentum where there is one.

        Adam-like optimisers get the plain gradient step, as in DARTS, whose
        virtual step is SGD's.
        """
        gradients = _filled(torch.autograd.grad(training(), self.weights, allow_unused=True), self.weights)
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
        """Return what a search needs to go on exactly: both optimisers' states."""
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
    """Backward into ``parameters`` alone, so that neither level leaves gradients at the other's."""
    torch.autograd.backward(loss, inputs=list(parameters))


def _filled(gradients: Iterable[torch.Tensor | None], like: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    return [torch.zeros_like(p) if g is None else g for g, p in zip(gradients, like)]


@torch.no_grad()
def _shift(parameters: Sequence[torch.Tensor], directions: Sequence[torch.Tensor], steps: Sequence) -> None:
    for parameter, direction, step in zip(parameters, directions, steps):
        parameter.add_(direction * step)


@torch.no_grad()
def _restore(parameters: Sequence[torch.Tensor], values: Sequence[torch.Tensor]) -> None:
    for parameter, value in zip(parameters, values):
        parameter.copy_(value)
