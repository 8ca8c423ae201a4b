"""Inference of deployed networks, batch 32 at 256x128: what each step from the plain to the fastest form brings.

Plain is the network in eval mode, float32, NCHW. Ours is its deployed form (BatchNorms folded), channels-last, in
bfloat16 where the hardware computes it, convolutions fused with ReLUs and sums, weights laid out once; last, compiled.
OSNet x1.0 is torchreid's, under the same treatment. Untrained networks, their BatchNorms calibrated: time depends on no weight.
"""
from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping

import torch
import torchreid
from harness import Limits, Turns, arguments, flops_of, machine, measure_limits, peak_memory, synchronize, take_turns
from results import Report
from torch import nn

from torchreid_nas.device import computes_bfloat16
from torchreid_nas.layers import modality_context
from torchreid_nas.models import DeployedNetwork, cdnet, deploy_network, two_stream_resnet50

HEIGHT, WIDTH = 256, 128
CDNET, TWO_STREAM, OSNET = "CDNet", "two-stream ResNet-50", "OSNet x1.0"
PLAIN, BF16, COMPILED = "plain: eval mode, fp32, NCHW", "ours: bf16, channels-last, fused", "ours, compiled"
FOLDED, CHANNELS_LAST, FUSED = "BatchNorms folded", "folded, channels-last", "folded, channels-last, fused"
COMPILED_FP32 = "ours, compiled, fp32"
# Times faster than plain, for the two networks of this package; CDNet against OSNet in either form.
TARGETS = {BF16: 4.0, COMPILED: 6.0}
OVER_OSNET = 1.15
# Error of ours in bfloat16 as a multiple of that of the network whose every layer rounds.
MOST_ERROR = 1.2

Network = Callable[[torch.Tensor], torch.Tensor]


