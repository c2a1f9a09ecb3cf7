"""Spirometry after a bronchodilator: volumes of a forced breath.

Claims the columns `fev1_post` and `fvc_post` of any table; the CSV reader of Salus brings them. Gives `MODALITY`; the network is
loaded only when it is built. Volumes before the bronchodilator belong to Salus itself (`vitals_labs`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from salus.encode.modality import Modality
from salus.record.patient import Code, Item, Offset, Source, item_id
from salus.record.variables import Variable

if TYPE_CHECKING:
    from salus.encode.encoder import Encoder

NAME = "spirometry"
VARIABLES = (
    Variable(
        name="fev1_post",
        display="FEV1 after bronchodilator",
        unit="L",
        keys=("column:fev1_post",),
        aliases=("post-bronchodilator FEV1",),
        accepted=(0.1, 8.0),
        least_change=0.15,  # repeatability, Graham et al., ATS/ERS 2019, Am J Respir Crit Care Med 200:e70
        spread=0.3,
    ),
    Variable(
        name="fvc_post",
        display="FVC after bronchodilator",
        unit="L",
        keys=("column:fvc_post",),
        aliases=("post-bronchodilator FVC",),
        accepted=(0.1, 10.0),
        least_change=0.15,
        spread=0.4,
    ),
)


def build_encoder(settings: Mapping[str, Any]) -> Encoder:
    """Return the spirometry network with these settings."""
    from salus_spirometry.encoder import SpirometryEncoder

    return SpirometryEncoder(**settings)


def items_of_test(fev1_l: float, fvc_l: float, *, name: str, hours: float = 1.0) -> tuple[Item, ...]:
    """Return the two items of one test.

    Args:
        fev1_l: litres.
        fvc_l: litres.
        name: stands for the file that they would come from.
        hours: after admission.
    """
    sha256 = item_id(f"{name} {fev1_l} {fvc_l}", str(hours)).ljust(64, "0")
    return tuple(
        Item(
            id=item_id(sha256, column),
            modality=NAME,
            code=Code("column", column, column),
            source=Source(name, sha256, column),
            observed_at=Offset(hours * 3600.0, "admission"),
            value=value,
            unit="L",
        )
        for column, value in (("fev1_post", fev1_l), ("fvc_post", fvc_l))
    )


def example() -> tuple[Item, ...]:
    """Return one made-up test.

    Example:
        >>> [(item.code.display, item.value) for item in example()]
        [('fev1_post', 1.6), ('fvc_post', 3.4)]
    """
    return items_of_test(1.6, 3.4, name="example.csv")


MODALITY = Modality(
    name=NAME,
    title="spirometry",
    claims=tuple(key for variable in VARIABLES for key in variable.keys),
    example=example,
    variables=VARIABLES,
    token_budget=1,
    build_encoder=build_encoder,
    encoder_defaults={"width": 16},
)
