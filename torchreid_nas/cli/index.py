"""``torchreid-nas index``: galleries that stay on disk, added to, removed from, and searched."""
from __future__ import annotations

__all__ = ["main"]

import argparse
import datetime
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torchreid_nas
from torchreid_nas.cli.options import add_extraction_options, build_extractor, positive_int
from torchreid_nas.cli.sources import feature_blocks
from torchreid_nas.errors import InputError, shown

if TYPE_CHECKING:
    from torchreid_nas.features.feature_set import FeatureSet
    from torchreid_nas.features.matching import Matches
    from torchreid_nas.index import GalleryIndex


def main(argv: list[str] | None = None) -> int:
    """Do to an index what ``argv`` (default: the command line) says, and return 0.

    Raises:
        InputError: the index, a source, the model or an option is at fault.
        SystemExit: the arguments do not parse (argparse, code 2).
    """
    arguments = _parser().parse_args(argv)
    torchreid_nas.register()
    action: Any = arguments.action
    action(arguments)
    return 0


def _build(arguments: argparse.Namespace) -> None:
    from torchreid_nas.index import GalleryIndex
    from torchreid_nas.index.engines import check_engine

    check_engine(arguments.engine)
    if GalleryIndex.is_index(arguments.out):
        raise InputError(f'"{arguments.out}" holds an index already; add to it: torchreid-nas index add "{arguments.out}" SOURCE')
    blocks = _features(arguments, arguments.model, "the index")
    first = next(blocks)
    index = GalleryIndex.create(arguments.out, first, arguments.engine)
    _add(index, first, blocks)


def _extend(arguments: argparse.Namespace) -> None:
    from torchreid_nas.index import GalleryIndex

    index = GalleryIndex(arguments.index)
    blocks = _features(arguments, arguments.model or index.store.meta["model"], "the index")
    _add(index, next(blocks), blocks)


def _add(index: GalleryIndex, first: FeatureSet, rest: Iterator[FeatureSet]) -> None:
    def blocks() -> Iterator[FeatureSet]:
        yield first
        yield from rest

    added = index.add(blocks(), lambda count: print(f"{count:,} images are on the disk", flush=True))
    print(f"{index.path}: {added:,} images added, {len(index):,} in all")


def _remove(arguments: argparse.Namespace) -> None:
    from torchreid_nas.index import GalleryIndex

    index = GalleryIndex(arguments.index)
    removed = index.remove(arguments.pid)
    print(f"{index.path}: {removed:,} images of {arguments.pid} removed, {len(index):,} left")


def _search(arguments: argparse.Namespace) -> None:
    from torchreid_nas.features.feature_set import FeatureSet
    from torchreid_nas.features.report import write_csv
    from torchreid_nas.index import GalleryIndex

    top, index = positive_int("--top", arguments.top), GalleryIndex(arguments.index)
    model = arguments.model or index.store.meta["model"]
    queries = FeatureSet.concatenate(list(_features(arguments, model, "the query")))
    matches = index.search(queries, top)
    threshold = index.calibration.distance if index.calibration else None
    _print_matches(matches, index, threshold)
    if arguments.out:
        print(f"written: {write_csv(matches, arguments.out, threshold)}")


def _print_matches(matches: Matches, index: GalleryIndex, threshold: float | None) -> None:
    """Print the table of the ranked lists, what they say together, and for whom the answer is "nobody"."""
    from torchreid_nas.features import report

    print(report.matches_table(matches, threshold))
    print(report.summary(matches, threshold))
    chosen = index.calibration
    if threshold is None or chosen is None or threshold != chosen.distance:
        return
    nobody = [path for path, row in zip(matches.queries.paths, matches.distances) if not row or row[0] > threshold]
    print(
        f"nobody: {len(nobody):,} of {len(matches.queries):,} queries"
        + (f", as {nobody[0]}" if nobody else "")
        + f"; the threshold accepts {chosen.far:.1%} of {chosen.queries:,} images of strangers"
        + ("" if chosen.images == len(index) else
           f" in a gallery of {chosen.images:,} images and not of {len(index):,}: calibrate again")
    )


def _merge(arguments: argparse.Namespace) -> None:
    from torchreid_nas.index import GalleryIndex

    index = GalleryIndex(arguments.index)
    added = index.merge(arguments.other)
    print(f"{index.path}: {added:,} images added, {len(index):,} in all, written without gaps")


