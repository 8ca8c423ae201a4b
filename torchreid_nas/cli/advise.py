"""``torchreid-nas advise``: which BatchNorms to split, by the statistics of two modalities, before any training."""
from __future__ import annotations

__all__ = ["main"]

import argparse
from pathlib import Path

import torchreid_nas


def main(argv: list[str] | None = None) -> int:
    """Print the advice that ``argv`` (default: the command line) asks for, write its picture and its file; returns 0.

    Raises:
        InputError: the model has no slots, the data lack labels or a modality, or a file cannot be written.
        SystemExit: the arguments do not parse (argparse, code 2).
    """
    parser = argparse.ArgumentParser(
        prog="torchreid-nas advise",
        description="Say which BatchNorms of a network to split: for every slot the distance of the modalities' "
        "statistics with a null of exchanged identities, and what splitting the slot alone gains. Nothing is trained.",
    )
    parser.add_argument("model", metavar="MODEL", help="model.name of a two-stream network")
    parser.add_argument("data", metavar="DATA", help="a visible-infrared data set, such as regdb")
    parser.add_argument("--config", metavar="NAME", help="config that sets the rest: a shipped one or a YAML file")
    parser.add_argument("--root", metavar="DIR", help="folder of the data sets (data.root)")
    parser.add_argument("--out", default="advice", metavar="DIR", help="folder of advice.png and architecture.json")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="config keys, e.g. model.pretrained False")
    arguments = parser.parse_intermixed_args(argv)

    torchreid_nas.register()
    from torchreid_nas.config import load_config
    from torchreid_nas.files import check_folder
    from torchreid_nas.report.advice_figure import draw_advice
    from torchreid_nas.run.advice import advice_table, advise
    from torchreid_nas.run.build import provide_data
    from torchreid_nas.run.folder import RunFolder
    from torchreid_nas.run.provenance import provenance
    from torchreid_nas.run.setup import RunSetup

    folder = RunFolder(Path(arguments.out))
    check_folder(folder.path, "--out")
    root = ["data.root", arguments.root] if arguments.root else []
    cfg = load_config(
        arguments.config,
        [*arguments.overrides, *root, "model.name", arguments.model, "data.sources", str([arguments.data])],
    )
    setup = RunSetup.of(cfg)
    provide_data(setup.cfg)
    advice = advise(setup)
    print(advice_table(advice))
    architecture = advice.architecture(**provenance(setup.cfg))
    architecture.save(folder.architecture)
    draw_advice(advice, folder.advice_figure, is_generated=setup.cfg.synthetic.enabled)
    print(f"advised: {architecture}\n{folder.architecture}, {folder.advice_figure}")
    return 0
