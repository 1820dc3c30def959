"""Is this a frontal chest radiograph of a human? The header is checked before pixels are decoded.

Secondary-capture classes are common for real chest images, so the SOP class says nothing; modality, body part, view,
orientation, species and, where those are not stated, the descriptions do. What they say against a frontal chest
radiograph rejects the image; what they leave open becomes a note on the result. Codes are judged as codes, by DICOM
PS3.16 (CID 4009 and 4010, 2024d), words by lists of what hospitals write. Reasons and notes hold words of these lists
alone, never a text of the header, which may hold a name.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from xrt.runtime.errors import NotAChestRadiograph

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

RADIOGRAPHY = {"CR", "DX", "RG", "DR"}
OTHER_MODALITIES = {
    "BI", "BMD", "CT", "DG", "DOC", "ECG", "ES", "GM", "IO", "IVOCT", "IVUS", "KO", "LS", "MG", "MR", "NM", "OCT",
    "OP", "OPT", "OT", "PR", "PT", "PX", "REG", "RF", "RTDOSE", "RTIMAGE", "RTPLAN", "RTSTRUCT", "SC", "SEG", "SM",
    "SR", "TG", "US", "XA", "XC",
}  # fmt: skip
CHEST = {
    "CHEST", "THORAX", "TORAX", "TORACE", "LUNG", "LUNGS", "HEARTLUNG", "PULMONARY", "CHESTABDOMEN", "BABYGRAM",
}  # fmt: skip
CHEST_WORDS = CHEST | {"CXR", "THORACIC", "THORACIQUE", "TORACICO", "POUMON", "POUMONS", "LUNGE", "LUNGEN", "PULMON"}
OTHER_PARTS = {
    "ABDOMEN", "ANKLE", "ARM", "BREAST", "CALCANEUS", "CLAVICLE", "COLUMN", "CSPINE", "DENTAL", "ELBOW", "EXTREMITY",
    "FEMUR", "FINGER", "FOOT", "FOREARM", "HAND", "HEAD", "HIP", "HUMERUS", "JAW", "KNEE", "LEG", "LSPINE", "MANDIBLE",
    "MAXILLA", "NECK", "PELVIS", "RIB", "RIBS", "RIBCAGE", "SCAPULA", "SHOULDER", "SKULL", "SPINE", "STERNUM", "TEETH",
    "TIBIA", "TOE", "TOOTH", "TSPINE", "VERTEBRA", "WRIST",
}  # fmt: skip
_BONES_OF_THE_CHEST = {"COLUMN", "RIB", "RIBS", "RIBCAGE", "SPINE", "STERNUM", "TSPINE", "VERTEBRA"}
CHEST_CODES = {
    "816094009", "51185008", "39607008", "43799004", "72410000", "80891009", "86598002", "416775004", "416550000",
    "417437006", "416319003", "416152001", "T-D3000", "T-28000", "T-D3300", "T-32000", "T-280A0", "R-FAB52", "R-FAB53",
    "R-FAB54", "R-FAB55", "R-FAB56", "T-D3005", "R-FAB57",
}  # fmt: skip
"""Chest, lung, thoracic cavity, mediastinum, heart, and regions that hold the chest: SNOMED CT and SNOMED-RT."""
FRONTAL_CODES = {
    "399348003": "AP", "R-10206": "AP", "272479007": "PA", "R-40888": "PA", "R-10214": "PA", "399033003": "",
    "R-10202": "",
}  # fmt: skip
OTHER_VIEW_CODES = {
    "399242004", "399312000", "399061009", "399196006", "399162004", "399335002", "399160007", "399132005", "399352003",
    "260427002", "399067008", "399099002", "399135007", "399173006", "399184004", "399006002", "260426006", "399368009",
    "399260004", "399004004", "399225005", "399288005", "399182000", "260499007", "399351005", "399316002", "399272005",
    "399071006", "399059000", "399356000", "399198007", "399236003", "399038007", "30730003", "399325008", "399255003",
    "399110001", "399360002", "R-102C6", "R-10208", "R-10241", "R-10244", "R-10242", "R-102C4", "R-10204", "R-10252",
    "R-10228", "R-40783", "R-102CD", "R-10230", "R-10220", "R-10236", "R-10238", "R-10212", "R-40782", "R-10226",
    "R-10224", "R-10246", "R-10250", "R-10248", "R-102C1", "R-40810", "R-102C7", "R-102C8", "R-102C5", "R-102C3",
    "R-10216", "R-40985", "R-10232", "R-10234", "R-10210", "G-A145", "R-10254", "R-10256", "R-102C2", "R-10257",
    "R-10218", "R-10222",
}  # fmt: skip
"""The views of CID 4010 that are not frontal."""
SERIES_DESCRIPTIONS = ("SeriesDescription", "AcquisitionDeviceProcessingDescription", "ProtocolName")
DESCRIPTIONS = (
    *SERIES_DESCRIPTIONS,
    "StudyDescription",
    "PerformedProcedureStepDescription",
    "RequestedProcedureDescription",
)
_FRONTAL_WORDS = {
    "PA": "PA", "AP": "AP", "DV": "PA", "POSTEROANTERIOR": "PA", "ANTEROPOSTERIOR": "AP", "FRONTAL": "", "FRONTALE": "",
    "FACE": "",
}  # fmt: skip
_FRONTAL_PHRASES = {"AP": "AP", "PA": "PA", "POSTEROANTERIOR": "PA", "ANTEROPOSTERIOR": "AP"}
_OTHER_VIEWS = {
    "LATERAL": r"[LR]?LAT(?:ERAL[A-Z]*|ERO[A-Z]*|[LR])?|LL|RL|SAG(?:ITTAL)?|SEITL(?:ICH)?|PROFIL[EO]?|PERFIL",
    "DECUBITUS": r"LLD|RLD|DECUB(?:ITUS)?",
    "OBLIQUE": r"LLO|RLO|[LR](?:AO|PO)|OBL(?:IQ[A-Z]*)?|SCHRAG|TANGENTIAL|SWIM(?:MER)?S?",
}
"""What a word that names another view is called in a reason, which repeats no text of the header."""
_HUMAN = {"HUMAN", "HOMO", "SAPIENS", "HUMANA", "HUMANO", "MENSCH", "337915000", "L-85B00", "CODE_HUMAN"}


@dataclass(frozen=True)
class Header:
    """What a DICOM header says about what is seen; what it does not say is empty."""

    modality: str = ""
    body_part: str = ""
    regions: tuple[tuple[str, str], ...] = ()
    """Code value and meaning of each item of AnatomicRegionSequence; likewise of ViewCodeSequence in `views`."""
    view_position: str = ""
    views: tuple[tuple[str, str], ...] = ()
    orientation: tuple[str, ...] = ()
    descriptions: dict[str, str] = field(default_factory=dict)
    species: tuple[str, ...] = ()
    breed: str = ""
    intent: str = ""

    @property
    def view(self) -> str:
        """`PA` or `AP` where the header says so, else empty."""
        for code, _ in self.views:
            if FRONTAL_CODES.get(code):
                return FRONTAL_CODES[code]
        frontal, other = _view_words(self.view_position)
        return "" if other or not frontal else frontal[0]


def read_header(dataset: Dataset) -> Header:
    """What `check_header` judges, of a pydicom data set."""

    def text(name: str) -> str:
        value = dataset.get(name)
        return "" if value is None else str(value) if isinstance(value, str) else "\\".join(map(str, _items(value)))

    def codes(name: str) -> tuple[tuple[str, str], ...]:
        items: Any = dataset.get(name) or ()
        return tuple((str(item.get("CodeValue") or ""), str(item.get("CodeMeaning") or "")) for item in items)

    return Header(
        modality=text("Modality"),
        body_part=text("BodyPartExamined"),
        regions=codes("AnatomicRegionSequence"),
        view_position=text("ViewPosition"),
        views=codes("ViewCodeSequence"),
        orientation=tuple(map(str, _items(dataset.get("PatientOrientation")))),
        descriptions={name: words for name in DESCRIPTIONS if (words := text(name))},
        species=tuple(
            filter(None, (text("PatientSpeciesDescription"), *(c or m for c, m in codes("PatientSpeciesCodeSequence"))))
        ),
        breed=text("PatientBreedDescription") or "".join(c for c, _ in codes("PatientBreedCodeSequence")),
        intent=text("PresentationIntentType"),
    )


def check_header(header: Header) -> tuple[str, ...]:
    """Notes on a header that may be a frontal chest radiograph's.

    Raises NotAChestRadiograph with the attribute, and the word of our lists, that say otherwise.
    """
    return (*_check_modality(header), *_check_species(header), *_check_part(header), *_check_view(header))


def _check_modality(header: Header) -> Iterable[str]:
    modality = _folded(header.modality)
    if not modality:
        yield "modality not stated"
    elif modality not in RADIOGRAPHY:
        name = modality if modality in OTHER_MODALITIES else "another"
        raise NotAChestRadiograph(f"Modality is {name}, not radiography ({', '.join(sorted(RADIOGRAPHY))})")
    if _folded(header.intent) == "FOR PROCESSING":
        yield "raw detector image (FOR PROCESSING)"


def _check_species(header: Header) -> Iterable[str]:
    said = {word for text in header.species for word in (_folded(text), *_words(text))}
    if header.breed.strip() or (said and not said & _HUMAN):
        raise NotAChestRadiograph("PatientSpecies or PatientBreed say that this is an animal")
    return ()


def _check_part(header: Header) -> Iterable[str]:
    words = set(_words(header.body_part))
    if words:
        if words & CHEST and not words & _BONES_OF_THE_CHEST:
            return ()
        named = sorted(words & OTHER_PARTS)
        raise NotAChestRadiograph(f"BodyPartExamined is {named[0] if named else 'another'}, not CHEST")
    if header.regions:
        if any(_is_chest_region(code, meaning) for code, meaning in header.regions):
            return ()
        raise NotAChestRadiograph("AnatomicRegionSequence names another part, not the chest")
    return _check_descriptions(header)


def _is_chest_region(code: str, meaning: str) -> bool:
    words = set(_words(meaning))
    return code in CHEST_CODES or bool(words & CHEST_WORDS and not words & _BONES_OF_THE_CHEST)


def _check_descriptions(header: Header) -> list[str]:
    attribute_of = {word: name for name, text in header.descriptions.items() for word in _words(text)}
    if attribute_of.keys() & CHEST_WORDS and not attribute_of.keys() & _BONES_OF_THE_CHEST:
        return []
    for word in sorted(attribute_of.keys() & OTHER_PARTS):
        raise NotAChestRadiograph(f"body part not stated, and {attribute_of[word]} says {word}")
    return ["body part not stated"]


def _check_view(header: Header) -> Iterable[str]:
    """The view code decides, then ViewPosition, then what describes the series, then PatientOrientation."""
    described_frontal, described_other = _described_views(header)
    stated = _stated_view(header)
    if stated is None:
        if described_other and not described_frontal:
            name, word = described_other
            raise NotAChestRadiograph(f"view not stated, and {name} says {word}: not a frontal view")
        letters = "".join(direction[:1].upper() for direction in header.orientation if direction)
        if set(letters) & set("AP") and set(letters) & set("HFLR"):
            raise NotAChestRadiograph(f"PatientOrientation is {letters[0]}\\{letters[1:2]}: not a frontal view")
        frontal = described_frontal or (len(letters) == 2 and set(letters) <= set("HFLR"))
        if _words(header.view_position) or header.views:
            yield "view not recognised"
        elif not frontal:
            yield "view not stated"
    elif described_other and not described_frontal:
        yield "the series' description names another view than the header"


def _stated_view(header: Header) -> str | None:
    """The frontal view that code or ViewPosition state; None for none.

    Raises NotAChestRadiograph where either states another view.
    """
    stated: str | None = None
    for code, meaning in header.views:
        frontal, other = _view_words(meaning)
        if code in OTHER_VIEW_CODES or (code not in FRONTAL_CODES and other and not frontal):
            raise NotAChestRadiograph("ViewCodeSequence: not a frontal view")
        if stated is None and (code in FRONTAL_CODES or (frontal and not other)):
            stated = FRONTAL_CODES.get(code, frontal[0] if frontal else "")
    frontal, other = _view_words(header.view_position)
    if other and not frontal:
        raise NotAChestRadiograph(f"ViewPosition is {other[0]}: not a frontal view")
    return frontal[0] if stated is None and frontal and not other else stated


def _view_words(text: str) -> tuple[list[str], list[str]]:
    """The frontal views that a text names, as PA, AP or "", and its words that name another view."""
    words = _words(text)
    compact = "".join(words)
    if compact in ("L", "R"):
        return [], ["LATERAL"]
    frontal = [_FRONTAL_WORDS[word] for word in words if word in _FRONTAL_WORDS]
    if not frontal and compact in _FRONTAL_PHRASES:
        frontal = [_FRONTAL_PHRASES[compact]]
    return frontal, [view for word in words for view, form in _OTHER_VIEWS.items() if re.fullmatch(form, word)]


def _described_views(header: Header) -> tuple[bool, tuple[str, str] | None]:
    """Whether any description names a frontal view, and one of the series that names another, with its word."""
    frontal, other = False, None
    for name, text in header.descriptions.items():
        names_frontal, names_other = _view_words(text)
        frontal |= bool(names_frontal)
        if names_other and name in SERIES_DESCRIPTIONS:
            other = other or (name, names_other[0])
    return frontal, other


def _items(value: Any) -> list[Any]:
    return [] if value is None else [value] if isinstance(value, str | int | float) else list(value)


def _folded(text: str) -> str:
    """Upper case, without accents."""
    plain = unicodedata.normalize("NFKD", text)
    return "".join(c for c in plain if not unicodedata.combining(c)).strip().upper()


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", _folded(text))
