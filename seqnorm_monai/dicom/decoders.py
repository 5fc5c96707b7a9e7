"""One compressed grayscale frame through the decoders that are installed, in turn, until one succeeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder
from pydicom.uid import (
    UID,
    JPEG2000TransferSyntaxes,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)

from seqnorm_monai.dicom.quiet import quiet_pydicom

Words = npt.NDArray[np.integer]


class NoDecoderError(Exception):
    """No decoder gave an image of the expected size; the text names those that were tried and what they raised."""


@dataclass(frozen=True)
class FrameFormat:
    """What is known of a frame before it is decoded; `precision`: bits of a sample in it, `bits` of a cell."""

    syntax: UID
    rows: int
    columns: int
    bits: int
    precision: int
    signed: bool


def decode_frame(frame: bytes, expected: FrameFormat) -> Words:
    """The samples of a frame (rows, columns), sign-extended where they are signed. Raises NoDecoderError."""
    failures = []
    for name, decoder in _decoders(expected):
        try:
            with quiet_pydicom():
                values = decoder(frame, expected)
        # Whatever a decoder raises on damaged data, without its text: it is long and names no file. A panic of one
        # written in Rust is no Exception.
        except BaseException as error:
            if isinstance(error, (KeyboardInterrupt, SystemExit, GeneratorExit)):
                raise
            failures.append(f"{name}: {type(error).__name__}")
            continue
        if values.shape == (expected.rows, expected.columns) and values.dtype.kind in "iu":
            return values
        failures.append(f"{name}: an image of another size")
    raise NoDecoderError(", ".join(failures))


def _decoders(expected: FrameFormat) -> Iterator[tuple[str, Callable[[bytes, FrameFormat], Words]]]:
    if expected.syntax == JPEGBaseline8Bit:
        # Not GDCM, which pydicom asks first: it is several times slower, and damaged streams end the process.
        yield "pillow", lambda frame, expected: by_pydicom(frame, expected, "pillow")
    elif expected.syntax == JPEGExtended12Bit and expected.precision > 8:
        # pydicom does not hand it to GDCM, although GDCM decodes it
        yield "GDCM", by_gdcm
    else:
        if expected.syntax in JPEGLSTransferSyntaxes:
            # half as fast again as GDCM
            yield "pyjpegls", lambda frame, expected: by_pydicom(frame, expected, "pyjpegls")
        yield "pydicom", by_pydicom
    if expected.syntax != RLELossless:
        yield "imagecodecs", by_imagecodecs


def by_pydicom(frame: bytes, expected: FrameFormat, plugin: str = "") -> Words:
    """With the first of pydicom's plugins that succeeds, or the one named.

    By pydicom's defaults the values come sign-extended, also where a stream cannot say that they are signed.
    """
    values, _ = get_decoder(expected.syntax).as_array(
        encapsulate([frame], has_bot=False),
        rows=expected.rows,
        columns=expected.columns,
        number_of_frames=1,
        samples_per_pixel=1,
        # MONOCHROME1 and 2 are decoded alike, polarity comes later.
        photometric_interpretation="MONOCHROME2",
        bits_allocated=expected.bits,
        bits_stored=expected.precision,
        pixel_representation=int(expected.signed),
        pixel_keyword="PixelData",
        decoding_plugin=plugin,
    )
    return values


def by_gdcm(frame: bytes, expected: FrameFormat) -> Words:
    """With GDCM itself, cells of 16 bits."""
    import gdcm

    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(frame)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((expected.columns, expected.rows, 1))
    image.SetDataElement(element)
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(gdcm.PhotometricInterpretation.MONOCHROME2))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str(expected.syntax))))
    precision = expected.precision
    image.SetPixelFormat(gdcm.PixelFormat(1, 16, precision, precision - 1, int(expected.signed)))
    # The Python binding returns the bytes as text with surrogates, and None where GDCM fails.
    buffer = (image.GetBuffer() or "").encode("utf-8", "surrogateescape")
    words = np.frombuffer(buffer, "<u2").astype(np.uint16).reshape(expected.rows, expected.columns)
    return _sign_extended(words, expected)


def by_imagecodecs(frame: bytes, expected: FrameFormat) -> Words:
    """With imagecodecs, an optional package, whose JPEG, CharLS, OpenJPEG and OpenJPH are built apart from the others.

    Raises ValueError for samples of another precision than the stream announced.
    """
    import imagecodecs

    if expected.syntax in (JPEGLossless, JPEGLosslessSV1):
        values = imagecodecs.ljpeg_decode(frame)
    elif expected.syntax in JPEGLSTransferSyntaxes:
        values = imagecodecs.jpegls_decode(frame)
    elif expected.syntax in JPEGTransferSyntaxes:
        values = imagecodecs.jpeg8_decode(frame)
    elif expected.syntax in JPEG2000TransferSyntaxes:
        values = imagecodecs.jpeg2k_decode(frame)
    else:
        values = imagecodecs.htj2k_decode(frame)
    if values.dtype.kind == "i":
        # the stream says that it is signed; its header may not
        values = values.view(f"u{values.itemsize}") & np.array(2**expected.precision - 1, f"u{values.itemsize}")
    if values.size and int(values.max()) >= 2**expected.precision:
        raise ValueError("samples exceed their precision")
    return _sign_extended(values, expected)


def _sign_extended(words: Words, expected: FrameFormat) -> Words:
    """The lowest `precision` bits of unsigned cells, as two's complement where the samples are signed."""
    if not expected.signed:
        return words
    above = 8 * words.itemsize - expected.precision
    return (words << above).view(f"i{words.itemsize}") >> above
