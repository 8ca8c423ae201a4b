"""``torchreid-nas match``: the nearest gallery images of every query, and which of them are near enough."""
from __future__ import annotations

__all__ = ["main"]

import argparse
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torchreid_nas
from torchreid_nas.cli.options import add_extraction_options, build_extractor, positive_int
from torchreid_nas.cli.sources import feature_blocks
from torchreid_nas.errors import InputError, nearest

if TYPE_CHECKING:
    from torchreid_nas.features.feature_set import FeatureSet
    from torchreid_nas.features.matching import Matches

_FAR = "far="


def main(argv: list[str] | None = None) -> int:
    """Match as ``argv`` (default: the command line) says, print the table, and return 0.

    Raises:
        InputError: a source, the model, an option or a file to write is at fault.
        SystemExit: the arguments do not parse (argparse, code 2).
    """
    arguments = _parser().parse_args(argv)
    arguments.top, arguments.stride = positive_int("--top", arguments.top), positive_int("--stride", arguments.stride)
    positive_int("--batch-size", arguments.batch_size)
    pictures = 0 if arguments.pictures == "0" else positive_int("--pictures", arguments.pictures)
    torchreid_nas.register()
    _check_metric(arguments.metric)
    score, far = _threshold(arguments.threshold, arguments.metric)
    if (far is None) != (arguments.validation is None):
        raise InputError(
            f"--threshold {_FAR}{far:g} needs labelled images to be measured on; add --validation DIR" if far else
            f"--validation is for a threshold by false-accept rate; add --threshold {_FAR}0.01"
        )

    from torchreid_nas.features import matching, report
    from torchreid_nas.files import check_folder

    if arguments.out:
        check_folder(arguments.out, "--out")
    sides = _Sides(arguments)
    threshold = None if score is None else matching.to_distance(score, arguments.metric)
    if far is not None:
        threshold = sides.validate(far)
    queries = sides.load(arguments.query, "query")
    matches = sides.rank(queries, arguments.gallery, arguments.top, arguments.metric)
    print(report.matches_table(matches, threshold))
    print(report.summary(matches, threshold))
    if arguments.out:
        from torchreid_nas.features.figures import draw_ranked_lists

        out = Path(arguments.out)
        print(f"written: {report.write_csv(matches, out / 'matches.csv', threshold)}")
        drawn = draw_ranked_lists(matches, out, threshold, pictures)
        if drawn:
            print(f"written: {drawn[0]}" + (f" … {drawn[-1].name}" if len(drawn) > 1 else ""))
        if pictures < len(queries):
            print(f"pictures of the first {pictures:,} of {len(queries):,} queries; --pictures N draws more")
    return 0


