"""What breast tissue absorbs in the mid-infrared, and which of its bands depend on the class.

Positions and assignments follow the review of Movasaghi, Rehman and Rehman, Appl. Spectrosc. Rev. 43 (2008)
134; widths and strengths are chosen so that the sum looks like tissue (Fabian et al., Biochim. Biophys. Acta
1758 (2006) 874, shows spectra of breast). The bands of one kind of molecule rise and fall together. The
effects of the classes (in tumours more nucleic acid, and less ester and collagen) are plausible in their
directions and chosen in their sizes: they are a truth to be found, not a finding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Parts of a tissue, and how much of a class's change of amounts each of them shows.
COMPARTMENTS = {"epithelium": 1.0, "stroma": 0.6, "adipose": 0.3}
ADJACENT = "adjacent"
SUBTYPES = ("luminal A", "luminal B", "HER2", "triple-negative")
CLASSES = (ADJACENT, *SUBTYPES)

#: Amount of each kind of molecule in each compartment, in the order of :data:`COMPARTMENTS`.
AMOUNTS: dict[str, tuple[float, float, float]] = {
    "protein": (0.60, 0.60, 0.25),
    "beta sheet": (0.60, 0.50, 0.25),
    "lipid": (0.15, 0.10, 0.90),
    "nucleic acid": (0.45, 0.20, 0.08),
    "glycogen": (0.12, 0.08, 0.05),
    "collagen": (0.20, 0.90, 0.30),
}
MOLECULES = tuple(AMOUNTS)

#: Natural log fold change of amounts against adjacent tissue.
AMOUNT_EFFECTS: dict[str, dict[str, float]] = {
    "luminal A": {"nucleic acid": 0.10, "lipid": -0.11, "glycogen": 0.04, "collagen": -0.06},
    "luminal B": {"nucleic acid": 0.14, "lipid": -0.14, "glycogen": -0.10, "collagen": -0.12},
    "HER2": {"nucleic acid": 0.12, "lipid": 0.14, "glycogen": 0.08, "collagen": -0.16},
    "triple-negative": {"nucleic acid": 0.22, "lipid": -0.18, "glycogen": 0.17, "collagen": -0.19},
}
#: Change of position against adjacent tissue, in cm^-1.
SHIFT_EFFECTS: dict[str, dict[str, float]] = {
    "luminal A": {"amide I": -0.35},
    "luminal B": {"amide I": -0.6, "PO2- asymmetric": -0.5},
    "HER2": {"amide I": -0.6, "PO2- asymmetric": 0.5},
    "triple-negative": {"amide I": -1.0, "PO2- asymmetric": -1.0},
}
#: Share of a Lorentzian in a band of tissue and in the narrow ones of paraffin; the rest is Gaussian.
LORENTZIAN_SHARE = 0.15
_SIGMA_OF_FWHM = 1 / 2.3548200450309493


@dataclass(frozen=True)
class Band:
    """One absorption band.

    Attributes
    ----------
    name
        Of the band, unique in its table.
    molecule
        Whose amount it follows.
    wavenumber, fwhm
        Position and full width at half maximum, in cm^-1.
    strength
        Absorbance at the maximum for an amount of 1.
    assignment
        The vibration.
    """

    name: str
    molecule: str
    wavenumber: float
    fwhm: float
    strength: float
    assignment: str

    @property
    def interval(self) -> tuple[float, float]:
        """From one width below the position to one above, in cm^-1: all but 2 % of a Gaussian lies in it."""
        return self.wavenumber - self.fwhm, self.wavenumber + self.fwhm


BANDS = (
    Band("amide A", "protein", 3290, 150, 0.45, "N-H stretching"),
    Band("amide B", "protein", 3070, 60, 0.07, "overtone of amide II"),
    Band("CH3 asymmetric", "protein", 2958, 26, 0.15, "CH3 stretching"),
    Band("CH3 symmetric", "protein", 2874, 20, 0.07, "CH3 stretching"),
    Band("amide I", "protein", 1655, 46, 1.00, "C=O stretching, alpha helix"),
    Band("amide II", "protein", 1545, 44, 0.62, "N-H bending and C-N stretching"),
    Band("tyrosine", "protein", 1516, 12, 0.06, "ring"),
    Band("CH3 bending", "protein", 1452, 26, 0.20, "CH3 bending"),
    Band("COO-", "protein", 1398, 28, 0.20, "COO- symmetric stretching"),
    Band("amide III", "protein", 1308, 30, 0.10, "C-N stretching and N-H bending"),
    Band("amide I, sheet", "beta sheet", 1632, 28, 0.30, "C=O stretching, beta sheet"),
    Band("amide II, sheet", "beta sheet", 1530, 26, 0.10, "N-H bending, beta sheet"),
    Band("=CH", "lipid", 3010, 16, 0.06, "=C-H stretching"),
    Band("CH2 asymmetric", "lipid", 2922, 28, 0.90, "CH2 stretching"),
    Band("CH2 symmetric", "lipid", 2852, 18, 0.60, "CH2 stretching"),
    Band("ester C=O", "lipid", 1740, 24, 0.50, "C=O stretching of esters"),
    Band("CH2 scissoring", "lipid", 1467, 16, 0.15, "CH2 bending"),
    Band("ester C-O", "lipid", 1160, 26, 0.25, "C-O stretching"),
    Band("base C=O", "nucleic acid", 1712, 24, 0.06, "C=O stretching of bases"),
    Band("PO2- asymmetric", "nucleic acid", 1240, 36, 0.42, "PO2- stretching"),
    Band("PO2- symmetric", "nucleic acid", 1080, 34, 0.38, "PO2- stretching"),
    Band("phosphodiester", "nucleic acid", 968, 20, 0.12, "C-O-P stretching"),
    Band("glycogen C-O 1152", "glycogen", 1152, 24, 0.30, "C-O stretching"),
    Band("glycogen C-O 1080", "glycogen", 1082, 28, 0.30, "C-O stretching"),
    Band("glycogen C-O 1028", "glycogen", 1028, 42, 0.60, "C-O stretching and bending"),
    Band("collagen 1338", "collagen", 1338, 16, 0.10, "CH2 wagging of side chains"),
    Band("collagen 1282", "collagen", 1282, 20, 0.11, "amide III"),
    Band("collagen 1204", "collagen", 1204, 20, 0.12, "amide III"),
)

PARAFFIN_BANDS = (
    Band("CH3 asymmetric", "paraffin", 2956, 20, 0.28, "CH3 stretching"),
    Band("CH2 asymmetric", "paraffin", 2918, 18, 1.00, "CH2 stretching"),
    Band("CH2 symmetric", "paraffin", 2850, 14, 0.75, "CH2 stretching"),
    Band("CH2 scissoring 1472", "paraffin", 1472, 7, 0.18, "CH2 bending"),
    Band("CH2 scissoring 1462", "paraffin", 1462, 7, 0.24, "CH2 bending"),
    Band("CH3 umbrella", "paraffin", 1378, 8, 0.05, "CH3 bending"),
)

#: Strong lines of water vapour, rounded to 1 cm^-1, and their relative strengths at a resolution of 4 cm^-1.
VAPOUR_LINES: dict[float, float] = {
    1419: 0.3, 1437: 0.4, 1457: 0.6, 1473: 0.6, 1488: 0.5, 1507: 0.9, 1521: 0.6, 1540: 0.9, 1559: 1.0, 1570:
    0.6, 1577: 0.5, 1617: 0.6, 1635: 0.7, 1647: 0.7, 1653: 1.0, 1663: 0.5, 1669: 0.7, 1685: 1.0, 1696: 0.9,
    1700: 0.7, 1717: 0.9, 1734: 0.9, 1749: 0.4, 1772: 0.7, 1792: 0.6, 1844: 0.4, 1869: 0.3, 3566: 0.3, 3587:
    0.4, 3629: 0.5, 3649: 0.6, 3670: 0.6, 3690: 0.7, 3711: 0.7, 3735: 0.8, 3751: 0.6, 3801: 0.6, 3816: 0.6,
    3837: 0.7, 3854: 0.8, 3870: 0.7, 3891: 0.5, 3904: 0.4,
}  # fmt: skip
_VAPOUR_FWHM = 4.0


def amount_effect(label: str, *, class_difference: float) -> Floats:
    """Return ``(molecule,)`` the natural log fold change of a class in epithelium."""
    effects = AMOUNT_EFFECTS.get(label, {})
    return class_difference * np.array([effects.get(molecule, 0.0) for molecule in MOLECULES])


def band_shift(label: str, *, class_difference: float) -> dict[str, float]:
    """Return the change of position of the bands that a class moves, in cm^-1."""
    return {name: class_difference * shift for name, shift in SHIFT_EFFECTS.get(label, {}).items()}


def discriminates(band: Band) -> bool:
    """Return whether any class changes the band's amount or position."""
    effects = [*AMOUNT_EFFECTS.values()]
    shifts = [*SHIFT_EFFECTS.values()]
    return any(band.molecule in e for e in effects) or any(band.name in s for s in shifts)


