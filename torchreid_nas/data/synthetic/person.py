"""Persons: clothes and body of an identity, independent of its images."""
from __future__ import annotations

__all__ = ["Material", "Person", "Wardrobe", "PATTERNS", "triple"]

import colorsys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from torchreid_nas.data.synthetic.settings import generator

PATTERNS = ("plain", "horizontal", "vertical", "checks", "print", "band", "yoke")


def triple(values: Iterable[float]) -> tuple[float, float, float]:
    """Return three values, one per colour channel, as a tuple of plain numbers.

    >>> triple(np.array([0.0, 0.5, 1.0]))
    (0.0, 0.5, 1.0)
    """
    red, green, blue = map(float, values)
    return red, green, blue


@dataclass(frozen=True)
class Material:
    """A surface in both spectra: two tones and their pattern.

    Attributes:
        rgb, rgb2: reflectance of ground and figure in visible light, in [0, 1].
        emission, emission2: brightness of ground and figure in infrared, drawn
            independently of the colours: across the modalities the brightness says
            nothing, and the geometry of the pattern does.
        pattern: one of :data:`PATTERNS`.
        period: of stripes and checks, in body heights.
        centre, extent: of print, band and yoke below the upper edge, in body heights.
    """

    rgb: tuple[float, float, float]
    emission: float
    rgb2: tuple[float, float, float] = (0.0, 0.0, 0.0)
    emission2: float = 0.0
    pattern: str = "plain"
    period: float = 0.1
    centre: float = 0.1
    extent: float = 0.05

    def tones(self, spectrum: str, contrast: float) -> tuple[np.ndarray, np.ndarray]:
        """Return ground and figure as float32 arrays of 3 (visible) or 1 (infrared) channels.

        Args:
            spectrum: ``"visible"`` or ``"infrared"``.
            contrast: factor on the distance of the figure from the ground.
        """
        pair = (self.rgb, self.rgb2) if spectrum == "visible" else ((self.emission,), (self.emission2,))
        ground, figure = (np.array(tone, dtype=np.float32) for tone in pair)
        return ground, ground + np.float32(contrast) * (figure - ground)


@dataclass(frozen=True)
class Wardrobe:
    """The clothes of the persons of one population. The default wardrobe has the clothes of all seasons.

    Each choice is a pair of relative frequencies: for persons who look alike
    (difficulty 1) and for diverse persons (difficulty 0). Between the two the
    frequencies are blended.

    Attributes:
        tops: of sleeveless, short, long, open and coat.
        men, women: of trousers, shorts, skirt and dress.
        bags: of none, backpack, shoulder bag and handbag; men carry half as many handbags.
        darkness: exponent of the brightness of the clothes; above 1 the clothes are darker.
    """

    tops: tuple[Sequence[float], Sequence[float]] = ((1, 8, 10, 3, 2), (1, 1, 1, 1, 1))
    men: tuple[Sequence[float], Sequence[float]] = ((9, 3, 0, 0), (3, 2, 0, 0))
    women: tuple[Sequence[float], Sequence[float]] = ((6, 2, 3, 2), (1, 1, 1, 1))
    bags: tuple[Sequence[float], Sequence[float]] = ((8, 3, 2, 2), (1, 1, 1, 1))
    darkness: float = 1.0


