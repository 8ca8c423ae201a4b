"""``torchreid-nas features``: features of images, folders and videos into a file."""
from __future__ import annotations

__all__ = ["main"]

import argparse
from pathlib import Path

import torchreid_nas
from torchreid_nas.cli.options import add_extraction_options, build_extractor, positive_int
from torchreid_nas.cli.sources import feature_blocks


def main(argv: list[str] | None = None) -> int:
    """Extract what ``argv`` (default: the command line) asks for, say where it is, and return 0.

    Raises:
        InputError: the source, the model, an option or the file to write is at fault.
        SystemExit: the arguments do not parse (argparse, code 2).
    """
    parser = argparse.ArgumentParser(
        prog="torchreid-nas features",
        description="Extract L2-normalised features with a trained model and save them as .npz: features, paths, "
        "labels, pids, camids, model, modality, fingerprint (of the weights).",
    )
    parser.add_argument(
        "source", nargs="+", metavar="SOURCE", help="images, videos, or folders of them; own images as folder:PATH or csv:FILE",
    )
    parser.add_argument("--modality", metavar="M", help="of two-stream models: visible or infrared")
    parser.add_argument("--boxes", metavar="FILE", help="cut persons out: boxes of the MOT challenge, or a CSV with a header")
    parser.add_argument("--out", default="features.npz", metavar="FILE", help="default: features.npz")
    add_extraction_options(parser)
    arguments = parser.parse_args(argv)
    stride = positive_int("--stride", arguments.stride)
    positive_int("--batch-size", arguments.batch_size)

    torchreid_nas.register()
    from torchreid_nas.features.feature_set import FeatureSet, check_npz
    from torchreid_nas.files import check_folder
    from torchreid_nas.zoo.trained import load_trained

    check_npz(arguments.out, "--out")
    check_folder(Path(arguments.out).parent, "--out")
    trained = load_trained(arguments.model, arguments.weights)
    trained.check_modality(arguments.modality, "--modality")
    extractor = build_extractor(arguments, trained, arguments.modality)
    features = FeatureSet.concatenate(list(feature_blocks(extractor, arguments.source, "the file", stride, arguments.boxes)))
    features.save(arguments.out)
    identities = len(features.known_identities())
    print(
        f"{arguments.out}: {len(features):,} features of length {features.features.shape[1]}, "
        f"{sum(map(bool, features.labels)):,} of them labelled ({identities:,} identities)"
    )
    return 0
