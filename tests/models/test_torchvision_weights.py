"""torchvision's ImageNet files in torchreid's networks."""
import pytest
import torch
import torchreid
import torchvision

from torchreid_nas.checkpoints.load import load_weights
from torchreid_nas.errors import InputError


@pytest.mark.parametrize("theirs, ours", [
    ("resnet18", "resnet18"), ("densenet121", "densenet121"), ("mobilenet_v2", "mobilenetv2_x1_0"),
])
def test_features_equal_those_of_torchvisions_network(theirs, ours, tmp_path):
    torch.manual_seed(0)
    network = torchvision.models.get_model(theirs, weights=None).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 2)
    state = network.state_dict()
    if theirs == "densenet121":  # as the published file has them
        state = {key.replace("norm1", "norm.1").replace("conv1.", "conv.1."): value for key, value in state.items()}
    torch.save(state, tmp_path / "imagenet.pth")
    model = load_weights(torchreid.models.build_model(ours, 5, pretrained=False).eval(), tmp_path / "imagenet.pth").eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        if theirs == "resnet18":
            body = torch.nn.Sequential(*list(network.children())[:-1])
            expected = body(images).flatten(1)
        else:
            maps = network.features(images)
            expected = (maps.relu() if theirs == "densenet121" else maps).mean(dim=(2, 3))
        torch.testing.assert_close(model(images), expected, rtol=1e-4, atol=1e-5)


def test_a_file_of_another_network_is_refused(tmp_path):
    torch.save(torchvision.models.mobilenet_v2(weights=None, width_mult=0.5).state_dict(), tmp_path / "half.pth")
    model = torchreid.models.build_model("mobilenetv2_x1_0", 5, pretrained=False)
    with pytest.raises(InputError, match="of another model"):
        load_weights(model, tmp_path / "half.pth")
