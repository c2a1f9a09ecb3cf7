"""The sample patient of the demo: a made-up 48-hour intensive-care course, written as files that Salus reads.

A 68-year-old man with pneumonia goes into septic shock with acute kidney injury and partly recovers. Takes a folder and a seed;
gives vitals and labs (CSV), a FHIR R4 bundle, a note, a heart sound and a cohort manifest. Nobody's data is in it: the course is
drawn from the knots below, the seed only moves the noise. Leaves out reading: `salus.record.read` does that.
"""

from __future__ import annotations

import base64
import io
import json
import wave
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.signal import butter, sosfilt

SUBJECT_ID = "sample-patient"
ADMITTED_AT = datetime(2026, 3, 2, 21, 40, tzinfo=timezone(timedelta(hours=1)))
HOURS = 48
SOUND_RATE_HZ = 2000
SOUND_S = 12

Knots = tuple[tuple[float, float], ...]
"""(hours after admission, value) pairs that the course goes through."""

MEAN_BP: Knots = ((0, 76), (3, 68), (6, 57), (8, 63), (12, 66), (20, 70), (30, 75), (40, 79), (48, 81))
PULSE_PRESSURE: Knots = ((0, 52), (6, 38), (12, 42), (24, 48), (48, 55))
VITALS: Mapping[str, tuple[Knots, float, int]] = {
    "heart_rate [/min]": (((0, 112), (4, 119), (9, 129), (16, 122), (24, 108), (36, 96), (48, 88)), 2.0, 0),
    "temperature [Cel]": (((0, 38.6), (8, 39.3), (16, 38.9), (28, 38.1), (48, 37.3)), 0.08, 1),
    "respiratory_rate [/min]": (((0, 26), (8, 31), (16, 28), (30, 23), (48, 19)), 0.8, 0),
    "spo2 [%]": (((0, 90), (5, 88), (8, 93), (18, 94), (30, 95), (48, 96)), 0.6, 0),
    "gcs [{score}]": (((0, 14), (8, 13), (12, 12), (22, 13), (30, 14), (38, 15), (48, 15)), 0.0, 0),
    "urine [mL]": (((0, 55), (6, 25), (12, 16), (20, 20), (30, 45), (40, 70), (48, 85)), 4.0, 0),
}
"""Column → course, standard deviation of the noise, decimals. GCS and temperature are charted every four hours."""
FOUR_HOURLY = ("temperature [Cel]", "gcs [{score}]")
PROBE_OFF_H = (13, 14)
"""Hours at which the oximeter was off: empty cells, not zeros."""

OFTEN_H = (0.5, 6, 12, 18, 24, 30, 36, 42, 47.5)
SELDOM_H = (0.5, 12, 24, 36, 47.5)
OFTEN: Mapping[str, tuple[str, tuple[float, ...], float, int]] = {
    "creatinine": ("mg/dL", (1.6, 1.9, 2.4, 2.9, 3.3, 3.4, 3.2, 2.9, 2.6), 0.03, 1),
    "lactate": ("mmol/L", (3.8, 5.6, 4.9, 3.7, 2.9, 2.3, 1.9, 1.6, 1.4), 0.05, 1),
    "bun": ("mg/dL", (28, 33, 41, 49, 55, 58, 57, 53, 49), 0.5, 0),
    "potassium": ("mmol/L", (4.4, 4.8, 5.2, 5.5, 5.3, 5.0, 4.7, 4.5, 4.3), 0.03, 1),
    "sodium": ("mmol/L", (133, 134, 135, 136, 137, 138, 138, 139, 139), 0.4, 0),
    "glucose": ("mg/dL", (186, 212, 201, 188, 172, 160, 151, 146, 139), 3.0, 0),
    "ph": ("[pH]", (7.33, 7.26, 7.29, 7.32, 7.35, 7.37, 7.39, 7.40, 7.41), 0.004, 2),
    "pao2": ("mm[Hg]", (61, 57, 68, 72, 76, 80, 84, 86, 88), 1.0, 0),
    "paco2": ("mm[Hg]", (34, 33, 34, 35, 36, 37, 38, 38, 39), 0.4, 0),
}
SELDOM: Mapping[str, tuple[str, tuple[float, ...], float, int]] = {
    "wbc": ("10*3/uL", (17.8, 21.9, 22.6, 18.1, 14.2), 0.1, 1),
    "platelets": ("10*3/uL", (188, 142, 108, 96, 112), 1.5, 0),
    "haematocrit": ("%", (39, 36, 33, 31, 30), 0.2, 0),
    "bilirubin": ("mg/dL", (1.1, 1.6, 2.0, 1.8, 1.5), 0.03, 1),
    "albumin": ("g/dL", (3.1, 2.7, 2.5, 2.4, 2.5), 0.03, 1),
}