def _calibrate(arguments: argparse.Namespace) -> None:
    from torchreid_nas.features.feature_set import FeatureSet
    from torchreid_nas.index import GalleryIndex

    try:
        far = float(arguments.far)
    except ValueError:
        raise InputError(f'--far is "{shown(arguments.far)}", expected a rate between 0 and 1, for example 0.01') from None
    index = GalleryIndex(arguments.index)
    model = arguments.model or index.store.meta["model"]
    strangers = FeatureSet.concatenate(list(_features(arguments, model, "the calibration")))
    chosen = index.calibrate(strangers, far)
    print(
        f"{index.path}: an answer farther than {chosen.distance:.6f} is nobody; {chosen.far:.1%} of {chosen.queries:,} images of "
        f"{chosen.persons:,} strangers are accepted"
    )
    if far * chosen.queries < 1:
        print(
            f"note: a rate of {far:g} is one in {1 / far:,.0f} images, and there are {chosen.queries:,}; the threshold lies just "
            "below the nearest of them"
        )


def _info(arguments: argparse.Namespace) -> None:
    from torchreid_nas.index import GalleryIndex

    info = GalleryIndex(arguments.index).info()
    if arguments.json:
        print(json.dumps(info, indent=2))
        return
    known = [info[name] for name in ("first", "last") if info[name] is not None]
    times = [datetime.datetime.fromtimestamp(time).isoformat(" ", "seconds") for time in known]
    chosen = info["calibration"]
    kinds = ", ".join(f"{count:,} {name or 'without modality'}" for name, count in info["modality"].items())
    cameras = len([camid for camid in info["camid"] if camid != -1])
    print(
        f'{info["images"]:,} images ({kinds}) of {info["identities"]:,} identities, {info["unlabelled"]:,} without one; '
        f"{cameras:,} cameras\n"
        + (f"files changed between {times[0]} and {times[1]}\n" if times else "")
        + f'features of length {info["dim"]} of the model {info["model"]}\n'
        f'engine {info["engine"]}, {info["indexed"]:,} images in it; {info["removed"]:,} empty rows; {info["bytes"]:,} bytes\n'
        + (f'nobody beyond a distance of {chosen["distance"]:.6f}, which accepts {chosen["far"]:.1%} of {chosen["queries"]:,} '
           f'images of strangers among {chosen["images"]:,}' if chosen else
           "no threshold: torchreid-nas index calibrate measures one on images of strangers")
    )


def _features(arguments: argparse.Namespace, model: str, what: str) -> Iterator[FeatureSet]:
    from torchreid_nas.zoo.trained import load_trained

    stride = positive_int("--stride", arguments.stride)
    positive_int("--batch-size", arguments.batch_size)
    arguments.stride = stride
    trained = load_trained(model, arguments.weights)
    trained.check_modality(arguments.modality, "--modality")
    extractor = build_extractor(arguments, trained, arguments.modality)
    return feature_blocks(extractor, arguments.source, what, stride, arguments.boxes)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="torchreid-nas index",
        description="Keep a gallery of any size on disk, and search it. Every change is on the disk when it is reported.",
    )
    commands = parser.add_subparsers(required=True, metavar="ACTION")

    def command(name: str, action: Any, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        sub.set_defaults(action=action)
        if name != "build":
            sub.add_argument("index", metavar="INDEX", help="folder of the index")
        return sub

    def sources(sub: argparse.ArgumentParser, name: str, default_model: str = "that of the index") -> None:
        sub.add_argument("source", nargs="+", metavar=name, help="images, folders, videos, or features.npz")
        sub.add_argument("--modality", metavar="M", help="of two-stream models: visible or infrared")
        sub.add_argument("--boxes", metavar="FILE", help="cut persons out: boxes of the MOT challenge, or a CSV with a header")
        add_extraction_options(sub, default_model)

    build = command("build", _build, "make an index of a gallery")
    sources(build, "GALLERY", "")
    build.add_argument("--out", required=True, metavar="INDEX", help="folder of the index, new or empty")
    build.add_argument("--engine", default="exact", help="exact (default), or of FAISS ivfpq or hnsw, for millions")
    sources(command("add", _extend, "add images to an index"), "SOURCE")
    remove = command("remove", _remove, "remove all images of an identity")
    remove.add_argument("--pid", required=True, help="label of the identity")
    search = command("search", _search, "rank the gallery for each query image")
    sources(search, "QUERY")
    search.add_argument("--top", default="10", metavar="K", help="length of the ranked lists (default 10)")
    search.add_argument("--out", metavar="FILE", help="write the lists as CSV")
    command("merge", _merge, "add other indexes, and write the index without gaps").add_argument(
        "other", nargs="*", metavar="OTHER", help="folders of indexes of the same model",
    )
    calibrate = command("calibrate", _calibrate, 'measure from which distance on the answer is "nobody"')
    sources(calibrate, "STRANGERS")
    calibrate.add_argument("--far", default="0.01", metavar="RATE", help="share of strangers that is accepted (default 0.01)")
    command("info", _info, "say what an index holds").add_argument("--json", action="store_true", help="as JSON")
    return parser
