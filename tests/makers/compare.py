"""How tests compare numbers: by relative error, never by an absolute tolerance alone."""

from __future__ import annotations

from torch import Tensor


def relative_error(ours: Tensor, expected: Tensor) -> float:
    """||ours - expected|| / ||expected|| over all elements (Frobenius norm)."""
    return ((ours - expected).norm() / expected.norm()).item()


def assert_close(ours: Tensor, expected: Tensor, tolerance: float, name: str = "") -> None:
    """Same shape, same dtype, finite, and a relative error within the tolerance."""
    assert ours.shape == expected.shape, f"{name}: shape {tuple(ours.shape)}, expected {tuple(expected.shape)}"
    assert ours.dtype == expected.dtype, f"{name}: {ours.dtype}, expected {expected.dtype}"
    assert ours.isfinite().all(), f"{name}: not finite"
    error = relative_error(ours, expected)
    assert error <= tolerance, f"{name}: relative error {error:.3g} is above {tolerance:.3g}"