class _Sides:
    """The extractors of query and gallery, one where both are of one modality."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        from torchreid_nas.zoo.trained import load_trained

        self._arguments = arguments
        self.modalities = {"query": arguments.query_modality, "gallery": arguments.gallery_modality}
        trained = load_trained(arguments.model, arguments.weights)
        extractors = {}
        for side, modality in self.modalities.items():
            trained.check_modality(modality, f"--{side}-modality")
            if modality not in extractors:
                extractors[modality] = build_extractor(arguments, trained, modality)
        self._extractors = {side: extractors[modality] for side, modality in self.modalities.items()}

    def load(self, source: str, side: str) -> FeatureSet:
        """Return the features of all images of a source."""
        from torchreid_nas.features.feature_set import FeatureSet

        return FeatureSet.concatenate(list(self.blocks(source, side)))

    def blocks(self, source: str, side: str) -> Iterator[FeatureSet]:
        """Yield the features of a source, or of a file that ``torchreid-nas features`` wrote, in blocks."""
        arguments = self._arguments
        boxes = getattr(arguments, f"{side}_boxes") if source == getattr(arguments, side) else None
        return feature_blocks(self._extractors[side], [source], f"the {side}", arguments.stride, boxes, f"--{side}-boxes")

    def rank(self, queries: FeatureSet, gallery: str, top: int, metric: str) -> Matches:
        """Return the nearest images of a gallery, which may be an index."""
        from torchreid_nas.features.matching import GalleryRanking
        from torchreid_nas.index import GalleryIndex

        if GalleryIndex.is_index(gallery):
            if self._arguments.gallery_boxes:
                raise InputError(f'--gallery-boxes: the index "{gallery}" holds features already; leave the option out')
            return GalleryIndex(gallery).search(queries, top, metric)
        ranking = GalleryRanking(queries, top, metric)
        for block in self.blocks(gallery, "gallery"):
            ranking.add(block)
        return ranking.result()

    def validate(self, far: float) -> float:
        """Choose the threshold on the validation images, print and draw it, and return its distance."""
        from torchreid_nas.data.synthetic.store import in_synthetic
        from torchreid_nas.features import report
        from torchreid_nas.features.figures import draw_roc
        from torchreid_nas.features.threshold import compute_roc

        arguments, folders = self._arguments, self._arguments.validation
        if len(folders) > 2 or len(folders) == 1 and self.modalities["query"] != self.modalities["gallery"]:
            raise InputError(
                f"--validation names {len(folders)} folders, expected one, or two where query and gallery differ: "
                "--validation QUERY_LIKE_DIR GALLERY_LIKE_DIR, with the same persons in both"
            )
        sets = [self.load(folder, side) for folder, side in zip(folders, ("query", "gallery"))]
        roc = compute_roc(sets[0], sets[1] if len(sets) > 1 else None, arguments.metric)
        point = roc.at_far(far)
        print(report.describe_point(roc, point))
        if far * roc.num_impostor < 1:
            print(
                f"warning: far={far:g} is one in {math.ceil(1 / far):,} pairs of different persons, and there are only "
                f"{roc.num_impostor:,}; the threshold lies just below the nearest of them and its rate is not known "
                "that finely", file=sys.stderr,
            )
        if arguments.out:
            pairs = " → ".join(filter(None, self.modalities.values()))
            generated = any(in_synthetic(path) for features in sets for path in features.paths)
            print(f"written: {draw_roc(roc, point, Path(arguments.out) / 'roc.png', pairs, generated)}")
        return point.distance


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="torchreid-nas match",
        description="Rank the gallery for each query image, and say which matches are near enough.",
    )
    parser.add_argument("query", metavar="QUERY", help="an image, a folder, a video, features.npz, or folder:PATH, csv:FILE")
    parser.add_argument("gallery", metavar="GALLERY", help="likewise, or an index (torchreid-nas index)")
    parser.add_argument("--query-modality", metavar="M", help="of two-stream models: visible or infrared")
    parser.add_argument("--gallery-modality", metavar="M", help="likewise")
    parser.add_argument(
        "--query-boxes", metavar="FILE", help="cut persons out of QUERY: boxes of the MOT challenge, or a CSV with a header",
    )
    parser.add_argument("--gallery-boxes", metavar="FILE", help="likewise of GALLERY")
    parser.add_argument("--top", default="10", metavar="K", help="length of the ranked lists (default 10)")
    parser.add_argument("--metric", default="euclidean", help="euclidean (default) or cosine, of normalised features")
    parser.add_argument(
        "--threshold", metavar="T", help="largest Euclidean distance (0 to 2) or least cosine similarity (-1 to 1) of "
        f"a match, or {_FAR}0.01: the one that accepts 1 %% of different persons on --validation",
    )
    parser.add_argument(
        "--validation", nargs="+", metavar="DIR", help="labelled images (a folder per person, or names as in "
        "Market-1501) of persons that the model was not trained on; two folders, as QUERY and as GALLERY, where these "
        "differ",
    )
    parser.add_argument("--out", metavar="DIR", help="write matches.csv, ranked_001.png … and roc.png there")
    parser.add_argument("--pictures", default="60", metavar="N", help="draw the first N queries (default 60)")
    add_extraction_options(parser)
    return parser


def _threshold(text: str | None, metric: str) -> tuple[float | None, float | None]:
    """Return the number, or the false-accept rate, that --threshold gives."""
    if text is None:
        return None, None
    given = text.removeprefix(_FAR)
    low, high = (0, 2) if metric == "euclidean" else (-1, 1)
    try:
        value = float(given)
    except ValueError:
        value = math.nan
    if text.startswith(_FAR) and 0 < value < 1:
        return None, value
    if not text.startswith(_FAR) and low <= value <= high:
        return value, None
    raise InputError(
        f'--threshold is "{text}", expected a number from {low} to {high} for --metric {metric}, or {_FAR}RATE with a '
        f"rate between 0 and 1 such as {_FAR}0.01"
    )


def _check_metric(metric: str) -> None:
    from torchreid_nas.features.matching import METRICS

    if metric not in METRICS:
        raise InputError(f'--metric is "{metric}", expected {" or ".join(METRICS)}{nearest(metric, METRICS)}')
