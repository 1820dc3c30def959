"""What a header says against, or leaves open about, a frontal chest radiograph of a human."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset
from runtime.image_files import GREY, dicom

from xrt.runtime.errors import NotAChestRadiograph
from xrt.runtime.imaging import decode_radiograph
from xrt.runtime.imaging.header_check import Header, check_header


def code(value, scheme="SCT", meaning=""):
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return [item]


def header(**values):
    return Header(**{"modality": "DX", "body_part": "CHEST", "view_position": "PA", **values})


LATERAL = ["LL", "LAT", "LATERAL", "Left Lateral", "LLAT", "R-LAT", "lat_erect", "lateralis", "L", "R", "seitlich",
           "PROFIL", "perfil", "LAO", "RPO", "oblique", "SWIMMERS", "Swimmer's", "Latéral"]  # fmt: skip


@pytest.mark.parametrize("view", LATERAL)
def test_views_that_are_not_frontal(view):
    with pytest.raises(NotAChestRadiograph, match=r"ViewPosition is \w+: not a frontal view"):
        check_header(header(view_position=view))


@pytest.mark.parametrize(
    ("view", "expected"),
    [("PA", "PA"), ("ap", "AP"), ("A.P.", "AP"), ("P-A", "PA"), ("AP ERECT", "AP"), ("PA_STANDING", "PA"),
     ("posteroanterior", "PA"), ("Antero-Posterior", "AP"), ("AP SUPINE PORTABLE", "AP"), ("FRONTAL", "")],
)  # fmt: skip
def test_frontal_views_however_they_are_written(view, expected):
    stated = header(view_position=view)
    assert check_header(stated) == ()
    assert stated.view == expected


@pytest.mark.parametrize(
    ("value", "scheme"),
    [("R-10236", "SRT"), ("399173006", "SCT"), ("399198007", "SCT"), ("R-10232", "SRT"), ("399135007", "SCT")],
)
def test_a_view_code_counts_more_than_a_word(value, scheme):
    with pytest.raises(NotAChestRadiograph, match="ViewCodeSequence: not a frontal view"):
        decode_radiograph(dicom(GREY, ViewPosition="PA", ViewCodeSequence=code(value, scheme)))


def test_a_frontal_code_is_enough():
    radiograph = decode_radiograph(dicom(GREY, ViewPosition=None, ViewCodeSequence=code("R-10206", "SRT")))
    assert (radiograph.view, radiograph.notes) == ("AP", ())


def test_a_code_that_is_not_known_is_judged_by_its_meaning():
    with pytest.raises(NotAChestRadiograph, match="ViewCodeSequence"):
        check_header(header(view_position="", views=(("X-1", "Right lateral"),)))
    assert check_header(header(view_position="", views=(("X-1", "postero-anterior"),))) == ()
    assert check_header(header(view_position="", views=(("X-1", ""),))) == ("view not recognised",)


@pytest.mark.parametrize("text", ["CHEST LATERAL", "W034 Thorax lat.", "Thorax seitlich", "Torax perfil", "TORACE LL"])
@pytest.mark.parametrize("attribute", ["SeriesDescription", "ProtocolName"])
def test_a_description_of_the_series_tells_the_view(attribute, text):
    with pytest.raises(NotAChestRadiograph, match=f"view not stated, and {attribute} says"):
        check_header(header(view_position="", descriptions={attribute: text}))


def test_what_descriptions_leave_open():
    study = {"StudyDescription": "XR CHEST 2 VIEWS PA/LAT"}
    assert check_header(header(view_position="", descriptions=study)) == ()
    assert check_header(header(view_position="", descriptions={"StudyDescription": "CHEST LATERAL"})) == (
        "view not stated",
    )
    assert check_header(header(descriptions={"SeriesDescription": "LATERAL"})) == (
        "the series' description names another view than the header",
    )


@pytest.mark.parametrize("directions", [["A", "F"], ["P", "F"], ["P", "R"], ["AL", "F"]])
def test_an_orientation_that_is_not_frontal(directions):
    with pytest.raises(NotAChestRadiograph, match=r"PatientOrientation is \w\\\w: not a frontal view"):
        decode_radiograph(dicom(GREY, ViewPosition=None, PatientOrientation=directions))


def test_nothing_said_of_the_view_is_noted():
    assert decode_radiograph(dicom(GREY, ViewPosition=None)).notes == ("view not stated",)
    assert decode_radiograph(dicom(GREY, ViewPosition=None, PatientOrientation=["L", "F"])).notes == ()
    assert decode_radiograph(dicom(GREY, ViewPosition="XYZ")).notes == ("view not recognised",)


@pytest.mark.parametrize(
    "part", ["CHEST", "chest", "TÓRAX", "Thorax", "CHEST_PA", "LUNG", "TORACE", "CHEST ABDOMEN", "PULMONARY"]
)
def test_parts_that_are_a_chest(part):
    assert check_header(header(body_part=part)) == ()


@pytest.mark.parametrize(
    ("part", "said"), [("RIBCAGE", "RIBCAGE"), ("THORAX SPINE", "SPINE"), ("Smith John", "another"), ("KNEE", "KNEE")]
)
def test_parts_that_are_none_and_no_name_is_repeated(part, said):
    with pytest.raises(NotAChestRadiograph, match=f"BodyPartExamined is {said}, not CHEST"):
        check_header(header(body_part=part))


@pytest.mark.parametrize(
    ("value", "meaning", "accepted"),
    [
        ("51185008", "Thoracic structure", True),
        ("T-D3000", "", True),
        ("816094009", "anything", True),
        ("unknown", "Thorax", True),
        ("unknown", "Thoracic spine", False),
        ("72696002", "Knee", False),
    ],
)
def test_regions_are_judged_as_codes(value, meaning, accepted):
    data = dicom(GREY, BodyPartExamined=None, AnatomicRegionSequence=code(value, "SCT", meaning))
    if accepted:
        assert decode_radiograph(data).notes == ()
    else:
        with pytest.raises(NotAChestRadiograph, match="AnatomicRegionSequence names another part"):
            decode_radiograph(data)


def test_animals_are_rejected():
    for attributes in (
        {"PatientSpeciesDescription": "CANINE"},
        {"PatientSpeciesCodeSequence": code("448771007", meaning="Domestic dog")},
        {"PatientBreedDescription": "Beagle"},
    ):
        with pytest.raises(NotAChestRadiograph, match="animal"):
            decode_radiograph(dicom(GREY, **attributes))
    for attributes in (
        {"PatientSpeciesDescription": "Human"},
        {"PatientSpeciesCodeSequence": code("337915000", meaning="homo sapiens")},
        {"PatientSpeciesCodeSequence": code("L-85B00", "SRT")},
    ):
        assert decode_radiograph(dicom(GREY, **attributes)).notes == ()


def test_no_text_of_the_header_is_repeated():
    for attributes in (
        {"Modality": "SMITH"},
        {"BodyPartExamined": "SMITH"},
        {"ViewPosition": "SMITH LATERAL"},
        {"BodyPartExamined": None, "StudyDescription": "SMITH KNEE"},
        {"WindowCenter": 1, "WindowWidth": 2, "PatientOrientation": ["SMITH", "SMITH"]},
    ):
        try:
            radiograph = decode_radiograph(dicom(np.arange(4096, dtype=np.uint8).reshape(64, 64), **attributes))
            text = " ".join((*radiograph.notes, radiograph.view))
        except NotAChestRadiograph as error:
            text = str(error)
        assert "SMITH" not in text


@pytest.mark.parametrize(
    "attributes",
    [
        {"ViewPosition": "LATERALSMITH"},
        {"ViewPosition": None, "SeriesDescription": "OBLIQSMITH"},
        {"ViewPosition": None, "SeriesDescription": "LATEROSMITH"},
    ],
)
def test_a_word_that_only_begins_like_a_view_is_not_repeated(attributes):
    with pytest.raises(NotAChestRadiograph) as refused:
        decode_radiograph(dicom(GREY, **attributes))
    assert "SMITH" not in str(refused.value)


def test_a_frontal_code_does_not_outweigh_a_lateral_position():
    frontal = code("272479007")
    decode_radiograph(dicom(GREY, ViewCodeSequence=frontal))
    with pytest.raises(NotAChestRadiograph, match="ViewPosition is LATERAL"):
        decode_radiograph(dicom(GREY, ViewCodeSequence=frontal, ViewPosition="LL"))
