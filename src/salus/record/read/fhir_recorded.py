"""When a FHIR resource was written down, issued or asserted: before that nobody knew what it says.

Takes one resource; gives its time of recording. Leaves out `meta.lastUpdated`: a server sets it anew whenever it copies the resource.
"""

from __future__ import annotations

from dataclasses import replace

from salus.record.patient import Instant, ObservedTime
from salus.record.read.fhir_fields import Fields, time_of

FIELD_OF = {
    "AllergyIntolerance": "recordedDate",
    "Condition": "recordedDate",
    "DiagnosticReport": "issued",
    "DocumentReference": "date",
    "Immunization": "recorded",
    "MedicationRequest": "authoredOn",
    "MedicationStatement": "dateAsserted",
    "Observation": "issued",
}
"""Resource type → the field that says when it was made available (FHIR R4, the page of each resource)."""


def recorded_at(resource: Fields) -> ObservedTime | None:
    """Return when a resource was written down or issued, to the second; None when it does not say, or has no such field.

    Raises:
        FormatError: the field is not a time. The message does not repeat it.

    Example:
        >>> recorded_at({"resourceType": "Observation", "issued": "2019-03-04T10:15:20.123Z"}).at.isoformat()
        '2019-03-04T10:15:20+00:00'
        >>> recorded_at({"resourceType": "Procedure", "issued": "2019"}) is None
        True
    """
    field = FIELD_OF.get(str(resource.get("resourceType")))
    found = time_of(resource, field) if field else None
    # `effective` is written to the second and `issued` to the millisecond: a part of a second is not "later"
    return replace(found, at=found.at.replace(microsecond=0)) if isinstance(found, Instant) else found
