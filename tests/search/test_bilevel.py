"""BilevelOptimizer on a quadratic, whose hypergradient is known in closed form; all in float64."""
from __future__ import annotations

import pytest
import torch
from torch import nn

from torchreid_nas.errors import InputError
from torchreid_nas.files import load_checkpoint, save_checkpoint
from torchreid_nas.search import BilevelOptimizer

W, ALPHA = 5, 3


class Quadratic:
    """L_train = wᵀAw/2 + wᵀBα and L_val = wᵀCw/2 + wᵀDα + αᵀEα/2, with w in two parameters (2 and 3 numbers)."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        a, c = (torch.randn(W, W, generator=generator, dtype=torch.float64) for _ in range(2))
        self.A, self.C = a @ a.T / W, c @ c.T / W
        self.B, self.D = (torch.randn(W, ALPHA, generator=generator, dtype=torch.float64) for _ in range(2))
        self.E = torch.eye(ALPHA, dtype=torch.float64)
        start = torch.randn(W, generator=generator, dtype=torch.float64)
        self.head, self.tail = nn.Parameter(start[:2].clone()), nn.Parameter(start[2:].clone())
        self.alpha = nn.Parameter(torch.randn(ALPHA, generator=generator, dtype=torch.float64))

    @property
    def w(self) -> torch.Tensor:
        return torch.cat((self.head, self.tail))

    def train_loss(self) -> torch.Tensor:
        return self.w @ self.A @ self.w / 2 + self.w @ self.B @ self.alpha

    def val_loss(self) -> torch.Tensor:
        return self.w @ self.C @ self.w / 2 + self.w @ self.D @ self.alpha + self.alpha @ self.E @ self.alpha / 2

    def hypergradient(self, rates: torch.Tensor, weight_decay: float, momentum: torch.Tensor) -> torch.Tensor:
        """dL_val(w', α)/dα with w' = w − rates · (∇_w L_train + decay · w + momentum), so dw'/dα = −rates · B."""
        w, alpha = self.w.detach(), self.alpha.detach()
        after = w - rates * (self.A @ w + self.B @ alpha + weight_decay * w + momentum)
        return self.D.T @ after + self.E @ alpha - self.B.T @ (rates * (self.C @ after + self.D @ alpha))


def values(*parameters: torch.Tensor) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in parameters]


@pytest.fixture
def problem() -> Quadratic:
    return Quadratic()


def bilevel(problem: Quadratic, order: int, rates=(0.1, 0.1), grad_clip: float = 0.0, **sgd) -> BilevelOptimizer:
    groups = [{"params": [problem.head], "lr": rates[0]}, {"params": [problem.tail], "lr": rates[1]}]
    return BilevelOptimizer(
        torch.optim.SGD(groups, **sgd), torch.optim.SGD([problem.alpha], lr=0.05), order=order, grad_clip=grad_clip,
    )


# -- architecture steps -------------------------------------------------------


