"""One phantom, from its index: draw the patient, sum up the body, add the lesions, develop the film."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

import xrt.runtime.phantoms.diffuse as diffuse
import xrt.runtime.phantoms.film as film
import xrt.runtime.phantoms.focal as focal
import xrt.runtime.phantoms.patient as patient
import xrt.runtime.phantoms.skeleton as skeleton
import xrt.runtime.phantoms.thorax as thorax
import xrt.runtime.phantoms.vessels as vessels
from xrt.runtime.geometry import Box
from xrt.runtime.phantoms.canvas import FIELD, TOP, Canvas
from xrt.runtime.phantoms.records import DEFAULT_CONTRAST, LESIONS, Lesion, Phantom
from xrt.runtime.phantoms.scene import WATER, Change, Scene

# A lesion is one function here, and, if it is a label, one name in `records.LESIONS`.
RULES: dict[str, Callable[[Scene, float], list[Change]]] = {
    "Atelectasis": focal.atelectasis,
    "Cardiomegaly": diffuse.cardiomegaly,
    "Consolidation": focal.consolidation,
    "Effusion": diffuse.effusion,
    "Infiltration": diffuse.infiltration,
    "Mass": focal.mass,
    "Nodule": focal.nodule,
    "Pneumonia": focal.pneumonia,
    "Pneumothorax": diffuse.pneumothorax,
    "peripheral": focal.peripheral,
    "interstitial": diffuse.interstitial,
}
# The heart first, because the others are placed around it; then the pleura; small things last.
_ORDER = ("Cardiomegaly", "Effusion", "Pneumothorax", "interstitial", "Infiltration", "peripheral",
          "Consolidation", "Pneumonia", "Atelectasis", "Mass", "Nodule")  # fmt: skip

_NUMBER = (0.40, 0.34, 0.18, 0.08)  # chance of 0, 1, 2, 3 findings
_VISIBLE = 0.3  # of a lesion's largest change of grey: what is fainter lies outside its box


@dataclass(frozen=True)
class Rendering:
    """A phantom and what only some layouts need: the lungs, bool [H, W]."""

    phantom: Phantom
    lungs: np.ndarray


def phantom(
    index: int,
    *,
    seed: int = 0,
    size: int = 512,
    contrast: tuple[float, float] = DEFAULT_CONTRAST,
    prevalence: Mapping[str, float] | None = None,
    findings: Sequence[str] | None = None,
    healthy: bool = False,
) -> Phantom:
    """The phantom with this index; it depends on the arguments alone, not on any other phantom.

    `size` is the side in pixels (at least 64). `contrast` bounds the lesions' contrast-to-noise ratios, drawn
    log-uniformly. `prevalence` maps names of `LESIONS` to relative frequencies (default: all alike; a name
    left out does not occur). `findings` forces exactly these lesions. `healthy` leaves the lesions out and
    keeps everything else, noise included: the counterfactual of the same image.

    Raises ValueError for a size under 64, contrasts that are not 0 < low ≤ high, or an unknown lesion.
    """
    return render(
        index,
        seed=seed,
        size=size,
        contrast=contrast,
        prevalence=prevalence,
        findings=findings,
        healthy=healthy,
    ).phantom


def generate(
    count: int,
    *,
    seed: int = 0,
    size: int = 512,
    contrast: tuple[float, float] = DEFAULT_CONTRAST,
    prevalence: Mapping[str, float] | None = None,
) -> Iterator[Phantom]:
    """Phantoms 0 to `count` − 1, one after the other; arguments and errors as in `phantom`."""
    for index in range(count):
        yield phantom(index, seed=seed, size=size, contrast=contrast, prevalence=prevalence)


def render(
    index: int,
    *,
    seed: int = 0,
    size: int = 512,
    contrast: tuple[float, float] = DEFAULT_CONTRAST,
    prevalence: Mapping[str, float] | None = None,
    findings: Sequence[str] | None = None,
    healthy: bool = False,
) -> Rendering:
    """As `phantom`, with the lungs; `findings` may also name the patterns that are no labels."""
    if size < 64:
        raise ValueError(f"size is {size}; a phantom needs at least 64 pixels per side")
    if not 0 < contrast[0] <= contrast[1]:
        raise ValueError(f"contrast is {contrast}; give (low, high) with 0 < low <= high")
    number, follow_up = patient.locate(index, seed)
    body = patient.anatomy(seed, number)
    shot = patient.exposure(seed, number, follow_up, body)
    if findings is None:
        findings = _findings(patient.generator(seed, patient.PLAN, number, follow_up), prevalence)
    if unknown := sorted(set(findings) - set(RULES)):
        raise ValueError(f"no rule for {', '.join(unknown)}; known are {', '.join(RULES)}")

    # Beyond 1.2 points per millimetre nothing gets sharper; a portable AP image is a little less sharp.
    canvas = Canvas(round(min(size * 1.15, 560) * (0.8 if shot.view == "AP" else 1.0)))
    chest = thorax.build(body, shot, canvas)
    attenuation, vascular = _healthy(body, shot, canvas, chest, patient.generator(seed, patient.TEXTURE, number))
    plate = film.expose(attenuation, chest.air, shot)
    log = plate.log(attenuation)
    lesions: list[Lesion] = []
    if not healthy:
        rng = patient.generator(seed, patient.LESION, number, follow_up)
        scene = Scene(body, shot, canvas, chest, vascular, rng)
        for name in sorted(findings, key=_ORDER.index):
            strength = float(np.exp(rng.uniform(*np.log(contrast))))
            for change in RULES[name](scene, strength):
                lesions.append(_apply(name, change, strength, attenuation, log, plate, scene, size))
    noise = patient.generator(seed, patient.NOISE, number, follow_up)
    result = Phantom(
        image=film.develop(log, plate, shot, canvas, size, noise),
        labels=() if healthy else tuple(sorted(name for name in findings if name in LESIONS)),
        lesions=tuple(lesions),
        patient_id=number,
        follow_up=follow_up,
        age=min(body.age + follow_up, 94),
        sex=body.sex,
        view=shot.view,
        spacing=round(10 * shot.field / size, 4),
    )
    lungs = film.project((chest.air > 2.5).astype(np.float32), shot, canvas, size) > 0.5
    return Rendering(result, lungs)


def _findings(rng: np.random.Generator, prevalence: Mapping[str, float] | None) -> tuple[str, ...]:
    weights = np.array([1.0 if prevalence is None else prevalence.get(name, 0.0) for name in LESIONS])
    if prevalence is not None and (unknown := sorted(set(prevalence) - set(LESIONS))):
        raise ValueError(f"no rule for {', '.join(unknown)}; known are {', '.join(LESIONS)}")
    number = min(int(rng.choice(len(_NUMBER), p=_NUMBER)), int(np.count_nonzero(weights)))
    if number == 0:
        return ()
    return tuple(str(name) for name in rng.choice(LESIONS, number, replace=False, p=weights / weights.sum()))


def _healthy(
    body: patient.Anatomy,
    shot: patient.Exposure,
    canvas: Canvas,
    chest: thorax.Thorax,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Log attenuation [n, n] without lesions, and the part of it that is pulmonary vessels."""
    parenchyma = 1 - np.float32(body.inflation)
    in_lung = np.minimum(chest.air / np.float32(7), 1)
    vascular = WATER * parenchyma * vessels.build(canvas, rng, shot.rotation) * in_lung
    grain = 0.5 * canvas.noise(rng, 0.9) + 0.4 * canvas.noise(rng, 0.45)
    cloud = 0.35 * canvas.noise(rng, 5.0)
    soft_tissue = chest.body - parenchyma * chest.air * (1 + 0.03 * cloud) - chest.gas
    attenuation = WATER * np.maximum(soft_tissue, 0) + vascular + 0.022 * grain * in_lung
    attenuation += skeleton.build(body, shot, canvas, chest)
    return attenuation.astype(np.float32), vascular.astype(np.float32)