RADIOGRAPH_REPORT = (
    "Chest radiograph, portable, AP. Dense consolidation of the right lower lobe with air bronchograms. "
    "No pneumothorax. Small right pleural effusion. Heart size at the upper limit of normal."
)

MANIFEST = """\
# Synthetic sample patient, made by Salus. Nobody's data.
name: sample-patient
licence: Apache-2.0
may_train: true
may_shape_shipped_weights: true
files:
  heart_sound.wav:
    modality: heart_sound
"""

Vitals = dict[str, NDArray[np.float64]]


def write_sample_patient(folder: Path, *, seed: int = 0) -> None:
    """Write the sample patient's files into a folder, which is made if absent; equal seeds give equal bytes.

    Args:
        folder: gets `vitals.csv`, `labs.csv`, `bundle.json`, `note.txt`, `heart_sound.wav` and `salus-cohort.yaml`.
        seed: moves the measurement noise; the clinical course stays.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_sample_patient(folder)
        >>> sorted(path.name for path in folder.iterdir())
        ['bundle.json', 'heart_sound.wav', 'labs.csv', 'note.txt', 'salus-cohort.yaml', 'vitals.csv']
    """
    rng = np.random.default_rng(seed)
    vitals = _vitals(rng)
    labs = _labs(rng)
    files: dict[str, bytes] = {
        "vitals.csv": _vitals_csv(vitals).encode(),
        "labs.csv": _labs_csv(labs).encode(),
        "bundle.json": (json.dumps(_bundle(), indent=1) + "\n").encode(),
        "note.txt": _note(vitals, labs).encode(),
        "heart_sound.wav": _wav(_heart_sound(rng)),
        "salus-cohort.yaml": MANIFEST.encode(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def _course(knots: Knots) -> NDArray[np.float64]:
    """Return the hourly course through the knots, monotone between them: (HOURS + 1,)."""
    hours, values = zip(*knots, strict=True)
    return np.asarray(PchipInterpolator(hours, values)(np.arange(HOURS + 1)), dtype=np.float64)


def _vitals(rng: np.random.Generator) -> Vitals:
    """Return column → (HOURS + 1,) hourly values, NaN where nothing was charted."""
    mean = _course(MEAN_BP) + rng.normal(0, 1.2, HOURS + 1)
    pulse = _course(PULSE_PRESSURE) + rng.normal(0, 1.0, HOURS + 1)
    diastolic = np.round(mean - pulse / 3)
    systolic = np.round(mean + pulse * 2 / 3)
    columns: Vitals = {
        "systolic_bp [mm[Hg]]": systolic,
        "diastolic_bp [mm[Hg]]": diastolic,
        "mean_bp [mm[Hg]]": np.round(diastolic + (systolic - diastolic) / 3),
    }
    for column, (knots, noise, decimals) in VITALS.items():
        values = np.round(_course(knots) + rng.normal(0, noise, HOURS + 1), decimals)
        if column in FOUR_HOURLY:
            values[np.arange(HOURS + 1) % 4 != 0] = np.nan
        columns[column] = values
    columns["spo2 [%]"] = np.minimum(columns["spo2 [%]"], 100)
    columns["spo2 [%]"][list(PROBE_OFF_H)] = np.nan
    columns["urine [mL]"] = np.maximum(columns["urine [mL]"], 0)
    columns["urine [mL]"][0] = np.nan  # the first hourly volume exists after the first hour
    return columns


def _vitals_csv(vitals: Vitals) -> str:
    order = ("heart_rate [/min]", "systolic_bp [mm[Hg]]", "diastolic_bp [mm[Hg]]", "mean_bp [mm[Hg]]", *list(VITALS)[1:])
    rows = [",".join(("time_h", *order))]
    for hour in range(HOURS + 1):
        cells = ("" if np.isnan(vitals[column][hour]) else f"{vitals[column][hour]:g}" for column in order)
        rows.append(",".join((str(hour), *cells)))
    return "\n".join(rows) + "\n"


def _labs(rng: np.random.Generator) -> list[tuple[float, str, str, str]]:
    """Return (hours after admission, variable, printed value, UCUM unit), in order of time.

    Bicarbonate follows from pH and PaCO2 by Henderson-Hasselbalch (pK 6.1, 0.0307 mmol/L/mm[Hg]), so that the gases agree.
    """
    rows: list[tuple[float, str, str, str]] = []
    gases: dict[tuple[float, str], float] = {}
    for table, hours in ((OFTEN, OFTEN_H), (SELDOM, SELDOM_H)):
        for name, (unit, values, noise, decimals) in table.items():
            for hour, value in zip(hours, values, strict=True):
                noisy = round(value + float(rng.normal(0, noise)), decimals)
                gases[hour, name] = noisy
                rows.append((hour, name, f"{noisy:.{decimals}f}", unit))
    for hour in OFTEN_H:
        bicarbonate = 0.0307 * gases[hour, "paco2"] * 10 ** (gases[hour, "ph"] - 6.1)
        rows.append((hour, "bicarbonate", f"{bicarbonate:.0f}", "mmol/L"))
    return sorted(rows, key=lambda row: row[0])


def _labs_csv(labs: list[tuple[float, str, str, str]]) -> str:
    lines = ["time_h,variable,value,unit"]
    lines += [f"{hour:g},{name},{value},{unit}" for hour, name, value, unit in labs]
    return "\n".join(lines) + "\n"


def _at(hours: float) -> str:
    """Return the calendar time of an hour after admission, as a FHIR dateTime."""
    return (ADMITTED_AT + timedelta(hours=hours)).isoformat()


def _coded(system: str, code: str, *, display: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code, "display": display}], "text": display}