def pure_spectra(wavenumber: Floats, shifts: dict[str, float] | None = None) -> Floats:
    """Return ``(molecule, channel)`` absorbance of an amount of 1 of each kind of molecule.

    Parameters
    ----------
    wavenumber
        ``(channel,)`` in cm^-1.
    shifts
        Changes of position by name of the band, in cm^-1.
    """
    moved = shifts or {}
    spectra = np.zeros((len(MOLECULES), len(wavenumber)))
    for band in BANDS:
        spectra[MOLECULES.index(band.molecule)] += profile(band, wavenumber, shift=moved.get(band.name, 0.0))
    return spectra


def paraffin_spectrum(wavenumber: Floats) -> Floats:
    """Return ``(channel,)`` absorbance of an amount of 1 of paraffin."""
    spectrum: Floats = np.sum([profile(band, wavenumber) for band in PARAFFIN_BANDS], axis=0)
    return spectrum


def vapour_spectrum(wavenumber: Floats) -> Floats:
    """Return ``(channel,)`` relative absorbance of water vapour, its strongest line 1."""
    position, strength = (np.array(values) for values in zip(*VAPOUR_LINES.items(), strict=True))
    lines = np.exp(-0.5 * ((wavenumber - position[:, None]) / (_VAPOUR_FWHM * _SIGMA_OF_FWHM)) ** 2)
    spectrum: Floats = (strength[:, None] * lines).sum(axis=0)
    return spectrum


def profile(band: Band, wavenumber: Floats, *, shift: float = 0.0) -> Floats:
    """Return ``(channel,)`` absorbance of one band for an amount of 1: a sum of a Gaussian and a Lorentzian."""
    distance = (wavenumber - band.wavenumber - shift) / band.fwhm
    gaussian = np.exp(-0.5 * (distance / _SIGMA_OF_FWHM) ** 2)
    lorentzian = 1 / (1 + (2 * distance) ** 2)
    absorbance: Floats = band.strength * ((1 - LORENTZIAN_SHARE) * gaussian + LORENTZIAN_SHARE * lorentzian)
    return absorbance
