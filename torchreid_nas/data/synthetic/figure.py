"""Pose and drawing of a person: a small projected 3-D skeleton, dressed with tubes from back to front."""
from __future__ import annotations

__all__ = ["Pose", "draw_person"]

import math
from dataclasses import dataclass

import numpy as np

from torchreid_nas.data.synthetic.canvas import Canvas
from torchreid_nas.data.synthetic.person import Person

# A point that is nearer by a length stands lower in the picture by this share of the length:
# surveillance cameras look down.
_PITCH = 0.18


@dataclass(frozen=True)
class Pose:
    """The pose of a person in one image.

    Attributes:
        yaw: 0 faces the camera, pi shows the back, +-pi/2 the sides (radians).
        phase, stride: of the gait; phase in radians, stride as the largest
            angle of the thigh in radians.
        lean: of the whole body, radians.
        scale, dx, dy: error of the bounding box: size, and shift in shares of
            its width and height.
        folds: phase of the creases of the clothes.
    """

    yaw: float
    phase: float
    stride: float
    lean: float
    scale: float
    dx: float
    dy: float
    folds: float

    @classmethod
    def sample(cls, rng: np.random.Generator, difficulty: float) -> Pose:
        """Draw a pose. The views are mostly frontal at difficulty 0, and evenly spread at difficulty 1."""
        views = (0.0, math.pi, math.pi / 2, -math.pi / 2)
        share = np.cumsum((1.0 - 0.72 * difficulty, 0.28 * difficulty, 0.22 * difficulty, 0.22 * difficulty))
        view = views[min(int(np.searchsorted(share, rng.random(), side="right")), 3)]
        normal = np.clip(rng.standard_normal(6), -2.5, 2.5)
        return cls(
            yaw=view + (0.1 + 0.25 * difficulty) * float(normal[0]),
            phase=2 * math.pi * float(rng.random()),
            stride=0.22 + 0.2 * difficulty * float(rng.random()),
            lean=0.045 * difficulty * float(normal[1]),
            scale=math.exp((0.01 + 0.06 * difficulty) * float(normal[2])),
            dx=(0.01 + 0.07 * difficulty) * float(normal[3]),
            dy=(0.005 + 0.035 * difficulty) * float(normal[4]),
            folds=1.0 + 5.0 * float(rng.random()),
        )

    @property
    def view(self) -> str:
        """The side that the camera sees: ``"front"``, ``"back"`` or ``"side"``."""
        facing = math.cos(self.yaw)
        return "front" if facing > 0.6 else "back" if facing < -0.6 else "side"


def draw_person(canvas: Canvas, person: Person, pose: Pose) -> None:
    """Draw ``person`` in ``pose`` onto ``canvas``, standing near its lower edge."""
    _Figure(canvas, person, pose).draw()


