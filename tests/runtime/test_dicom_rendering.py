"""From stored values to grey levels, by the arithmetic of DICOM PS3.3 C.7.6.3, C.11.1 and C.11.2."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from runtime.image_files import dicom, encoded

from xrt.runtime.errors import UnreadableImage
from xrt.runtime.imaging import DecodeOptions, decode_radiograph

RNG = np.random.default_rng(3)
DEEP = np.linspace(500, 3500, 96 * 80).reshape(96, 80).astype(np.uint16)
TWELVE = {"BitsStored": 12, "HighBit": 11}


def rendered(pixels=DEEP, **attributes):
    return decode_radiograph(dicom(pixels, **(TWELVE if pixels.dtype == np.uint16 else {}) | attributes))


def assert_close(radiograph, expected, notes=()):
    assert np.abs(radiograph.pixels - expected).max() <= 1
    assert radiograph.notes == notes


def spanned(values):
    return (values - values.min()) / (values.max() - values.min()) * 255


def test_a_negative_slope_keeps_the_contrast():
    byte = np.arange(7680, dtype=np.uint32).reshape(96, 80) % 256
    shown = rendered(
        byte.astype(np.uint8), RescaleSlope=-10, RescaleIntercept=3000, WindowCenter=1725, WindowWidth=2550
    )
    assert_close(shown, ((3000 - 10.0 * byte - 1724.5) / 2549 + 0.5).clip(0, 1) * 255)


@pytest.mark.parametrize(("centre", "width"), [(40, 400), (60000, 100), (-5000, 1)])
def test_a_window_that_shows_nothing_is_replaced(centre, width):
    note = ("the window of the header shows nothing of the image: the values present are used",)
    assert_close(rendered(WindowCenter=centre, WindowWidth=width), spanned(DEEP), note)


@pytest.mark.parametrize("bits", [12, 16])
def test_eight_bits_are_about_stored_values(bits):
    """Optical density: 16 stored bits, but values of 0.5 to 3.5."""
    shown = rendered(BitsStored=bits, HighBit=bits - 1, RescaleSlope="0.001", RescaleIntercept=0, RescaleType="OD")
    assert_close(shown, spanned(DEEP))


@pytest.mark.parametrize("function", ["LINEAR_EXACT", "SIGMOID", "LINEAR"])
def test_narrow_windows(function):
    """Legal for all but LINEAR, where the values present are used."""
    density = DEEP * 0.001
    expected = {
        "LINEAR_EXACT": ((density - 2) / 0.5 + 0.5).clip(0, 1) * 255,
        "SIGMOID": 255 / (1 + np.exp(-4 * (density - 2) / 0.5)),
        "LINEAR": spanned(density),
    }[function]
    shown = rendered(
        RescaleSlope="0.001", RescaleIntercept=0, WindowCenter=2, WindowWidth="0.5", VOILUTFunction=function
    )
    note = ("the window of the header has no valid width: the values present are used",)
    assert_close(shown, expected, note if function == "LINEAR" else ())


@pytest.mark.parametrize("width", ["0", "-5"])
def test_a_window_without_width_is_replaced(width):
    note = ("the window of the header has no valid width: the values present are used",)
    assert_close(rendered(WindowCenter=2000, WindowWidth=width), spanned(DEEP), note)


def test_a_modality_table_of_one_value_fails():
    with pytest.raises(UnreadableImage, match="one grey level alone"):
        rendered(ModalityLUTSequence=table([7] * 4096))


@pytest.mark.parametrize(("rows", "columns"), [(96, 79), (96, 70), (95, 80), (60, 80), (96, 81), (97, 80)])
def test_rows_and_columns_must_be_those_of_the_pixels(rows, columns):
    with pytest.raises(UnreadableImage):
        rendered(Rows=rows, Columns=columns)


def test_a_few_bytes_after_the_pixels_are_noted():
    import io

    import pydicom

    dataset = pydicom.dcmread(io.BytesIO(dicom(DEEP, **TWELVE)))
    dataset.PixelData += b"vendor"
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    shown = decode_radiograph(buffer.getvalue())
    assert_close(shown, spanned(DEEP), ("the pixel data are followed by other bytes",))


def table(entries, first=0, bits=16, dtype="<u2"):
    item = Dataset()
    item.LUTDescriptor = [len(entries) % 65536, first, bits]
    item.LUTData = np.asarray(entries).astype(dtype).tobytes()
    return [item]


SQUARE = np.arange(4096.0) ** 2 / 4095


@pytest.mark.parametrize(
    ("sequence", "peak"),
    [
        (table(SQUARE, bits=12), 4095),
        (table(SQUARE / 4095 * 255, bits=8), 255),
        (table(SQUARE / 4095 * 255, bits=8, dtype="u1"), 255),
        (table(SQUARE, bits=16), 4095),
    ],
    ids=["words", "8 bits in words", "bytes", "12 bits called 16"],
)
def test_lookup_tables_however_they_are_stored(sequence, peak):
    assert_close(rendered(VOILUTSequence=sequence), np.floor(SQUARE / 4095 * peak)[DEEP] / peak * 255)


def test_a_modality_table_comes_before_the_window():
    shown = rendered(ModalityLUTSequence=table(SQUARE, bits=12), WindowCenter=2048, WindowWidth=4096)
    assert_close(shown, np.floor(SQUARE)[DEEP] / 4095 * 255)


@pytest.mark.parametrize(
    ("sequence", "message"),
    [
        (table(SQUARE[:4000], bits=12), None),
        (table(SQUARE, bits=40), "a lookup table of 40 bits"),
    ],
)
def test_a_table_that_does_not_fit(sequence, message):
    if message is None:
        sequence[0].LUTDescriptor = [4096, 0, 12]
        message = "a lookup table of 4096 entries has 8000 bytes of data"
    with pytest.raises(UnreadableImage, match=message):
        rendered(VOILUTSequence=sequence)


def test_values_at_the_upper_end_of_their_words():
    expected = ((DEEP - 1999.5) / 2999 + 0.5).clip(0, 1) * 255
    assert_close(rendered(DEEP << 4, BitsStored=12, HighBit=15, WindowCenter=2000, WindowWidth=3000), expected)


def test_signed_values():
    signed = (DEEP.astype(np.int32) - 2000).astype(np.int16)
    shown = rendered(
        signed.view(np.uint16), BitsStored=16, HighBit=15, PixelRepresentation=1, WindowCenter=0, WindowWidth=3000
    )
    assert_close(shown, ((signed + 0.5) / 2999 + 0.5).clip(0, 1) * 255)


def test_a_shutter_is_black_outside():
    shown = rendered(
        ShutterShape="RECTANGULAR",
        ShutterLeftVerticalEdge=12,
        ShutterRightVerticalEdge=70,
        ShutterUpperHorizontalEdge=1,
        ShutterLowerHorizontalEdge=96,
        WindowCenter=2000,
        WindowWidth=3000,
    )
    assert shown.notes == ("the shutter of the header is applied",)
    assert not shown.pixels[:, :12].any()
    assert not shown.pixels[:, 69:].any()
    assert shown.pixels[10:, 12:69].all()
    round_ = rendered(ShutterShape="CIRCULAR", CenterOfCircularShutter=[48, 40], RadiusOfCircularShutter=20)
    assert not round_.pixels[0].any()
    assert round_.pixels[60, 40]
    corners = [20, 20, 20, 60, 80, 40]
    polygon = rendered(ShutterShape="POLYGONAL", VerticesOfThePolygonalShutter=corners)
    assert not polygon.pixels[5].any()
    assert polygon.pixels[40, 38:42].all()


def test_polarities_that_contradict_each_other_follow_one_rule():
    note = ("PresentationLUTShape contradicts PhotometricInterpretation, which is followed",)
    assert_close(rendered(PresentationLUTShape="INVERSE"), spanned(DEEP), note)
    dark = rendered(PresentationLUTShape="IDENTITY", PhotometricInterpretation="MONOCHROME1")
    assert_close(dark, 255 - spanned(DEEP), note)
    assert rendered(PresentationLUTShape="INVERSE", PhotometricInterpretation="MONOCHROME1").notes == ()


def without(*names):
    """The file without attributes of its header, or of its meta information."""
    from io import BytesIO

    import pydicom

    dataset = pydicom.dcmread(BytesIO(dicom(DEEP, **TWELVE)))
    for name in names:
        if name == "meta":
            dataset.file_meta.clear()
        else:
            delattr(dataset, name)
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, dataset, implicit_vr=False, little_endian=True, enforce_file_format=False)
    return buffer.getvalue()


def test_headers_as_old_software_writes_them():
    stated = decode_radiograph(without("PhotometricInterpretation"))
    assert_close(stated, spanned(DEEP), ("photometric interpretation not stated: read as MONOCHROME2",))
    assert_close(
        decode_radiograph(without("meta"), suffix=".dcm"),
        spanned(DEEP),
        ("transfer syntax not stated: read by content",),
    )


def compressed(frame, syntax, pixels=DEEP, **attributes):
    from io import BytesIO

    import pydicom

    dataset = pydicom.dcmread(BytesIO(dicom(pixels, **TWELVE | attributes)))
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = syntax
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


BASELINE, EXTENDED, LOSSLESS, JPEG_LS, JPEG_2000 = (f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 70, 80, 90))
SMOOTH = spanned(DEEP).astype(np.uint8)


def test_the_codec_decides_how_many_bits_there_are():
    shown = decode_radiograph(compressed(encoded(SMOOTH, "JPEG", quality=98), BASELINE))
    assert np.abs(shown.pixels.astype(int) - SMOOTH).max() <= 3
    assert shown.notes == ("the header says 12 bits, the pixel data have 8",)


@pytest.mark.parametrize("syntax", [LOSSLESS, JPEG_LS, JPEG_2000])
@pytest.mark.parametrize("stored", [12, 16])
def test_lossless_codecs(syntax, stored):
    """Also where the codestream was written with 16 bits around 12."""
    import imagecodecs

    encode = {
        LOSSLESS: lambda: imagecodecs.jpeg8_encode(DEEP, lossless=True, predictor=1, bitspersample=16),
        JPEG_LS: lambda: imagecodecs.jpegls_encode(DEEP),
        JPEG_2000: lambda: imagecodecs.jpeg2k_encode(DEEP, reversible=True, level=0, codecformat="j2k"),
    }[syntax]
    shown = decode_radiograph(compressed(encode(), syntax, BitsStored=stored, HighBit=stored - 1))
    assert np.abs(shown.pixels - spanned(DEEP)).max() <= 1


def test_twelve_bits_of_jpeg_extended():
    import imagecodecs

    frame = imagecodecs.jpeg8_encode(DEEP, level=98, bitspersample=12)
    shown = decode_radiograph(compressed(frame, EXTENDED))
    assert np.abs(shown.pixels - spanned(DEEP)).max() <= 2


def test_a_codestream_of_another_size_is_refused():
    with pytest.raises(UnreadableImage, match="the header says 80 × 90 pixels of 1 components, .* hold 80 × 96 of 1"):
        decode_radiograph(compressed(encoded(SMOOTH, "JPEG"), BASELINE, Rows=90, BitsStored=8, HighBit=7))


def test_a_damaged_codestream_is_refused():
    noisy = RNG.integers(0, 256, (96, 80)).astype(np.uint8)
    frame = encoded(noisy, "JPEG")
    with pytest.raises(UnreadableImage, match="damaged or truncated JPEG data"):
        decode_radiograph(compressed(frame[: len(frame) // 2] + b"\xff\xd9", BASELINE, BitsStored=8, HighBit=7))


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"RescaleSlope": 0, "RescaleIntercept": 0}, "RescaleSlope is 0"),
        ({"RescaleSlope": "1e300", "RescaleIntercept": 0}, "RescaleSlope is no usable number"),
        ({"WindowCenter": "1e300", "WindowWidth": 1}, "WindowCenter is no usable number"),
        ({"VOILUTSequence": table([7])}, None),
        ({"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 4095}, "the whole image is padding"),
        ({"BitsStored": 20}, "allocates 16 bits, stores 20"),
    ],
)
def test_senseless_numbers_are_refused(attributes, message):
    if message is None:
        shown = rendered(**attributes)
        assert shown.pixels.std() > 20
        assert "shows nothing of the image" in shown.notes[0]
        return
    with pytest.raises(UnreadableImage, match=message):
        rendered(**attributes)


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("name", ["RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth"])
def test_numbers_that_are_not_finite_are_refused(name, number):
    numbers = {"RescaleSlope": 1, "RescaleIntercept": 0, "WindowCenter": 2000, "WindowWidth": 3000}
    tag = {"RescaleSlope": b"\x53\x10", "RescaleIntercept": b"\x52\x10"}
    tag |= {"WindowCenter": b"\x50\x10", "WindowWidth": b"\x51\x10"}
    data = rendered_bytes(**{**numbers, name: "1234"})
    place = data.index(b"\x28\x00" + tag[name] + b"DS\x04\x001234")
    data = data[: place + 8] + number.rjust(4).encode() + data[place + 12 :]
    with pytest.raises(UnreadableImage, match=f"{name} is no usable number|damaged DICOM"):
        decode_radiograph(data)


def rendered_bytes(**attributes):
    return dicom(DEEP, **TWELVE | attributes)


def test_one_grey_level_is_no_image():
    with pytest.raises(UnreadableImage, match="one grey level alone"):
        rendered(np.full((96, 80), 700, np.uint16))


@pytest.mark.parametrize(("rows", "message"), [(200, "truncated: 15,360 of 32,000"), (6, "15,360 bytes of pixel data")])
def test_more_or_less_pixel_data_than_the_header_says(rows, message):
    with pytest.raises(UnreadableImage, match=message):
        rendered(Rows=rows)


def test_bits_are_scaled_by_what_is_stored():
    dim = rendered(DEEP // 4)
    assert dim.pixels.max() == 255
    data = dicom(DEEP // 4, **TWELVE)
    assert decode_radiograph(data, DecodeOptions(without_window="bits")).pixels.max() == round(875 / 4095 * 255)


def test_burnt_in_text_is_noted():
    assert rendered(BurnedInAnnotation="YES").notes == ("the header says that text is burnt into the image",)


def test_the_transfer_syntax_must_be_one():
    from io import BytesIO

    import pydicom

    dataset = pydicom.dcmread(BytesIO(dicom(DEEP, **TWELVE)))
    dataset.file_meta.TransferSyntaxUID = "1.2.3.4"
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, dataset, implicit_vr=False, little_endian=True, enforce_file_format=False)
    with pytest.raises(UnreadableImage, match="the transfer syntax is none of DICOM's"):
        decode_radiograph(buffer.getvalue())


def test_small_files_beside_the_project(shared):
    """Where the folder of small faults is there: each as its README says, to one level."""
    folder = shared / "faults"
    if not folder.is_dir():
        pytest.skip("the folder of small faults is not beside the checkout")
    expected = np.load(folder / "expected.npz")
    for path in sorted((folder / "files").iterdir()):
        if path.name.startswith("R-"):
            continue
        try:
            radiograph = decode_radiograph(path.read_bytes(), suffix=path.suffix)
        except UnreadableImage:
            assert path.stem in ("jpeg-extended12", "rescale-slope-zero", "voilut-short-data")
            continue
        if path.name in expected:
            worst = 3 if path.stem.startswith("C-jpeg8") else 1.01  # what JPEG itself loses
            assert np.abs(radiograph.pixels - expected[path.name]).max() <= worst, path.name
        assert radiograph.pixels.std() > 20