def _apply(
    name: str,
    change: Change,
    strength: float,
    attenuation: np.ndarray,
    log: np.ndarray,
    plate: film.Film,
    scene: Scene,
    size: int,
) -> Lesion:
    """Scale one change to its contrast, write it into `attenuation` and `log`, and measure its box."""
    rows, cols = change.rows, change.cols
    before, under = log[rows, cols].copy(), attenuation[rows, cols]
    fixed = np.zeros_like(under) if change.fixed is None else change.fixed.astype(np.float32)
    added, contrast = fixed, strength
    if change.unit is not None:
        # Nothing absorbs more than water in place of all air, or less than air in place of all tissue.
        water = WATER * scene.chest.air[rows, cols]
        limit = np.where(change.unit > 0, change.share * (1 - scene.body.inflation), scene.body.inflation)
        limit = np.maximum(water * limit, 0.01).astype(np.float32)
        core = np.abs(change.unit) > _VISIBLE * np.abs(change.unit).max()
        deviation = float(plate.deviation(before[core]).mean())
        mean = float(np.abs(change.unit[core]).mean())
        most = 1.2 * float(np.percentile(limit[core], 80)) / mean  # beyond this a lesion only loses its texture
        gain = min(strength * deviation / mean, most)
        for _ in range(4):  # scatter and the limit make the answer less than linear
            added = fixed + limit * np.tanh(np.float32(gain) * change.unit / limit)
            after = plate.log(under + added, rows, cols)
            contrast = float(np.abs(after - before)[core].mean()) / deviation
            if contrast > 0.98 * strength or gain >= most:
                break
            gain = min(gain * strength / max(contrast, 1e-6), most)
    under += added
    log[rows, cols] = after = plate.log(under, rows, cols)
    if change.box is None:
        visible = np.abs(plate.grey(after) - plate.grey(before))
        where = np.argwhere(visible > _VISIBLE * np.percentile(visible[visible > 0.02 * visible.max()], 97))
        points = (where[:, ::-1] + (cols.start + 0.5, rows.start + 0.5)) * scene.canvas.step + (
            -FIELD / 2,
            TOP,
        )
    else:
        x0, y0, x1, y1 = change.box
        points = np.array([[x0, y0], [x1, y0], [x0, y1], [x1, y1]])
    corners = film.to_image(points, scene.shot, size)
    x0, y0 = np.clip(corners.min(axis=0), 0, size - 2)
    x1, y1 = np.clip(corners.max(axis=0), (x0 + 2, y0 + 2), size)
    x, y, width, height = (round(float(v), 1) for v in (x0, y0, x1 - x0, y1 - y0))
    return Lesion(name, Box(x, y, width, height), round(contrast, 2))
