"""The last parts of the page: the images that the run read, the machine and packages, and the command that repeats it."""
from __future__ import annotations

__all__ = ["sheet"]

import shlex
from collections.abc import Mapping

import yaml

from torchreid_nas.config import flatten
from torchreid_nas.config.keys import KEYS
from torchreid_nas.report.html import table, text
from torchreid_nas.run.page.facts import RunFacts
from torchreid_nas.run.page.frame import section


def sheet(facts: RunFacts) -> str:
    """Return the sections of data, environment and command."""
    return "\n".join([_data(facts), _environment(facts), _repeat(facts)])


def _data(facts: RunFacts) -> str:
    rows = [
        {"part": name, "images": part.get("images"), "persons": part.get("identities"), "cameras": part.get("cameras"),
         "modalities": " and ".join(part.get("modalities") or ()), "digest (SHA-256)": str(part.get("digest", ""))[:16]}
        for name, part in facts.data.items()
    ]
    generated = facts.cfg.synthetic if facts.cfg is not None and facts.cfg.synthetic.enabled else None
    return section("data", "Data", [
        table(rows, "Parts of the data") if rows else "",
        "" if generated is None else (
            f'<p class="wide"><span class="gen">generated images</span> {generated.identities} persons, seed {generated.seed}, '
            f"gap of the modalities {generated.gap:g}, difficulty {generated.difficulty:g}.</p>"
        ),
        f'<p class="soft">Whole digests: {text(facts.folder.data)}.</p>' if rows else "",
    ])


def _environment(facts: RunFacts) -> str:
    certificate, results = facts.certificate, facts.results
    known: Mapping[str, object] = certificate or results
    if not known:
        return ""
    packages = ", ".join(f"{name} {version}" for name, version in (certificate.get("packages") or {}).items())
    weights = certificate.get("weights") or {}
    initial = known.get("initial")
    values = {
        "version": known.get("version"), "commit": known.get("commit"), "seed": known.get("seed"),
        "config digest": known.get("config"),
        "started from": initial.get("weights") if isinstance(initial, dict) else None,
        "tested epoch": f"{weights['epoch']}, chosen by {weights['epoch_chosen_by']}" if weights.get("epoch") else None,
        "Python": certificate.get("python"), "machine": certificate.get("machine"), "packages": packages,
    }
    lines = "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in values.items() if value)
    return section("environment", "Environment", [f"<dl>{lines}</dl>"])


def _repeat(facts: RunFacts) -> str:
    cfg, folder = facts.cfg, facts.folder
    if cfg is None:
        return ""
    stages = [name for name, done in (("search", facts.search), ("train", facts.train), ("test", facts.rows)) if done]
    words = ["torchreid-nas", "--config", str(folder.config), "--output", f"{folder}-again", "--stages", ",".join(stages)]
    changed = {
        key: value for key, value in flatten(yaml.safe_load(cfg.dump()))
        if key in KEYS and value != KEYS[key].default and key != "data.save_dir"
    }
    rows = [{"key": key, "value": str(value), "meaning": KEYS[key].help} for key, value in changed.items()]
    return section("repeat", "To repeat the run", [
        f"<pre>{text(shlex.join(words if stages else words[:-2]))}</pre>",
        '<p class="soft wide">The same config, seed and packages on the same kind of machine give the same figures.</p>',
        f"<details><summary>{len(rows)} keys differ from their defaults</summary>{table(rows, 'Keys of the config')}</details>"
        if rows else "",
    ])
