"""CM-NAS in one file: a two-stream network whose BatchNorms are shared or split by modality, as a search decides.

Read it from top to bottom. Only torch is used, except for the generated images and the test protocol at the end.
``python examples/cmnas_in_one_file.py`` takes about two minutes on one CPU core. The images are generated.
"""
import copy
import sys
import tempfile

import torch
from torch import nn
from torch.nn import functional as F

from torchreid_nas.data import CrossModalityDataManager
from torchreid_nas.data.synthetic import SyntheticSettings, write_regdb
from torchreid_nas.metrics import evaluate_regdb

K = 4  # images per person and modality in a batch; a batch is [visible; infrared], the persons in the same order

# -- 1. The network. A slot is a BatchNorm position; the modality of a batch is given to every slot. ------------------
class Slot(nn.Module):
    """Both candidates of one slot, weighted by the softmax of two logits; or one of them alone, once it is chosen."""

    def __init__(self, channels):
        super().__init__()
        self.shared, self.visible, self.infrared = (nn.BatchNorm2d(channels) for _ in range(3))
        self.logits = nn.Parameter(torch.zeros(2))  # share, split
        self.choice = None

    def forward(self, x, modality):
        if self.choice == "share":
            return self.shared(x)
        if self.choice == "split":
            return self.split(x, modality)
        share, split = self.logits.softmax(0)
        return share * self.shared(x) + split * self.split(x, modality)

    def split(self, x, modality):
        if modality == "both":
            visible, infrared = x.chunk(2)
            return torch.cat([self.visible(visible), self.infrared(infrared)])
        return self.visible(x) if modality == "visible" else self.infrared(x)


class TwoStream(nn.Module):
    """Four convolutions with a slot each, global average pooling, BNNeck, classifier."""

    def __init__(self, persons, channels=(3, 16, 32, 64, 64)):
        super().__init__()
        pairs = list(zip(channels, channels[1:]))
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1, bias=False) for a, b in pairs)
        self.slots = nn.ModuleList(Slot(b) for _, b in pairs)
        self.bnneck = nn.BatchNorm1d(channels[-1])
        self.bnneck.bias.requires_grad_(False)
        self.classifier = nn.Linear(channels[-1], persons, bias=False)

    def forward(self, x, modality):
        for conv, slot in zip(self.convs, self.slots):
            x = slot(conv(x), modality).relu()
        before = x.mean(dim=(2, 3))          # for the triplet loss
        return before, self.bnneck(before)   # after the BNNeck: for the classifier, C3MMD and the test


# -- 2. The losses. --------------------------------------------------------------------------------------------------
def triplet(features, pids, margin=0.4):
    """Batch-hard: the farthest image of the same person against the nearest one of another, over both modalities."""
    distance, same = torch.cdist(features, features), pids[:, None] == pids
    positive = distance.masked_fill(~same, 0).amax(1)
    negative = distance.masked_fill(same, torch.inf).amin(1)
    return (positive - negative + margin).relu().mean()


def c3mmd(features):
    """5 · correlation consistency + 0.05 · class-specific MMD with the kernel (aᵀb)², as in the paper."""
    visible, infrared = features.chunk(2)
    correlation = [F.normalize(half @ half.T, dim=1) for half in (visible, infrared)]
    consistency = (correlation[0] - correlation[1]).square().mean()
    v, t = (F.normalize(half, dim=1).view(-1, K, half.shape[1]) for half in (visible, infrared))
    mmd = ((v @ v.mT).square() + (t @ t.mT).square() - 2 * (v @ t.mT).square()).mean()
    return 5 * consistency + 0.05 * mmd


def loss_of(model, batch, known=True):
    """The whole loss of a joint batch; without cross-entropy where the classifier does not know the persons."""
    before, after = model(batch["img"], "both")
    loss = triplet(before, batch["pid"]) + c3mmd(after)
    return loss + F.cross_entropy(model.classifier(after), batch["pid"]) if known else loss


# -- 3. The search: weights on one part of the persons, logits on the other, in turn (bilevel, first order). ---------
def step(optimizer, loss):
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    optimizer.zero_grad()
    loss.backward(inputs=parameters)
    optimizer.step()


def search(model, training, validation, epochs):
    weights = [p for name, p in model.named_parameters() if not name.endswith("logits") and p.requires_grad]
    of_weights, of_logits = torch.optim.Adam(weights, 0.003), torch.optim.Adam([slot.logits for slot in model.slots], 0.05)
    for _ in range(epochs):
        for batch, held_out in zip(training, validation):
            step(of_weights, loss_of(model, batch))
            step(of_logits, loss_of(model, held_out, known=False))
    return ["split" if slot.logits[1] > slot.logits[0] else "share" for slot in model.slots]


# -- 4. The training of the network that was found, from new weights. ------------------------------------------------
def train(model, loader, epochs):
    average = copy.deepcopy(model)  # of the weights over the last steps; this one is tested
    used = [p for name, p in model.named_parameters() if not name.endswith("logits") and p.requires_grad]
    optimizer = torch.optim.Adam(used, 0.003, weight_decay=5e-4)
    for _ in range(epochs):
        for batch in loader:
            step(optimizer, loss_of(model, batch))
            for mean, new in zip(average.state_dict().values(), model.state_dict().values()):
                mean.lerp_(new, 0.1) if mean.is_floating_point() else mean.copy_(new)
    return average.eval()


# -- 5. The test: every image goes through the BatchNorms of its own modality. ---------------------------------------
@torch.no_grad()
def test(model, loaders):
    features, pids = {}, {}
    for part, modality in (("query", "visible"), ("gallery", "infrared")):
        batches = list(loaders[part])
        features[part] = F.normalize(torch.cat([model(batch["img"], modality)[1] for batch in batches]))
        pids[part] = torch.cat([batch["pid"] for batch in batches]).numpy()
    distances = torch.cdist(features["query"], features["gallery"]).numpy()
    return evaluate_regdb(distances, pids["query"], pids["gallery"])


def main(identities=120, epochs=40, folder=None):
    torch.manual_seed(1)
    folder = folder or tempfile.mkdtemp()
    write_regdb(folder, SyntheticSettings(identities=identities, images=4, height=64, width=32, difficulty=0.2))
    data = CrossModalityDataManager(folder, "regdb", "regdb", 64, 32, batch_size_train=32, num_instances=K, workers=0)
    training, validation, persons = data.search_split(by="identity")
    found = search(TwoStream(persons), training, validation, epochs)
    for name, choices in (("found", found), ("all shared", ["share"] * 4), ("all split", ["split"] * 4)):
        model = TwoStream(data.num_train_pids)
        for slot, choice in zip(model.slots, choices):
            slot.choice = choice
        result = test(train(model, data.train_loader, epochs), data.test_loader["regdb"])
        print(f"{name:10} {' '.join(choices):24} Rank-1 {result.cmc[0]:6.1%}  mAP {result.mAP:6.1%}  (generated images)")
    return found


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
