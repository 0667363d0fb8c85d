"""What a simulated tissue is made of: ions with real m/z, their isotopes, and which of them mark a tumour.

Below m/z 1000 the ions are the phospholipids that dominate positive-mode MALDI of tissue, by their sum formulas; where
the range holds too few of them, protonated peptides of average composition (Senko et al., J. Am. Soc. Mass Spectrom. 6
(1995) 229) fill it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import factorial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from msicube.errors import UsageError

Floats = NDArray[np.float64]

#: Parts of a tissue, and how much of a tumour's change each of them shows.
COMPARTMENTS = {"epithelium": 1.0, "stroma": 0.5, "mucus": 0.2}

ISOTOPE_SPACING = 1.0033548
#: A nominal mass of the average peptide in Da; ions of tissue crowd around its multiples.
AVERAGE_NOMINAL_MASS = 1.000495
_MASS_OF_ONE_HEAVY_ISOTOPE = 1800.0
_N_ISOTOPES = 5

_ATOMS = {"C": 12.0, "H": 1.00782503, "N": 14.00307401, "O": 15.99491462, "P": 30.97376163}
_ADDUCTS = {"H": (1.00727646, 0.0), "Na": (22.98921809, -0.7), "K": (38.96315849, -0.2)}
#: Class: (C, H, N, O, P) without the acyl chains, mean log abundance, range of acyl carbons.
_LIPIDS: dict[str, tuple[dict[str, int], float, range]] = {
    "PC": ({"C": 8, "H": 16, "N": 1, "O": 8, "P": 1}, 1.0, range(30, 43, 2)),
    "PE": ({"C": 5, "H": 10, "N": 1, "O": 8, "P": 1}, 0.0, range(32, 43, 2)),
    "SM": ({"C": 5, "H": 13, "N": 2, "O": 6, "P": 1}, 0.4, range(32, 45, 2)),
}

_ABUNDANCE_SPREAD = 0.9
_COMPARTMENT_SPREAD = 0.5
_MARKER_EFFECTS = (0.4, 1.0)


class Ion(NamedTuple):
    """One ion: its name, monoisotopic m/z and mean log abundance relative to the others."""

    name: str
    mz: float
    log_abundance: float


@dataclass(frozen=True)
class Chemistry:
    """The ions of a study and their abundance.

    Attributes
    ----------
    names
        One a ion, such as ``PC 34:1 [M+K]+``.
    mz
        ``(ion,)`` monoisotopic, ascending.
    log_abundance
        ``(compartment, ion)`` natural logarithm, in normal tissue of the average patient.
    effect
        ``(ion,)`` natural log fold change in a tumour at class difference 1; 0 for all but the markers.
    """

    names: tuple[str, ...]
    mz: Floats
    log_abundance: Floats
    effect: Floats

    def abundance(self, *, tumour: bool, class_difference: float) -> Floats:
        """Return ``(compartment, ion)`` natural log abundances of one class."""
        if not tumour:
            return self.log_abundance
        involvement = np.array(list(COMPARTMENTS.values()))
        return self.log_abundance + class_difference * involvement[:, None] * self.effect


def draw_chemistry(
    rng: np.random.Generator, *, mz_range: tuple[float, float], n_ions: int, n_markers: int
) -> Chemistry:
    """Choose the ions of a study.

    Parameters
    ----------
    mz_range
        All isotopes lie inside.
    n_ions, n_markers
        How many ions, and how many of them differ between tumour and normal.

    Raises
    ------
    UsageError
        More ions than the range can hold, or more markers than ions.
    """
    low, high = mz_range[0] + 1, mz_range[1] - _N_ISOTOPES * ISOTOPE_SPACING
    candidates = [ion for ion in lipid_ions() if low < ion.mz < high]
    candidates += _peptide_ions(rng, low, high, n_ions - len(candidates))
    if not 0 <= n_markers <= n_ions or not 1 <= n_ions <= len(candidates):
        raise UsageError(
            f"{n_ions} ions with {n_markers} markers do not fit: the m/z range {mz_range} holds up to "
            f"{len(candidates)} ions, and markers are some of them"
        )
    chosen = rng.choice(len(candidates), n_ions, replace=False)
    ions = sorted((candidates[i] for i in chosen), key=lambda ion: ion.mz)
    base = np.array([ion.log_abundance for ion in ions]) + _ABUNDANCE_SPREAD * rng.standard_normal(n_ions)
    spread = _COMPARTMENT_SPREAD * rng.standard_normal((len(COMPARTMENTS), n_ions))
    return Chemistry(
        names=tuple(ion.name for ion in ions),
        mz=np.array([ion.mz for ion in ions]),
        log_abundance=base + spread,
        effect=_draw_effects(rng, base, n_markers),
    )


def lipid_ions() -> list[Ion]:
    """Return the protonated, sodiated and potassiated phosphatidylcholines, -ethanolamines and sphingomyelins."""
    ions = []
    for name, (head, abundance, carbons) in _LIPIDS.items():
        for n in carbons:
            for bonds in range(7 if name != "SM" else 3):
                formula = head | {"C": head["C"] + n, "H": head["H"] + 2 * n - 2 * bonds}
                mass = sum(_ATOMS[atom] * count for atom, count in formula.items())
                rarity = 0.25 * abs(n - 36) / 2 + 0.15 * abs(bonds - 1)
                ions += [
                    Ion(f"{name} {n}:{bonds} [M+{adduct}]+", mass + shift, abundance + factor - rarity)
                    for adduct, (shift, factor) in _ADDUCTS.items()
                ]
    return ions


def isotopes(mz: Floats) -> tuple[Floats, Floats]:
    """Return m/z and share of the isotopic peaks of singly charged ions.

    The number of heavy isotopes follows a Poisson distribution with mean ``m / 1800`` (Bellew et al., Bioinformatics 22
    (2006) 1902).

    Parameters
    ----------
    mz
        ``(ion,)`` monoisotopic.

    Returns
    -------
    positions, shares
        ``(ion, isotope)``; the shares of an ion add up to 1.
    """
    count = np.arange(_N_ISOTOPES)
    mean = mz[:, None] / _MASS_OF_ONE_HEAVY_ISOTOPE
    weights = mean**count / np.array([float(factorial(n)) for n in count])
    return mz[:, None] + count * ISOTOPE_SPACING, weights / weights.sum(axis=1, keepdims=True)


def _peptide_ions(rng: np.random.Generator, low: float, high: float, n: int) -> list[Ion]:
    """Return up to ``n`` peptides, one a nominal mass, with the natural spread of mass defects."""
    nominal = np.arange(np.ceil(low), np.floor(high))
    chosen = rng.choice(nominal, min(max(n, 0), len(nominal)), replace=False)
    masses = chosen * AVERAGE_NOMINAL_MASS + 0.04 * rng.standard_normal(len(chosen))
    return [
        Ion(f"peptide {mass:.3f} [M+H]+", float(mass), 0.0)
        for mass in masses[(masses > low) & (masses < high)]
    ]


def _draw_effects(rng: np.random.Generator, base: Floats, n_markers: int) -> Floats:
    """Let ions of at least middling abundance carry the difference, about half of them up and half down."""
    effect = np.zeros(len(base))
    abundant = np.argsort(base)[::-1][: max(n_markers, 2 * len(base) // 3)]
    markers = rng.choice(abundant, n_markers, replace=False)
    signs = np.where(np.arange(n_markers) % 2, -1.0, 1.0)
    effect[markers] = signs * rng.uniform(*_MARKER_EFFECTS, n_markers)
    return effect
