"""Five odd layouts of the same generated images give the figures of the named data set, trained and tested."""
from __future__ import annotations

import csv
import hashlib
import json
import random
import shutil

import pytest
from commands import arguments
from tiny import TINY, TINY_CDNET

from torchreid_nas.cli import main
from torchreid_nas.data.loading import load_dataset
from torchreid_nas.data.synthetic import SyntheticSettings, write_market1501, write_regdb

CONFIG = {**TINY, "model.architecture": "split", "train.max_epoch": 1, "train.num_batches": 2, "train.batch_size": 8}
LAYOUTS = {
    "split/modality/person": "", "person first": "{pid}/{split}-{modality}/{frame}",
    "one folder": "{modality}-{pid}-{split}-{frame}", "frame first": "{split}/{frame}@{modality}/{pid}", "csv": "",
}


@pytest.fixture(scope="module")
def regdb(tmp_path_factory):
    """The images of one trial: (path, modality, person, split, frame)."""
    root = tmp_path_factory.mktemp("regdb")
    folder = write_regdb(root, SyntheticSettings(identities=16, images=2, height=48, width=24))
    images = []
    for split in ("train", "test"):
        for word in ("visible", "thermal"):
            for line in (folder / "idx" / f"{split}_{word}_1.txt").read_text().splitlines():
                path = folder / line.rpartition(" ")[0]
                images.append((path, word, int(path.parent.name), split, path.stem.split("_")[-2]))
    return root, images


def lay(images, target, name):
    """Write the images in a layout, and return the names of the data set in both directions."""
    rows = []
    for path, word, person, split, frame in images:
        place = target / {
            "split/modality/person": f"{split}/{word}/{person:04d}/{frame}.bmp",
            "person first": f"person {person}/{split}-{word}/{frame}.bmp",
            "one folder": f"{'IR' if word == 'thermal' else 'RGB'}-{person}-{split}-{frame}.bmp",
            "frame first": f"{split}/{frame}@{word}/p{person:03d}.bmp",
            "csv": f"{frame}/{person}{word[0]}.bmp",
        }[name]
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
        rows.append({"pid": person, "frame": frame, "split": split, "modality": word, "path": place.relative_to(target)})
    if name != "csv":
        return f"folder:{target}", f"folder_ir2vis:{target}"
    random.Random(0).shuffle(rows)
    with (target / "all.csv").open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return f"csv:{target / 'all.csv'}", f"csv_ir2vis:{target / 'all.csv'}"


def figures(run):
    """All numbers of a test, in the order of its targets."""
    rows = json.loads((run / "results.json").read_text())["results"]
    return [{key: value for key, value in row.items() if key not in ("dataset", "protocol")} for row in rows]


def trained_on(names, layout, root):
    """The training items of a data set without the names of the files: label, camera and content."""
    items = load_dataset(names[0], {"root": str(root), "split_id": 0, "layout": layout}).train
    # The order of the images of a person and camera is kept, from which batches are drawn.
    return sorted(((pid, camid, digest_of(path)) for path, pid, camid, _ in items), key=lambda item: item[:2])


def digest_of(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def test_five_odd_layouts_give_the_figures_of_the_named_set(regdb, tmp_path):
    root, images = regdb
    trained = trained_on(["regdb"], "", root)
    config = {**CONFIG, "data.sources": ["regdb"], "data.targets": ["regdb", "regdb_ir2vis"], "data.cache": "off"}
    assert main(arguments(config, root, tmp_path / "named", "--stages", "train,test")) == 0
    expected = figures(tmp_path / "named")
    assert expected[0]["mAP"] != expected[-1]["mAP"]
    for place, (name, layout) in enumerate(LAYOUTS.items()):
        names = lay(images, tmp_path / f"images {place}", name)
        config.update({"data.sources": [names[0]], "data.targets": list(names), "data.layout": layout or '""'})
        assert trained_on(names, layout, root) == trained, name
        run = tmp_path / f"run {place}"
        # One layout is trained as well; the others are tested with the weights of the named data set.
        stages = "train,test" if name == "csv" else "test"
        weights = [] if name == "csv" else ["model.load_weights", tmp_path / "named" / "train" / "model.pth"]
        assert main(arguments(config, root, run, "--stages", stages, *weights)) == 0
        assert figures(run) == expected, name


def test_cameras_of_own_images_give_the_figures_of_market(tmp_path):
    folder = write_market1501(tmp_path, SyntheticSettings(identities=10, images=2, height=64, width=32, cameras=3))
    config = {**TINY_CDNET, "model.architecture": "cdnet", "train.max_epoch": 1, "train.num_batches": 1}
    assert main(arguments(config, tmp_path, tmp_path / "named", "--stages", "train,test")) == 0
    own = {**config, "data.sources": [f"folder:{folder}"], "data.targets": [f"folder:{folder}"]}
    assert main(arguments(own, tmp_path, tmp_path / "own", "--stages", "train,test")) == 0
    assert figures(tmp_path / "own") == figures(tmp_path / "named")