def _resource(kind: str, key: str, *, body: Mapping[str, Any]) -> dict[str, Any]:
    test_data = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST", "display": "test health data"}
    return {"resourceType": kind, "id": key, "meta": {"tag": [test_data]}, **body}


def _condition(key: str, code: str, *, display: str, onset: str, ended: str | None = None) -> dict[str, Any]:
    status = "resolved" if ended else "active"
    body: dict[str, Any] = {
        "clinicalStatus": _coded("http://terminology.hl7.org/CodeSystem/condition-clinical", status, display=status),
        "code": _coded("http://snomed.info/sct", code, display=display),
        "subject": {"reference": f"Patient/{SUBJECT_ID}"},
        "onsetDateTime": onset,
    }
    return _resource("Condition", key, body=body | ({"abatementDateTime": ended} if ended else {}))


def _medication(key: str, rxnorm: str, *, display: str, status: str, authored: str, dose: str) -> dict[str, Any]:
    return _resource(
        "MedicationRequest",
        key,
        body={
            "status": status,
            "intent": "order",
            "medicationCodeableConcept": _coded("http://www.nlm.nih.gov/research/umls/rxnorm", rxnorm, display=display),
            "subject": {"reference": f"Patient/{SUBJECT_ID}"},
            "authoredOn": authored,
            "dosageInstruction": [{"text": dose}],
        },
    )