@pytest.mark.parametrize("sgd", [
    {}, {"weight_decay": 0.3}, {"momentum": 0.9}, {"momentum": 0.9, "weight_decay": 0.3},
], ids=["plain", "decay", "momentum", "both"])
@pytest.mark.parametrize("rates", [(0.1, 0.1), (0.2, 0.01)], ids=["one rate", "two rates"])
def test_second_order_is_the_exact_hypergradient(problem, sgd, rates):
    optimizer = bilevel(problem, 2, rates, **sgd)
    for _ in range(3):
        optimizer.step_weights(problem.train_loss())
        buffers = [optimizer.weight_optimizer.state[p].get("momentum_buffer") for p in (problem.head, problem.tail)]
        momentum = sgd["momentum"] * torch.cat(buffers) if "momentum" in sgd else torch.zeros(W, dtype=torch.float64)
        per_weight = torch.tensor([rates[0]] * 2 + [rates[1]] * 3, dtype=torch.float64)
        expected = problem.hypergradient(per_weight, sgd.get("weight_decay", 0.0), momentum)
        alpha = problem.alpha.detach().clone()
        optimizer.step_architecture(problem.val_loss, problem.train_loss)
        torch.testing.assert_close(problem.alpha.grad, expected, rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(problem.alpha.detach(), alpha - 0.05 * expected, rtol=1e-8, atol=1e-8)


def test_the_virtual_step_is_the_step_that_the_weight_optimiser_takes(problem):
    optimizer = bilevel(problem, 2, (0.2, 0.01), momentum=0.9, weight_decay=0.3)
    optimizer.step_weights(problem.train_loss())
    seen = []

    def validation():
        seen.append(problem.w.detach().clone())
        return problem.val_loss()

    alpha = problem.alpha.detach().clone()
    optimizer.step_architecture(validation, problem.train_loss)
    with torch.no_grad():
        problem.alpha.copy_(alpha)
    optimizer.step_weights(problem.train_loss())
    torch.testing.assert_close(seen[0], problem.w.detach(), rtol=1e-12, atol=1e-12)


def test_first_order_is_the_gradient_at_the_current_weights(problem):
    optimizer = bilevel(problem, 1, momentum=0.9)
    optimizer.step_weights(problem.train_loss())
    (expected,) = torch.autograd.grad(problem.val_loss(), problem.alpha)
    loss = optimizer.step_architecture(problem.val_loss)
    torch.testing.assert_close(problem.alpha.grad, expected, rtol=0, atol=0)
    assert not loss.requires_grad


@pytest.mark.parametrize("order", [1, 2])
def test_of_several_closures_the_mean_counts(problem, order):
    other = Quadratic()
    tripled = lambda: 3 * problem.val_loss()
    once, several = bilevel(other, order), bilevel(problem, order)
    expected = once.step_architecture(lambda: 2 * other.val_loss(), other.train_loss)
    found = several.step_architecture([problem.val_loss, tripled], [problem.train_loss, problem.train_loss])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(problem.alpha.grad, other.alpha.grad, rtol=1e-9, atol=1e-9)


def test_both_orders_return_a_validation_loss_and_differ_in_the_gradient(problem):
    other = Quadratic()
    first, second = bilevel(problem, 1), bilevel(other, 2)
    expected = problem.val_loss().item()
    assert first.step_architecture(problem.val_loss).item() == pytest.approx(expected)
    assert not second.step_architecture(other.val_loss, other.train_loss).requires_grad
    assert (problem.alpha.grad - other.alpha.grad).abs().max() > 1e-2


def test_without_a_rate_second_order_is_first_order(problem):
    other = Quadratic()
    bilevel(problem, 1).step_architecture(problem.val_loss)
    bilevel(other, 2, (0.0, 0.0)).step_architecture(other.val_loss, other.train_loss)
    torch.testing.assert_close(other.alpha.grad, problem.alpha.grad, rtol=1e-12, atol=1e-12)


def test_a_validation_loss_without_weights_has_no_implicit_term(problem):
    optimizer = bilevel(problem, 2)
    optimizer.step_architecture(lambda: (problem.alpha ** 2).sum(), problem.train_loss)
    torch.testing.assert_close(problem.alpha.grad, 2 * Quadratic().alpha.detach())


def test_adam_takes_the_plain_gradient_step_of_darts(problem):
    optimizer = BilevelOptimizer(
        torch.optim.Adam([problem.head, problem.tail], lr=0.1), torch.optim.SGD([problem.alpha], lr=0.05), order=2,
    )
    optimizer.step_weights(problem.train_loss())
    zeros = torch.zeros(W, dtype=torch.float64)
    expected = problem.hypergradient(torch.full((W,), 0.1, dtype=torch.float64), 0.0, zeros)
    optimizer.step_architecture(problem.val_loss, problem.train_loss)
    torch.testing.assert_close(problem.alpha.grad, expected, rtol=1e-8, atol=1e-8)


# -- who touches what ---------------------------------------------------------


@pytest.mark.parametrize("order", [1, 2])
def test_an_architecture_step_leaves_weights_and_their_state_to_the_bit(problem, order):
    optimizer = bilevel(problem, order, momentum=0.9)
    optimizer.step_weights(problem.train_loss())
    buffers = [optimizer.weight_optimizer.state[p]["momentum_buffer"] for p in (problem.head, problem.tail)]
    before = values(problem.head, problem.tail, *buffers, problem.head.grad, problem.tail.grad)
    alpha = problem.alpha.detach().clone()
    optimizer.step_architecture(problem.val_loss, problem.train_loss)
    after = values(problem.head, problem.tail, *buffers, problem.head.grad, problem.tail.grad)
    assert all(torch.equal(x, y) for x, y in zip(before, after))
    assert not torch.equal(problem.alpha, alpha)


def test_a_weight_step_leaves_the_architecture_and_its_gradient_to_the_bit(problem):
    optimizer = bilevel(problem, 1)
    optimizer.step_architecture(problem.val_loss)
    before, start = values(problem.alpha, problem.alpha.grad), problem.w.detach().clone()
    optimizer.step_weights(problem.train_loss())
    assert all(torch.equal(x, y) for x, y in zip(before, (problem.alpha, problem.alpha.grad)))
    assert not torch.equal(problem.w, start)


def test_second_order_perturbs_weights_and_never_the_logits(problem):
    optimizer = bilevel(problem, 2)
    start, alpha = problem.w.detach().clone(), problem.alpha.detach().clone()
    seen = []

    def training():
        assert torch.equal(problem.alpha, alpha)
        seen.append(problem.w.detach().clone())
        return problem.train_loss()

    def validation():
        assert torch.equal(problem.alpha, alpha)
        return problem.val_loss()

    optimizer.step_architecture(validation, training)
    first, plus, minus = seen
    assert torch.equal(first, start)
    torch.testing.assert_close(plus + minus, 2 * start, rtol=1e-12, atol=1e-12)
    assert torch.linalg.vector_norm(plus - start).item() == pytest.approx(0.01)


def test_second_order_has_the_same_random_numbers_in_every_pass_and_others_in_the_next_step(problem):
    optimizer = bilevel(problem, 2)
    steps = []

    def training():
        steps[-1].append(torch.rand(()).item())
        return problem.train_loss()

    for _ in range(2):
        steps.append([])
        optimizer.step_architecture(problem.val_loss, training)
    assert [len(step) for step in steps] == [3, 3]
    assert all(len(set(step)) == 1 for step in steps) and steps[0] != steps[1]


def test_a_closure_that_raises_leaves_the_weights(problem):
    optimizer = bilevel(problem, 2)
    before = values(problem.head, problem.tail, problem.alpha)
    calls = iter([problem.train_loss, problem.train_loss])
    with pytest.raises(StopIteration):
        optimizer.step_architecture(problem.val_loss, lambda: next(calls)())
    assert all(torch.equal(x, y) for x, y in zip(before, (problem.head, problem.tail, problem.alpha)))


def test_the_weights_gradient_is_clipped_over_all_of_them(problem):
    start = problem.w.detach().clone()
    gradient = torch.cat(torch.autograd.grad(problem.train_loss(), [problem.head, problem.tail]))
    bilevel(problem, 1, grad_clip=0.5).step_weights(problem.train_loss())
    assert gradient.norm() > 0.5
    torch.testing.assert_close(problem.w.detach(), start - 0.1 * gradient * 0.5 / gradient.norm(), rtol=1e-5, atol=1e-7)


# -- convergence and resume ---------------------------------------------------


def run(problem: Quadratic, optimizer: BilevelOptimizer, steps: int) -> None:
    for _ in range(steps):
        optimizer.step_weights(problem.train_loss())
        optimizer.step_architecture(problem.val_loss, problem.train_loss)


def adam(problem: Quadratic) -> BilevelOptimizer:
    return BilevelOptimizer(
        torch.optim.SGD([problem.head, problem.tail], lr=0.05, momentum=0.9),
        torch.optim.Adam([problem.alpha], lr=0.01, betas=(0.5, 0.999), weight_decay=5e-4), order=2,
    )


def test_a_saved_search_goes_on_to_the_same_bits(tmp_path, problem):
    run(problem, adam(problem), 9)
    part = Quadratic()
    first = adam(part)
    run(part, first, 4)
    parameters = values(part.head, part.tail, part.alpha)
    save_checkpoint(tmp_path / "search.pth", {"search": first.state_dict(), "values": parameters})
    state, resumed = load_checkpoint(tmp_path / "search.pth"), Quadratic()
    with torch.no_grad():
        for parameter, value in zip((resumed.head, resumed.tail, resumed.alpha), state["values"]):
            parameter.copy_(value)
    second = adam(resumed)
    second.load_state_dict(state["search"])
    run(resumed, second, 5)
    assert torch.equal(resumed.w, problem.w) and torch.equal(resumed.alpha, problem.alpha)


# -- what is refused ----------------------------------------------------------


def test_an_architecture_parameter_among_the_weights_is_refused(problem):
    with pytest.raises(InputError, match="architecture parameter is also in the weight optimiser"):
        BilevelOptimizer(torch.optim.SGD([problem.head, problem.alpha], lr=0.1), torch.optim.Adam([problem.alpha]))


@pytest.mark.parametrize("order", [0, 3, "2"])
def test_another_order_is_refused(problem, order):
    with pytest.raises(InputError, match=f"search.order is {order}, expected 1 .first order. or 2"):
        bilevel(problem, order)


def test_second_order_without_the_training_loss_is_refused(problem):
    with pytest.raises(InputError, match="second order needs the training loss too"):
        bilevel(problem, 2).step_architecture(problem.val_loss)