def main() -> None:
    options = arguments(__doc__, batch=32).parse_args()
    device = options.device
    limits = measure_limits(device)
    images = torch.randn(options.batch, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0)).to(device)
    pairs = networks(device)
    rows, accuracy, rivals, compilation = [], [], {}, {}
    with torch.no_grad():
        for name, (plain, deployed) in pairs.items():
            forms, compilation[name] = fast_forms(plain, deployed)
            steps = {form: lambda network=network: network(images) for form, network in forms.items()}
            turns = take_turns(steps, options.repetitions, 1, device)
            others = {form: step for form, step in between(plain, deployed).items() if form == PLAIN or form not in forms}
            extra = take_turns(
                {form: lambda network=network: network(images) for form, network in others.items()},
                max(1, options.repetitions // 4), 1, device,
            )
            rows += table(name, deployed, turns, extra, steps, images, limits)
            if name in (CDNET, OSNET):
                rivals.update({f"{form} {name}": step for form, step in steps.items() if form != PLAIN})
            accuracy.append(compare(name, plain, deployed, images))
        # In turns of their own: the machine's mood may have changed since the first network.
        match = take_turns(rivals, options.repetitions, 1, device)
    with Report(machine(device), options.json) as report:
        report.text(f"{limits}.")
        report.table(rows, [
            "network", "form", "images/s", "faster than plain", "target", "peak memory, MiB", "least ms by FLOPs (reached)",
            "least ms by bytes",
        ])
        report.table([
            [form, f"{ratio:.2f} ×", f"{OVER_OSNET} ×: {word(ratio >= OVER_OSNET)}"]
            for form in forms if form != PLAIN
            for ratio in [match.speedup(f"{form} {CDNET}", f"{form} {OSNET}")]
        ], ["CDNet against OSNet x1.0", "faster", "target"])
        report.table(accuracy, [
            "relative error of features", "ours, fp32", "bf16, layer by layer", "ours, bf16",
            f"at most {MOST_ERROR} × layer by layer",
        ])
        report.text(
            "Compilation took " + ", ".join(f"{seconds:.0f} s ({name})" for name, seconds in compilation.items())
            + ". Least ms by FLOPs: at the rate of a matrix product in the form's precision. By bytes: if every convolution "
            "read its input from memory and wrote its output there; caches do better. The forms between plain and ours were "
            "timed in a quarter of the turns. The networks are untrained, which magnifies errors: docs/benchmarks.md says what "
            "bfloat16 does to the figures of trained networks."
        )


def networks(device: torch.device) -> dict[str, tuple[nn.Module, DeployedNetwork]]:
    """Return by name the plain network of one modality, in eval mode, and its deployed form."""
    own = calibrated(cdnet(1))
    two_stream = calibrated(two_stream_resnet50(1, pretrained=False), "both")
    osnet = calibrated(torchreid.models.build_model("osnet_x1_0", 1, pretrained=False))
    pairs = {
        CDNET: (own, own.deploy()),
        TWO_STREAM: (OneModality(two_stream), two_stream.deploy("visible")),
        OSNET: (osnet, deploy_network(osnet, osnet.feature_dim)),
    }
    return {name: (plain.to(device), deployed.to(device)) for name, (plain, deployed) in pairs.items()}


class OneModality(nn.Module):
    """A two-stream network as evaluation calls it, on visible images."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        with modality_context("visible"):
            return self.network(images)


@torch.no_grad()
def calibrated(model: nn.Module, modality: str = "visible") -> nn.Module:
    """Give the BatchNorms the statistics of noise, as training would of images: without, the maps of deep networks explode."""
    for layer in model.modules():
        if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
            layer.momentum = None
    with modality_context(modality):
        model.train()(torch.randn(8, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1)))
    return model.eval()


def fast_forms(plain: nn.Module, deployed: DeployedNetwork) -> tuple[dict[str, Network], float]:
    """Return plain and ours by name, and the seconds of compilation."""
    device = next(deployed.parameters()).device
    half = computes_bfloat16(device)
    fused, compiled = (BF16, COMPILED) if half else (FUSED, COMPILED_FP32)
    forms = {
        PLAIN: plain, fused: deployed.optimize("auto"), compiled: deployed.optimize("auto", compile=True),
    }
    start = time.perf_counter()
    forms[compiled](torch.zeros(1, 3, HEIGHT, WIDTH, device=device))
    synchronize(device)
    return forms, time.perf_counter() - start


def between(plain: nn.Module, deployed: DeployedNetwork) -> dict[str, Network]:
    """Return the float32 forms on the way, and plain again."""
    def channels_last(images: torch.Tensor) -> torch.Tensor:
        return deployed(images.contiguous(memory_format=torch.channels_last))

    return {PLAIN: plain, FOLDED: deployed, CHANNELS_LAST: channels_last, FUSED: deployed.optimize("fp32")}


def table(
    name: str, deployed: DeployedNetwork, turns: Turns, extra: Turns, steps: Mapping[str, Network], images: torch.Tensor,
    limits: Limits,
) -> list[list[str]]:
    """Return the rows of one network."""
    flops, moved = flops_of(lambda: deployed(images)), traffic(deployed, images)
    rows = []
    order = (PLAIN, FOLDED, CHANNELS_LAST, FUSED, BF16, COMPILED, COMPILED_FP32)
    for form in [form for form in order if form in turns.seconds or form in extra.seconds]:
        own = turns if form in turns.seconds else extra
        dtype, size = (torch.bfloat16, 2) if form in TARGETS else (torch.float32, 4)
        least, ratio = limits.seconds(flops, dtype), own.speedup(form, PLAIN)
        target = f"{TARGETS[form]:g} ×: {word(ratio >= TARGETS[form])}" if form in TARGETS and name != OSNET else ""
        peak = f"{peak_memory(steps[form], images.device) / 2**20:.0f}" if form in steps else ""
        rows.append([
            name, form, f"{len(images) / own.median(form):.0f}", f"{ratio:.2f} ×" if form != PLAIN else "", target, peak,
            f"{1e3 * least:.0f} ({100 * least / own.median(form):.0f} %)",
            f"{1e3 * limits.seconds(bytes=moved * size):.0f}",
        ])
    return rows


def traffic(network: nn.Module, images: torch.Tensor) -> int:
    """Return the values that the convolutions of a pass read and write: inputs, weights, outputs."""
    values = 0

    def count(conv: nn.Conv2d, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        nonlocal values
        values += inputs[0].numel() + conv.weight.numel() + output.numel()

    handles = [layer.register_forward_hook(count) for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    network(images)
    for handle in handles:
        handle.remove()
    return values


def compare(name: str, plain: nn.Module, deployed: DeployedNetwork, images: torch.Tensor) -> list[str]:
    """Check that ours in float32 answers as plain, and tell what bfloat16 changes, fused and not, where it is computed."""
    expected = plain(images)
    exact = deployed.optimize("fp32")(images)
    torch.testing.assert_close(exact, expected, rtol=0, atol=1e-3 * expected.abs().max().item())

    def error(features: torch.Tensor) -> float:
        return ((features - expected).norm() / expected.norm()).item()

    row = [name, f"{error(exact):.1e}"]
    if not computes_bfloat16(images.device):
        return [*row, "", "", ""]
    layers = error(copy.deepcopy(deployed).to(torch.bfloat16)(images.to(torch.bfloat16)).float())
    own, most = error(deployed.optimize("bf16")(images)), MOST_ERROR * layers
    return [*row, f"{layers:.1e}", f"{own:.1e}", f"{most:.1e}: {word(own <= most)}"]


def word(reached: bool) -> str:
    """Say whether a target is reached."""
    return "reached" if reached else "missed"


if __name__ == "__main__":
    main()