def _observation(key: str, loinc: str, *, display: str, at: str, value: float, unit: str) -> dict[str, Any]:
    category = "vital-signs" if unit == "kg" else "laboratory"
    return _resource(
        "Observation",
        key,
        body={
            "status": "final",
            "category": [_coded("http://terminology.hl7.org/CodeSystem/observation-category", category, display=category)],
            "code": _coded("http://loinc.org", loinc, display=display),
            "subject": {"reference": f"Patient/{SUBJECT_ID}"},
            "effectiveDateTime": at,
            "valueQuantity": {"value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit},
        },
    )


def _administrative() -> list[dict[str, Any]]:
    return [
        _resource("Patient", SUBJECT_ID, body={"gender": "male", "birthDate": "1957-08-14"}),
        _resource(
            "Encounter",
            "admission",
            body={
                "status": "in-progress",
                "class": {
                    "system": "http://terminology.hl7.org/CodeSystem/v3-ActCode",
                    "code": "IMP",
                    "display": "inpatient encounter",
                },
                "type": [_coded("http://snomed.info/sct", "32485007", display="Hospital admission")],
                "subject": {"reference": f"Patient/{SUBJECT_ID}"},
                "period": {"start": _at(0)},
            },
        ),
        _resource(
            "AllergyIntolerance",
            "penicillin",
            body={
                "clinicalStatus": _coded("http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical", "active", display="Active"),
                "type": "allergy",
                "category": ["medication"],
                "code": _coded("http://snomed.info/sct", "91936005", display="Allergy to penicillin"),
                "patient": {"reference": f"Patient/{SUBJECT_ID}"},
                "recordedDate": "2009-05-11",
                "reaction": [{"manifestation": [_coded("http://snomed.info/sct", "271807003", display="Eruption of skin")]}],
            },
        ),
    ]


def _reports() -> list[dict[str, Any]]:
    words = base64.b64encode(f"{RADIOGRAPH_REPORT} Synthetic text.".encode()).decode()
    return [
        _resource(
            "DiagnosticReport",
            "chest-radiograph",
            body={
                "status": "final",
                "code": _coded("http://loinc.org", "36554-4", display="XR Chest Single view"),
                "subject": {"reference": f"Patient/{SUBJECT_ID}"},
                "effectiveDateTime": _at(1),
                "conclusion": RADIOGRAPH_REPORT,
            },
        ),
        _resource(
            "DocumentReference",
            "chest-radiograph-document",
            body={
                "status": "current",
                "type": _coded("http://loinc.org", "18748-4", display="Diagnostic imaging study"),
                "subject": {"reference": f"Patient/{SUBJECT_ID}"},
                "date": _at(1.5),
                "content": [{"attachment": {"contentType": "text/plain", "data": words}}],
            },
        ),
    ]


def _bundle() -> dict[str, Any]:
    """Return the FHIR R4 bundle (http://hl7.org/fhir/R4); codes are SNOMED CT, LOINC, RxNorm ingredients and UCUM."""
    resources = [
        *_administrative(),
        _condition("pneumonia", "233604007", display="Pneumonia", onset=_at(0)),
        _condition("septic-shock", "76571007", display="Septic shock", onset=_at(6)),
        _condition("kidney-injury", "14669001", display="Acute kidney injury", onset=_at(12)),
        _condition("hypertension", "38341003", display="Hypertensive disorder", onset="2011-04"),
        _condition("diabetes", "44054006", display="Diabetes mellitus type 2", onset="2016"),
        _condition("bronchitis", "10509002", display="Acute bronchitis", onset="2024-01-15", ended="2024-02-02"),
        _medication("norepinephrine", "7512", display="norepinephrine", status="active", authored=_at(6.5), dose="intravenous infusion"),
        _medication("ceftriaxone", "2193", display="ceftriaxone", status="active", authored=_at(1), dose="2 g intravenously once daily"),
        _medication("lisinopril", "29046", display="lisinopril", status="stopped", authored="2019-06-03", dose="10 mg by mouth once daily"),
        _observation("weight", "29463-7", display="Body weight", at=_at(0.5), value=82.0, unit="kg"),
        _observation("creatinine-before", "2160-0", display="Creatinine", at="2025-11-18", value=1.0, unit="mg/dL"),
        _observation("procalcitonin", "33959-8", display="Procalcitonin", at=_at(1), value=18.4, unit="ng/mL"),
        *_reports(),
    ]
    entries = [{"fullUrl": f"urn:salus:sample:{body['resourceType']}/{body['id']}", "resource": body} for body in resources]
    return {"resourceType": "Bundle", "type": "collection", "entry": entries}


def _note(vitals: Vitals, labs: list[tuple[float, str, str, str]]) -> str:
    first = {name: value for hour, name, value, _ in labs if hour == OFTEN_H[0]}
    pressure = f"{vitals['systolic_bp [mm[Hg]]'][0]:.0f}/{vitals['diastolic_bp [mm[Hg]]'][0]:.0f}"
    return f"""\
ADMISSION NOTE, intensive care. SYNTHETIC: made by Salus for its demo, describes no real person.

Presenting problem
68-year-old man, three days of productive cough, fever and rigors, increasingly breathless since this morning.

History
Hypertension, type 2 diabetes. Home medicine: lisinopril 10 mg once daily, stopped on admission because of hypotension and
rising creatinine. Allergy: penicillin (rash, 2009). No previous kidney disease; creatinine 1.0 mg/dL in November 2025.

Examination
Alert, tires quickly. Heart rate {vitals["heart_rate [/min]"][0]:.0f} /min, blood pressure {pressure} mmHg, temperature \
{vitals["temperature [Cel]"][0]:.1f} °C, respiratory rate {vitals["respiratory_rate [/min]"][0]:.0f} /min, \
SpO2 {vitals["spo2 [%]"][0]:.0f} % on 4 L/min oxygen.
Bronchial breathing and crackles over the right lower zone. Soft ejection systolic murmur at the right upper sternal edge.

Investigations
Lactate {first["lactate"]} mmol/L, creatinine {first["creatinine"]} mg/dL, white cells {first["wbc"]} 10^3/uL, \
pH {first["ph"]}, PaO2 {first["pao2"]} mmHg. Chest radiograph: right lower lobe consolidation.

Impression and plan
Community-acquired pneumonia with sepsis. Blood cultures, ceftriaxone 2 g (earlier reaction to penicillin was a mild rash),
fluids 30 mL/kg, repeat lactate, vasopressor if mean pressure stays below 65 mmHg, hourly urine output.
"""


def _heart_sound(rng: np.random.Generator) -> NDArray[np.float64]:
    """Return (SOUND_S x SOUND_RATE_HZ,) samples: S1 and S2 as damped tones, an ejection systolic murmur, and skin noise.

    Systole is about a third of the cycle at 92 beats a minute; the murmur rises and falls between S1 and S2, 80 to 300 Hz.
    """
    samples = SOUND_S * SOUND_RATE_HZ
    time_s = np.arange(samples) / SOUND_RATE_HZ
    murmur_noise = sosfilt(butter(4, (80, 300), "bandpass", fs=SOUND_RATE_HZ, output="sos"), rng.normal(0, 1, samples))
    sound = 0.006 * rng.normal(0, 1, samples)
    beat_s = 0.25
    while beat_s < SOUND_S - 0.6:
        cycle_s = 60 / 92 * (1 + 0.02 * float(rng.normal()))
        systole_s = 0.36 * cycle_s + 0.05
        sound += 0.55 * _thump(time_s - beat_s, hertz=45, decay_s=0.030) + 0.25 * _thump(time_s - beat_s, hertz=75, decay_s=0.022)
        sound += 0.42 * _thump(time_s - beat_s - systole_s, hertz=62, decay_s=0.022)
        phase = np.clip((time_s - beat_s - 0.06) / (systole_s - 0.08), 0, 1)
        sound += 0.10 * np.sin(np.pi * phase) ** 2 * murmur_noise
        beat_s += cycle_s
    return np.asarray(0.8 * sound / np.abs(sound).max(), dtype=np.float64)


def _thump(since_s: NDArray[np.float64], *, hertz: float, decay_s: float) -> NDArray[np.float64]:
    """Return a tone that starts softly at zero seconds and dies away; zero before."""
    after = np.maximum(since_s, 0)
    envelope = (1 - np.exp(-after / 0.006)) * np.exp(-after / decay_s)
    return np.asarray(np.where(since_s > 0, envelope * np.sin(2 * np.pi * hertz * after), 0.0), dtype=np.float64)


def _wav(samples: NDArray[np.float64]) -> bytes:
    """Return a mono 16-bit PCM WAV file."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SOUND_RATE_HZ)
        file.writeframes(np.round(samples * 32767).astype("<i2").tobytes())
    return buffer.getvalue()
