"""One compressed frame through the decoders that are installed, in turn, until one succeeds."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)

from seqnorm_monai.images.dicom.pixels.codestream import libjpeg_takes_for_ybr
from seqnorm_monai.images.dicom.silence import pydicom_silenced
from seqnorm_monai.images.machine_errors import is_machine_error
from seqnorm_monai.optional import require

# without those of part 2, whose transforms between components no decoder here knows
J2K_SYNTAXES = (JPEG2000Lossless, JPEG2000)
HTJ2K_SYNTAXES = (HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K)
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
    samples: int = 1

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.rows, self.columns) if self.samples == 1 else (self.rows, self.columns, self.samples)


def _threads() -> int:
    """As many as torch may use where it is loaded (one in a worker of a DataLoader), else one for each core."""
    if "torch" in sys.modules:
        return sys.modules["torch"].get_num_threads()
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def decode_frame(frame: bytes, expected: FrameFormat) -> Words:
    """The samples of a frame (rows, columns[, samples]), sign-extended where they are signed.

    Colours are in the space of the stream; only the component transform of JPEG 2000 is undone.

    Raises:
        NoDecoderError: if no decoder gives an image of the expected size.
        MemoryError, OSError: if none does and one of them ran out of memory or the like, which is no fault of the
            frame: its size was compared with the header before.
    """
    failures: list[str] = []
    exhausted: BaseException | None = None
    for name, decoder in _decoders(expected):
        try:
            with pydicom_silenced():
                values = decoder(frame, expected)
        # Whatever a decoder raises on damaged data, without its text: it is long and names no file. A panic of one
        # written in Rust is no Exception.
        except BaseException as error:
            if isinstance(error, (KeyboardInterrupt, SystemExit, GeneratorExit)):
                raise
            exhausted = error if is_machine_error(error) else exhausted
            failures.append(f"{name}: {type(error).__name__}")
            continue
        if values.shape == expected.shape and values.dtype.kind in "iu":
            return values
        failures.append(f"{name}: an image of another size")
    if exhausted is not None:
        raise exhausted
    raise NoDecoderError(", ".join(failures))


def _decoders(expected: FrameFormat) -> Iterator[tuple[str, Callable[[bytes, FrameFormat], Words]]]:
    """Never GDCM, which pydicom asks first, where another decoder is installed.

    It is the slowest of them, and of a hundred damaged streams some end the process, whatever the codec.
    """
    syntax = expected.syntax
    if syntax in JPEGTransferSyntaxes:
        lossy = syntax in (JPEGBaseline8Bit, JPEGExtended12Bit)
        if lossy and expected.precision == 8:
            yield "pillow", by_pillow
        elif not has_imagecodecs():
            yield "GDCM", by_gdcm
    elif syntax in JPEGLSTransferSyntaxes:
        yield "pyjpegls", by_pydicom
    else:
        # OpenJPEG as in pylibjpeg, but it shares the work between threads; what is lossless is the same
        threaded = syntax == JPEG2000Lossless and _threads() > 1 and has_imagecodecs()
        if threaded:
            yield "imagecodecs", by_imagecodecs
        yield "pylibjpeg", by_pydicom
        if threaded:
            return
    if syntax != RLELossless:
        yield "imagecodecs", by_imagecodecs


def has_imagecodecs() -> bool:
    """Whether the optional package is installed."""
    return find_spec("imagecodecs") is not None


def by_pydicom(frame: bytes, expected: FrameFormat) -> Words:
    """With pydicom and its plugin pylibjpeg, or pyjpegls.

    By pydicom's defaults the values come sign-extended, also where a stream cannot say that they are signed.
    """
    values, _ = get_decoder(expected.syntax).as_array(
        encapsulate([frame], has_bot=False),
        rows=expected.rows,
        columns=expected.columns,
        number_of_frames=1,
        samples_per_pixel=expected.samples,
        # MONOCHROME1 and 2 are decoded alike, polarity comes later, and so do colour spaces.
        photometric_interpretation="MONOCHROME2" if expected.samples == 1 else "RGB",
        **({} if expected.samples == 1 else {"planar_configuration": 0}),
        bits_allocated=expected.bits,
        bits_stored=expected.precision,
        pixel_representation=int(expected.signed),
        pixel_keyword="PixelData",
        decoding_plugin="pyjpegls" if expected.syntax in JPEGLSTransferSyntaxes else "pylibjpeg",
        raw=True,
    )
    return values


def by_pillow(frame: bytes, expected: FrameFormat) -> Words:
    """Lossy JPEG of 8 bits with Pillow. Raises ValueError for samples of another precision.

    Not through pydicom, whose plugin asks for YCbCr wherever Adobe's marker is missing; libjpeg fails to give it of
    components that are named R, G and B (github.com/pydicom/pydicom, v3.0.2, src/pydicom/pixels/decoders/pillow.py).
    """
    if expected.precision != 8:
        raise ValueError("samples of more than 8 bits")
    with Image.open(BytesIO(frame), formats=("JPEG",)) as image:
        if expected.samples == 3 and libjpeg_takes_for_ybr(frame):
            # the components as they are, not converted
            image.draft("YCbCr", image.size)
        values = np.asarray(image)
    return _sign_extended(values, expected)


def by_gdcm(frame: bytes, expected: FrameFormat) -> Words:
    """With GDCM itself, as pydicom's plugin refuses lossy JPEG of 12 bits, which GDCM decodes.

    See github.com/pydicom/pydicom, v3.0.2, src/pydicom/pixels/decoders/gdcm.py: NotImplementedError for JPEG Extended.
    """
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
    photometric = gdcm.PhotometricInterpretation
    image.SetPhotometricInterpretation(
        photometric(photometric.MONOCHROME2 if expected.samples == 1 else photometric.RGB)
    )
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str(expected.syntax))))
    bits, precision = 8 if expected.precision <= 8 else 16, expected.precision
    image.SetPixelFormat(gdcm.PixelFormat(expected.samples, bits, precision, precision - 1, int(expected.signed)))
    # The Python binding returns the bytes as text with surrogates, and None where GDCM fails.
    buffer = (image.GetBuffer() or "").encode("utf-8", "surrogateescape")
    words = np.frombuffer(buffer, f"<u{bits // 8}").astype(f"u{bits // 8}").reshape(expected.shape)
    return _sign_extended(words, expected)


def by_imagecodecs(frame: bytes, expected: FrameFormat) -> Words:
    """With imagecodecs, an optional package, whose libjpeg, CharLS and OpenJPEG are built apart from the others.

    Raises ImportError without it, and ValueError for samples of another precision than the stream announced.
    """
    imagecodecs = require("imagecodecs", "decoders")
    if expected.syntax in JPEGTransferSyntaxes:
        # the same space twice: the components as they are, not converted
        space = None if expected.samples == 1 else "YCBCR"
        values = imagecodecs.jpeg8_decode(frame, colorspace=space, outcolorspace=space)
    elif expected.syntax in JPEGLSTransferSyntaxes:
        values = imagecodecs.jpegls_decode(frame)
    else:
        # High throughput too: its OpenJPH ends the process over some damaged streams.
        values = imagecodecs.jpeg2k_decode(frame, numthreads=_threads())
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
