"""Names of infrared bands of tissue between 900 and 1800 cm^-1, for figures and tables of attributions."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Band:
    """A band of tissue.

    Attributes
    ----------
    name
        As it is called in the field.
    low, high
        Where it lies, in cm^-1.
    vibration
        What it is usually assigned to.
    """

    name: str
    low: float
    high: float
    vibration: str


#: After Movasaghi, Rehman and Rehman, Appl. Spectrosc. Rev. 43 (2008) 134. Bands overlap in tissue; the limits are
#: where one assignment gives way to the next, and no more exact than that.
TISSUE_BANDS = (
    Band("ester C=O", 1720, 1760, "C=O stretching of lipid esters"),
    Band("amide I", 1600, 1700, "C=O stretching of proteins"),
    Band("amide II", 1500, 1590, "N-H bending and C-N stretching of proteins"),
    Band("CH bending", 1440, 1480, "CH2 and CH3 bending of lipids and proteins; paraffin"),
    Band("COO⁻", 1380, 1420, "symmetric stretching of carboxylates"),
    Band("amide III", 1270, 1340, "C-N stretching and N-H bending of proteins; collagen"),
    Band("PO₂⁻ asym.", 1215, 1265, "asymmetric stretching of phosphate: nucleic acids"),
    Band("C-O", 1140, 1180, "C-O stretching of lipid esters and carbohydrates"),
    Band("PO₂⁻ sym.", 1060, 1100, "symmetric stretching of phosphate: nucleic acids"),
    Band("glycogen", 1000, 1050, "C-O stretching and bending of glycogen"),
    Band("C-O-P", 950, 985, "phosphodiester stretching of nucleic acids"),
)