@dataclass(frozen=True)
class Person:
    """One identity. Lengths are in body heights, widths are half widths.

    Attributes:
        sex: ``"male"`` or ``"female"``; steers hair and garments, and names RegDB's files.
        stature: share of the bounding box that the body fills.
        shoulder, waist, hip, limb: half widths of the body and its limbs.
        legs: height of the hip; head: half height of the head.
        top: ``"sleeveless"``, ``"short"``, ``"long"``, ``"open"`` (jacket) or ``"coat"``.
        sleeve: covered share of the arm.
        bottom: ``"trousers"``, ``"shorts"``, ``"skirt"`` or ``"dress"`` (long skirt).
        hem: height above ground where shorts, skirt or coat end.
        cut: width of the lower garment relative to the leg.
        hair: ``"bald"``, ``"short"``, ``"bob"``, ``"long"``, ``"bun"`` or ``"cap"``.
        bag: ``"none"``, ``"backpack"``, ``"shoulder"`` or ``"handbag"``; bag_size: half its
            height; bag_side: -1 or 1.
        stride: length of its step relative to the mean.
    """

    sex: str
    stature: float
    shoulder: float
    waist: float
    hip: float
    limb: float
    legs: float
    head: float
    stride: float
    top: str
    sleeve: float
    bottom: str
    hem: float
    cut: float
    hair: str
    bag: str
    bag_size: float
    bag_side: int
    skin: Material
    upper: Material
    inner: Material
    lower: Material
    hair_material: Material
    shoes: Material
    bag_material: Material

    @classmethod
    def of(cls, seed: int, identity: int, difficulty: float, wardrobe: Wardrobe = Wardrobe()) -> Person:
        """Return person ``identity`` of the population ``seed``, dressed from ``wardrobe``.

        The number of random values never depends on their outcome, so a person
        changes smoothly with ``difficulty``. With a higher difficulty the body is
        closer to the mean, the clothes are commoner, the patterns are fainter, and
        the properties that only one sensor sees spread wider.

        Args:
            seed: of the population.
            identity: number of the person.
            difficulty: 0 to 1.
            wardrobe: the clothes of the population.
        """
        draw = _Draw(generator(seed, "person", identity), difficulty, wardrobe)
        sex = draw.choice(("male", "female"), (1, 1))
        man = sex == "male"
        body = {
            "stature": draw.between(0.9, 1.0),
            "shoulder": draw.between(0.098, 0.142) + (0.008 if man else -0.006),
            "waist": draw.between(0.066, 0.112),
            "hip": draw.between(0.074, 0.108) + (-0.004 if man else 0.006),
            "limb": draw.between(0.75, 1.25),
            "legs": draw.between(0.465, 0.535),
            "head": draw.between(0.058, 0.074),
            "stride": draw.between(0.6, 1.4),
        }
        top = draw.choice(("sleeveless", "short", "long", "open", "coat"), *wardrobe.tops)
        sleeves = draw.between(0.0, 1.0)
        worn = wardrobe.men if man else wardrobe.women
        bottom = draw.choice(("trousers", "shorts", "skirt", "dress"), *worn)
        hems = draw.between(0.0, 1.0)
        hair = draw.choice(
            ("bald", "short", "bob", "long", "bun", "cap"),
            (2, 12, 1, 0, 0, 2) if man else (0, 2, 4, 6, 3, 1),
            (2, 4, 1, 1, 0, 2) if man else (0, 1, 2, 2, 2, 1),
        )
        *bags, handbag = wardrobe.bags[0]
        carried = (*bags, handbag / 2 if man else handbag), wardrobe.bags[1]
        bag = draw.choice(("none", "backpack", "shoulder", "handbag"), *carried)
        side = draw.choice(("left", "right"), (1, 1))
        hem = {"trousers": 0.04, "shorts": 0.24 + 0.1 * hems, "skirt": 0.24 + 0.12 * hems, "dress": 0.06 + 0.12 * hems}
        return cls(
            sex=sex,
            **body,
            top=top,
            sleeve={"sleeveless": 0.0, "short": 0.2 + 0.3 * sleeves}.get(top, 0.88 + 0.1 * sleeves),
            bottom=bottom,
            hem=hem[bottom] if top != "coat" else 0.22 + 0.16 * hems,
            cut=draw.between(0.95, 1.5),
            hair=hair,
            bag=bag,
            bag_size=draw.between(0.05, 0.1),
            bag_side=1 if side == "right" else -1,
            skin=draw.skin(),
            upper=draw.garment((8, 3, 2, 2, 4, 2, 2)),
            inner=draw.garment((8, 3, 2, 2, 0, 1, 0)),
            lower=draw.garment((16, 1, 2, 2, 0, 0, 0), (5, 1, 2, 2, 0, 0, 0)),
            hair_material=draw.hair(),
            shoes=draw.garment((1, 0, 0, 0, 0, 0, 0), (1, 0, 0, 0, 0, 0, 0)),
            bag_material=draw.garment((6, 1, 0, 1, 0, 1, 1)),
        )