class _Figure:
    def __init__(self, canvas: Canvas, person: Person, pose: Pose) -> None:
        self.canvas = canvas
        self.person = person
        self.pose = pose
        self.sin, self.cos = math.sin(pose.yaw), math.cos(pose.yaw)
        height, width = canvas.image.shape[:2]
        self.foot = (width * (0.5 + pose.dx), height * (0.965 + pose.dy))
        self.neck = 0.985 - 2 * person.head - 0.018
        self.ankle = 0.035
        self.knee = 0.53 * person.legs

    def draw(self) -> None:
        person = self.person
        arms = sorted((self._arm(side) for side in (-1, 1)), key=lambda arm: arm[0])
        far, near = [arm for arm in arms if arm[0] < -0.03], [arm for arm in arms if arm[0] >= -0.03]
        for _, joints, side in far:
            self._draw_arm(joints, side)
        behind = self.cos > -0.15
        if person.bag == "backpack" and behind:
            self._backpack()
        self._legs()
        self._skirt()
        if self.cos > 0.2:
            self._mane()
        self._torso()
        if person.bag == "backpack" and not behind:
            self._backpack()
        self._head()
        if self.cos <= 0.2:
            self._mane()
        if person.bag == "shoulder":
            self._strap()
        for _, joints, side in near:
            self._draw_arm(joints, side)

    def _at(self, x: float, y: float, z: float) -> tuple[float, float]:
        """Project a point (right, up, forward of the person; body heights) to pixels."""
        u = x * self.cos + z * self.sin
        depth = z * self.cos - x * self.sin
        v = y - _PITCH * depth
        lean = self.pose.lean
        scale = self.canvas.scale
        return self.foot[0] + scale * (u + lean * v), self.foot[1] - scale * v

    def _wide(self, across: float, deep: float) -> float:
        """Return the apparent half width of an elliptic cross-section."""
        return math.hypot(across * self.cos, deep * self.sin)

    def _legs(self) -> None:
        person, canvas = self.person, self.canvas
        amplitude = self.pose.stride * person.stride
        legs = []
        for side in (-1, 1):
            thigh = amplitude * math.sin(self.pose.phase + (0 if side > 0 else math.pi))
            bend = 0.15 + 1.3 * amplitude * max(0.0, math.cos(self.pose.phase + (0 if side > 0 else math.pi)))
            x = side * person.hip * 0.52
            upper, lower = person.legs - self.knee, self.knee - self.ankle
            ky, kz = person.legs - upper * math.cos(thigh), upper * math.sin(thigh)
            ay, az = ky - lower * math.cos(thigh - bend), kz + lower * math.sin(thigh - bend)
            depth = az * self.cos - x * self.sin
            legs.append((depth, x, ky, kz, max(ay, 0.02), az))
        girth = 0.047 * person.limb
        cloth = person.lower
        bare = person.bottom != "trousers"
        for _, x, ky, kz, ay, az in sorted(legs):
            hip, knee = self._at(x, person.legs, 0.0), self._at(x * 0.95, ky, kz)
            ankle, toe = self._at(x * 0.9, ay, az), self._at(x * 1.15, ay - 0.028, az + 0.085)
            cut = person.cut
            canvas.tube(ankle, toe, (0, 0.5, 1), (0.022, 0.026, 0.019), person.shoes, ends="round")
            if bare:
                canvas.tube(hip, knee, (0, 1), (girth * 1.15, girth * 0.8), person.skin)
                calf = (girth * 0.8, girth * 0.84, girth * 0.48)
                canvas.tube(knee, ankle, (0, 0.35, 1), calf, person.skin, ends="round")
                if person.bottom == "shorts":
                    share = min((person.legs - person.hem) / (person.legs - self.knee), 1.0)
                    end = tuple(h + share * (k - h) for h, k in zip(hip, knee))
                    canvas.tube(
                        hip, end, (0, 1), (girth * 1.25, girth * (0.6 + 0.45 * cut)), cloth,
                        turn=self.pose.yaw, folds=self.pose.folds,
                    )
            else:
                ends = (girth * 0.9 * (0.55 + 0.4 * cut), girth * (0.1 + 0.62 * cut))
                canvas.tube(
                    knee, ankle, (0, 1), ends, cloth,
                    turn=self.pose.yaw, begin=person.legs - self.knee, ends="round", folds=self.pose.folds,
                )
                canvas.tube(
                    hip, knee, (0, 1), (girth * 1.25, ends[0]), cloth,
                    turn=self.pose.yaw, ends="round", folds=self.pose.folds,
                )

    def _skirt(self) -> None:
        person = self.person
        if person.bottom not in ("skirt", "dress"):
            return
        waist, hip = self._wide(person.waist, person.waist * 0.75), self._wide(person.hip * 1.08, person.hip * 0.9)
        # Seen from the side, a step widens the hem.
        flare = hip * (0.75 + 0.45 * person.cut) + 0.05 * self.pose.stride * abs(self.sin)
        top = person.legs + 0.11
        self.canvas.tube(
            self._at(0, top, 0), self._at(0, person.hem if person.top != "coat" else 0.28, 0),
            (0, 0.4 if person.bottom == "skirt" else 0.25, 1), (waist, hip, flare), person.lower,
            turn=self.pose.yaw, folds=self.pose.folds,
        )

    def _torso(self) -> None:
        person, canvas = self.person, self.canvas
        shoulder = self._wide(person.shoulder, 0.075 * person.limb)
        chest = self._wide(person.shoulder * 0.9, 0.5 * person.shoulder + 0.35 * person.waist)
        waist, hip = self._wide(person.waist, person.waist * 0.85), self._wide(person.hip, person.hip * 0.85)
        top = self.neck
        coat = person.top == "coat"
        tucked = person.bottom in ("skirt", "dress") and not coat
        end = person.hem if coat else person.legs + 0.06 if tucked else person.legs - 0.035
        heights = [top, top - 0.022, top - 0.05, top - 0.1, person.legs + 0.12, person.legs + 0.01, end]
        widths = [shoulder * 0.36, shoulder * 0.74, shoulder * 0.93, max(chest, shoulder * 0.85), waist * 1.03]
        widths += [hip * 1.06, hip * (0.7 + 0.4 * person.cut) if coat else hip * 1.07]
        if tucked:
            heights, widths = [*heights[:5], end], [*widths[:5], waist * 1.05]
        stations = [(top - height) / (top - end) for height in heights]
        axis = self._at(0, top, 0), self._at(0, end, 0)
        canvas.tube(*axis, stations, widths, person.upper, turn=self.pose.yaw, folds=self.pose.folds)
        if person.top in ("open", "coat") and self.cos > 0.1:
            # The opening shows the inner garment and turns away with the body: a strip down to the hem of a
            # jacket, a V at the collar of a coat.
            jacket = person.top == "open"
            shift = 0.8 * self.sin * waist * canvas.scale
            (ax, ay), (bx, by) = axis
            share, strip = (1.0, 0.4) if jacket else (0.32, 0.0)
            bx, by = ax + share * (bx - ax), ay + share * (by - ay)
            canvas.tube(
                (ax + shift * 0.6, ay), (bx + shift, by), (0, 0.1, 1),
                (0.02, 0.4 * waist * self.cos, strip * waist * self.cos), person.inner,
                turn=self.pose.yaw, folds=self.pose.folds,
            )
        if person.bag == "backpack" and self.cos > 0.1:
            for side in (-1, 1):
                x = side * 0.55 * person.shoulder
                canvas.tube(
                    self._at(x, top - 0.01, 0.04), self._at(x * 1.1, top - 0.19, 0.04), (0, 1), (0.013, 0.011),
                    person.bag_material,
                )

    def _arm(self, side: int) -> tuple[float, list[tuple[float, float]], int]:
        """Return depth, projected shoulder, elbow, wrist and hand, and side of one arm."""
        person = self.person
        swing = -0.8 * self.pose.stride * person.stride * math.sin(self.pose.phase + (0 if side > 0 else math.pi))
        bend = 0.25 + 0.5 * max(0.0, swing)
        if person.bag == "handbag" and side == person.bag_side:
            swing, bend = 0.3 * swing, 0.05
        x, y = side * (person.shoulder - 0.024), self.neck - 0.058
        ex, ey, ez = x + side * 0.022, y - 0.165 * math.cos(swing), 0.165 * math.sin(swing)
        wx, wy, wz = ex + side * 0.004, ey - 0.14 * math.cos(swing + bend), ez + 0.14 * math.sin(swing + bend)
        hand = (wx, wy - 0.04 * math.cos(swing + bend), wz + 0.04 * math.sin(swing + bend))
        depth = ez * self.cos - x * self.sin
        return depth, [self._at(x, y, 0), self._at(ex, ey, ez), self._at(wx, wy, wz), self._at(*hand)], side

    def _draw_arm(self, joints: list[tuple[float, float]], side: int) -> None:
        person, canvas = self.person, self.canvas
        shoulder, elbow, wrist, hand = joints
        girth = 0.031 * person.limb
        if person.bag == "handbag" and side == person.bag_side:
            self._pouch(hand, 0.03)
        canvas.tube(wrist, hand, (0, 1), (0.017, 0.019), person.skin, ends="round")
        covered = person.sleeve * 2
        if covered < 2:
            canvas.tube(elbow, wrist, (0, 1), (girth * 0.8, girth * 0.58), person.skin, ends="round")
        if covered < 1:
            canvas.tube(shoulder, elbow, (0, 1), (girth * 0.98, girth * 0.8), person.skin, ends="round")
        if covered > 1:
            share = covered - 1
            cuff = tuple(e + share * (w - e) for e, w in zip(elbow, wrist))
            canvas.tube(
                elbow, cuff, (0, 1), (girth * 1.0, girth * 0.85), person.upper, turn=self.pose.yaw, begin=0.2,
                folds=self.pose.folds,
            )
        if covered > 0:
            share = min(covered, 1.0)
            end = tuple(s + share * (e - s) for s, e in zip(shoulder, elbow))
            canvas.tube(
                shoulder, end, (0, 1), (girth * 1.12, girth * 1.02), person.upper, turn=self.pose.yaw, begin=0.035,
                ends="round" if share == 1.0 else "socket", folds=self.pose.folds,
            )

    def _head(self) -> None:
        person, canvas = self.person, self.canvas
        radius, wide = person.head, person.head * 0.76
        chin, top = self.neck + 0.014, 0.985
        canvas.tube(
            self._at(0, chin + 0.02, 0.01), self._at(0, self.neck - 0.012, 0), (0, 1), (0.029, 0.034), person.skin
        )
        crown, base = self._at(0, top - wide, 0), self._at(0, chin + wide * 0.8, 0.012)
        cover = person.skin if person.hair == "bald" else person.hair_material
        skull = wide * (1.0 if person.hair == "bald" else 1.1)
        canvas.tube(crown, base, (0, 0.5, 1), (skull, skull, skull * 0.82), cover, ends="round")
        if self.cos > -0.45 and person.hair != "bald":
            # The face turns with the head: narrower and further out at the side.
            face = wide * (0.42 + 0.46 * max(self.cos, 0.0))
            shift = 0.5 * wide * self.sin * canvas.scale
            brow = self._at(0, top - wide - radius * 0.35, 0)
            canvas.tube(
                (brow[0] + shift, brow[1]), (base[0] + shift, base[1]), (0, 1), (face, face * 0.82), person.skin,
                ends="round",
            )
        if person.hair == "cap":
            rim = self._at(0, top - wide, 0)
            widths = (wide * 0.6, wide, wide * 1.18)
            canvas.tube(self._at(0, top + 0.006, 0), rim, (0, 0.3, 1), widths, person.bag_material)
            peak = (rim[0] + 1.7 * wide * self.sin * canvas.scale, rim[1])
            canvas.tube(rim, peak, (0, 1), (0.014, 0.008), person.bag_material, ends="round")
        if person.hair == "bun":
            knot = self._at(0, top + 0.004, -0.045)
            canvas.tube(knot, knot, (0, 1), (0.03, 0.03), person.hair_material, ends="round")
        if person.hair == "long" and self.cos > 0.2:
            for side in (-1, 1):
                x = side * wide * 0.92
                canvas.tube(
                    self._at(x, chin + radius, 0.0), self._at(x * 1.15, self.neck - 0.09, 0.03), (0, 0.5, 1),
                    (0.014, 0.019, 0.008), person.hair_material, ends="round",
                )

    def _mane(self) -> None:
        """Draw the hair behind the head: under the torso from the front, over the head from behind."""
        person = self.person
        if person.hair not in ("long", "bob"):
            return
        length = 0.16 if person.hair == "long" else 0.045
        wide = person.head * 0.76 * (1.25 if person.hair == "long" else 1.3)
        self.canvas.tube(
            self._at(0, 0.94, -0.02), self._at(0, self.neck + 0.02 - length, -0.045), (0, 0.4, 1),
            (wide * 0.95, wide, wide * 0.85), person.hair_material, ends="round",
        )

    def _backpack(self) -> None:
        person = self.person
        size = person.bag_size * 1.2
        wide = self._wide(0.075 + 0.4 * (size - 0.09), 0.055)
        back = -(0.6 * person.waist + 0.04)
        self.canvas.tube(
            self._at(0, self.neck - 0.03, back), self._at(0, self.neck - 0.05 - 2 * size, back),
            (0, 0.15, 0.8, 1), (wide * 0.8, wide, wide, wide * 0.85), person.bag_material, turn=self.pose.yaw,
        )

    def _strap(self) -> None:
        """Draw a bag at the hip, with its strap across chest and back from the other shoulder."""
        person = self.person
        x = person.bag_side * (person.hip + 0.02)
        front = 0.06 if self.cos > 0 else -0.06
        over = self._at(-person.bag_side * 0.6 * person.shoulder, self.neck - 0.01, 0)
        self.canvas.tube(
            over, self._at(x, person.legs + 0.05, front), (0, 1), (0.011, 0.011), person.bag_material
        )
        if -person.bag_side * self.sin > -0.5:
            self._pouch(self._at(x, person.legs + 0.05, front * 0.5), 0.0)

    def _pouch(self, at: tuple[float, float], drop: float) -> None:
        scale, size = self.canvas.scale, self.person.bag_size
        x, y = at
        wide = self._wide(0.6, 1.0) * size * 0.85
        self.canvas.tube((x, y), (x, y + (drop + 0.001) * scale), (0, 1), (0.014, 0.014), self.person.bag_material)
        self.canvas.tube(
            (x, y + drop * scale), (x, y + (drop + 1.5 * size) * scale), (0, 0.2, 1), (wide * 0.75, wide, wide),
            self.person.bag_material, turn=self.pose.yaw,
        )
