"""Steps on a GPU are those on a CPU."""
import pytest
import torch
from steps import ENGINES, prepared


@pytest.mark.gpu
@pytest.mark.parametrize("kind", [kind for kind in ENGINES if "half precision" not in kind])
def test_losses_and_weights_are_those_of_the_cpu(tiny_config, kind):
    found = []
    with torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, allow_tf32=False):
        for device in ("cpu", "cuda"):
            # Of dropout a GPU draws other numbers.
            engine, batches, _ = prepared(tiny_config, kind, device=device, **{"model.dropout": 0.0})
            for engine.batch_idx, data in batches:
                engine.forward_backward(data)
            # Adam takes what rounding leaves of a vanishing gradient for a whole step of the architecture.
            alphas = {"logits", "alpha"}
            state = {name: value.cpu() for name, value in engine.model.state_dict().items() if name.split(".")[-1] not in alphas}
            found.append((engine._readings.means(), state))
    (expected, expected_state), (losses, state) = found
    assert losses == pytest.approx(expected, rel=2e-3)
    torch.testing.assert_close(state, expected_state, rtol=2e-2, atol=2e-3)