class _Draw:
    """Random attributes of persons, which become more alike as ``alike`` goes from 0 to 1.

    Only the attributes that both sensors see become more alike: shape, garments,
    patterns. Colour and emission tell persons apart within one modality only. For a
    network they are a shortcut that does not carry over, so they spread with ``alike``.
    """

    def __init__(self, rng: np.random.Generator, alike: float, wardrobe: Wardrobe) -> None:
        self.rng = rng
        self.alike = alike
        self.wardrobe = wardrobe

    def between(self, low: float, high: float) -> float:
        spread = 1.0 - 0.65 * self.alike
        return (low + high) / 2 + (self.rng.random() - 0.5) * (high - low) * spread

    def choice(self, names: Sequence[str], common: Sequence[float], diverse: Sequence[float] | None = None) -> str:
        """Pick by the frequencies ``common`` (alike = 1) blended with ``diverse`` (alike = 0; default even)."""
        usual = np.array(common, dtype=float) / sum(common)
        diverse = diverse or [1] * len(names)
        other = np.array(diverse, dtype=float) / sum(diverse)
        edges = np.cumsum(self.alike * usual + (1 - self.alike) * other)
        return names[min(int(np.searchsorted(edges, self.rng.random(), side="right")), len(names) - 1)]

    def colour(self) -> tuple[float, float, float]:
        hue, saturation, value = self.rng.random(3)
        vivid = colorsys.hsv_to_rgb(hue, 0.9 * saturation**1.6, 0.1 + 0.85 * value**self.wardrobe.darkness)
        muted = (0.38, 0.39, 0.42)
        return triple(v + 0.5 * (1 - self.alike) * (m - v) for v, m in zip(vivid, muted))

    def garment(self, common: Sequence[float], diverse: Sequence[float] | None = None) -> Material:
        pattern = self.choice(PATTERNS, common, diverse)
        rgb, rgb2 = np.array(self.colour()), np.array(self.colour())
        # Two tones that are alike would hide the pattern: the brightness of the second tone moves away.
        distance = rgb2.mean() - rgb.mean()
        least = 0.45 * (1 - 0.6 * self.alike)
        if abs(distance) < least:
            rgb2 = rgb2 + (least if rgb.mean() < 0.45 else -least) - distance
        emission = 0.53 + (0.12 + 0.32 * self.alike) * (self.rng.random() - 0.5)
        step = self.between(0.2, 0.36) * (1 - 0.55 * self.alike)
        sign = 1 if self.rng.random() < 0.5 else -1
        return Material(
            rgb=triple(rgb),
            rgb2=triple(np.clip(rgb2, 0.03, 0.97)),
            emission=emission,
            emission2=emission + sign * step,
            pattern=pattern,
            period=self.between(0.035, 0.13),
            centre=self.between(0.06, 0.17),
            extent=self.between(0.025, 0.07),
        )

    def skin(self) -> Material:
        light, dark = np.array((0.93, 0.74, 0.62)), np.array((0.38, 0.24, 0.17))
        return Material(triple(light + self.between(0, 1) * (dark - light)), self.between(0.84, 0.97))

    def hair(self) -> Material:
        fair, black = np.array((0.78, 0.62, 0.38)), np.array((0.07, 0.06, 0.06))
        return Material(triple(black + self.between(0, 1) ** 2 * (fair - black)), self.between(0.4, 0.66))
