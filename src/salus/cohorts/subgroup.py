"""Subgroups by which results are reported: sex and age band.

Takes what a file states; gives the words of `Example.subgroup`. Unknown stays out: no value is guessed.
"""

from __future__ import annotations


def age_band(age_years: float) -> str:
    """Return the age band of a person.

    Example:
        >>> [age_band(age) for age in (49.9, 50, 64, 65, 79, 80)]
        ['<50', '50-64', '50-64', '65-79', '65-79', '80+']
    """
    if age_years < 50:
        return "<50"
    if age_years < 65:
        return "50-64"
    return "65-79" if age_years < 80 else "80+"


def subgroup(sex: str | None, age_years: float | None) -> dict[str, str]:
    """Return sex and age band where they are known.

    Args:
        sex: `female`, `male`, or None when the file does not say.
        age_years: age in years, or None.

    Example:
        >>> subgroup("female", 70)
        {'sex': 'female', 'age_band': '65-79'}
        >>> subgroup(None, None)
        {}
    """
    known = {} if sex is None else {"sex": sex}
    return known if age_years is None else {**known, "age_band": age_band(age_years)}
