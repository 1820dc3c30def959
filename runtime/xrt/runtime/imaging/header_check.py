"""Is this a frontal chest radiograph? The header is checked before pixels are decoded.

Secondary-capture classes are common for real chest images, so the SOP class says nothing; Modality,
BodyPartExamined, ViewPosition and, where no body part is stated, the descriptions do. What they say against a chest
radiograph rejects the image; what they leave open becomes a note on the result. The words come from DICOM PS3.16
Annex L (body part defined terms) and from what hospitals write in descriptions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from xrt.runtime.errors import NotAChestRadiograph

RADIOGRAPHY = {"CR", "DX", "RG", "DR"}
CHEST = {"CHEST", "THORAX", "TORAX", "LUNG", "LUNGS", "HEARTLUNG", "PULMONARY"}
LATERAL_VIEWS = {"LL", "RL", "LAT", "LATERAL", "LLD", "RLD", "LLO", "RLO"}
# Words that name a chest in a description, in the languages known so far.
CHEST_WORDS = CHEST | {"CXR", "TÓRAX", "THORACIC", "POUMON", "LUNGE"}
OTHER_PARTS = {
    "ABDOMEN", "ANKLE", "ARM", "BREAST", "CALCANEUS", "CLAVICLE", "CSPINE", "DENTAL", "ELBOW", "EXTREMITY", "FEMUR",
    "FINGER", "FOOT", "FOREARM", "HAND", "HEAD", "HIP", "HUMERUS", "JAW", "KNEE", "LEG", "LSPINE", "MANDIBLE",
    "MAXILLA", "NECK", "PELVIS", "RIB", "RIBS", "RIBCAGE", "SHOULDER", "SKULL", "SPINE", "TEETH", "TIBIA", "TOE",
    "TOOTH", "WRIST",
}  # fmt: skip
DESCRIPTIONS = (
    "ProtocolName",
    "SeriesDescription",
    "StudyDescription",
    "PerformedProcedureStepDescription",
    "RequestedProcedureDescription",
    "AcquisitionDeviceProcessingDescription",
)


def check_header(header: Mapping[str, str]) -> tuple[str, ...]:
    """Notes on a header that may be a frontal chest radiograph's. Values are strings, missing ones absent or empty.

    Raises NotAChestRadiograph with the attribute and value that say otherwise.
    """
    notes = []
    modality = _clean(header.get("Modality"))
    if not modality:
        notes.append("modality not stated")
    elif modality not in RADIOGRAPHY:
        raise NotAChestRadiograph(f"Modality is {modality}, not radiography ({', '.join(sorted(RADIOGRAPHY))})")
    part = _clean(header.get("BodyPartExamined")) or _clean(header.get("AnatomicRegion"))
    if part:
        if not set(_words(part)) & CHEST:
            raise NotAChestRadiograph(f"BodyPartExamined is {part}, not CHEST")
    else:
        notes += _check_descriptions(header)
    view = _clean(header.get("ViewPosition"))
    if view in LATERAL_VIEWS:
        raise NotAChestRadiograph(f"ViewPosition is {view}, not a frontal view")
    if _clean(header.get("PresentationIntentType")) == "FOR PROCESSING":
        notes.append("raw detector image (FOR PROCESSING)")
    return tuple(notes)


def _check_descriptions(header: Mapping[str, str]) -> list[str]:
    attribute_of = {word: name for name in DESCRIPTIONS for word in _words(_clean(header.get(name)))}
    if attribute_of.keys() & CHEST_WORDS:
        return []
    for word in sorted(attribute_of.keys() & OTHER_PARTS):
        raise NotAChestRadiograph(f"body part not stated, and {attribute_of[word]} says {word}")
    return ["body part not stated"]


def _clean(value: str | None) -> str:
    return (value or "").strip().upper()


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", text)
