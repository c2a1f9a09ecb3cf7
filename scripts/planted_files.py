"""Writes EDF+ recordings, NIfTI volumes and HL7 v2 messages with planted identifiers, to measure how many a de-identification finds.

Each function takes a maker, a folder and a number; gives a file and (place, value) of what was planted. No value may be anywhere in the
file that is delivered.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path

import nibabel
import numpy as np
import pyedflib
from nibabel.nifti1 import Nifti1Extension
from planted import Maker, plain

Written = tuple[Path, list[tuple[str, str]]]


def recording(maker: Maker, folder: Path, number: int) -> Written:
    """Write an EDF+ recording: identity in its fields, a transducer's words, and an annotation."""
    made = {
        "patient code": maker.make("record_number").replace(" ", ""), "patient name": plain(maker.make("name")), "technician": plain(maker.make("family")).replace(" ", "-"),
        "admin code": maker.make("other_id"), "transducer": plain(maker.make("name")), "annotation name": plain(maker.make("name")), "annotation phone": maker.shaped("617-555-01##"),
    }  # fmt: skip
    seen = datetime(1996, 1, 1, 7, 0) + timedelta(days=maker.random.randrange(10_000))  # noqa: DTZ001 - EDF knows no zone
    path = folder / f"{number}.edf"
    with pyedflib.EdfWriter(str(path), 1, file_type=pyedflib.FILETYPE_EDFPLUS) as writer:
        writer.setPatientCode(made["patient code"])
        writer.setPatientName(made["patient name"].replace(" ", "_"))
        writer.setBirthdate(date(1950, 1, 1) + timedelta(days=maker.random.randrange(12_000)))
        writer.setTechnician(made["technician"])
        writer.setAdmincode(made["admin code"])
        writer.setStartdatetime(seen)
        writer.setSignalHeader(0, {
            "label": "EEG Fp1-A1", "dimension": "uV", "sample_frequency": 32, "physical_min": -100.0, "physical_max": 100.0, "digital_min": -2048,
            "digital_max": 2047, "transducer": f"AgAgCl, placed by Dr. {made['transducer']}"[:80], "prefilter": "HP:0.1Hz",
        })  # fmt: skip
        writer.writeSamples([np.arange(64) % 20 - 10.0])
        writer.writeAnnotation(1.0, -1, f"Mrs. {made['annotation name']} woke up"[:40])  # pyedflib writes no more letters
        writer.writeAnnotation(1.5, -1, f"call {made['annotation phone']}, {seen:%d.%m.%Y}")
    planted = [(place, value if place != "patient name" else value.replace(" ", "_")) for place, value in made.items()]
    return path, [*planted, ("start", f"{seen:%d.%m.%y}"), ("start in words", f"{seen:%d-%b-%Y}".upper()), ("annotation date", f"{seen:%d.%m.%Y}")]


def volume(maker: Maker, folder: Path, number: int) -> Written:
    """Write a NIfTI volume: a name in each text of its header and in an extension."""
    fields = ("descrip", "aux_file", "intent_name", "db_name")
    made = {field: plain(maker.make("family"))[:16] for field in fields} | {"extension": plain(maker.make("name"))}
    image = nibabel.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.eye(4))
    for field in fields:
        image.header[field] = made[field].encode()
    image.header.extensions.append(Nifti1Extension("comment", made["extension"].encode()))
    path = folder / f"{number}.nii"
    nibabel.save(image, path)
    return path, list(made.items())


def message(maker: Maker, folder: Path, number: int) -> Written:
    """Write an HL7 v2 result: patient, kin, staff and places in their fields, and again in its texts."""
    names = ("family", "given", "kin", "doctor", "street", "city", "hospital", "mother")
    kinds = {"family": "family", "given": "given", "kin": "given", "doctor": "family", "street": "street", "city": "city", "hospital": "hospital", "mother": "family"}
    made = {name: plain(maker.make(kinds[name])).replace("|", " ").replace("^", " ").replace("&", "and") for name in names}
    made |= {
        "number": maker.shaped("########"), "nhs": maker.shaped("##########"), "zip": maker.make("zip"), "phone": maker.shaped("617-555-01##"), "kin phone": maker.shaped("617-555-01##"),
        "account": maker.shaped("AC-#######"), "ssn": maker.make("ssn"), "visit": maker.shaped("###############"), "text phone": maker.shaped("312-555-01##"),
    }  # fmt: skip
    day = date(2005, 1, 1) + timedelta(days=maker.random.randrange(7000))
    born = date(1940, 1, 1) + timedelta(days=maker.random.randrange(20_000))
    lines = (
        f"MSH|^~\\&|LAB|{made['hospital']}|RAPP|RFAC|{day:%Y%m%d}0800||ORU^R01|{number}|T|2.5.1",
        f"PID|1||{made['number']}^^^MRN~{made['nhs']}^^^NHS||{made['family']}^{made['given']}|{made['mother']}|{born:%Y%m%d}|F|||{made['street']}^^{made['city']}^MA^{made['zip']}||{made['phone']}|||||{made['account']}|{made['ssn']}",
        f"NK1|1|{made['family']}^{made['kin']}|SPO|{made['street']}||{made['kin phone']}",
        f"PV1|1|I|Ward^1^2||||D7^{made['doctor']}^A^^^Dr||||||||||||{made['visit']}",
        f"OBR|1|1|1|24323-8^Panel^LN|||{day:%Y%m%d}0700|||||||||D7^{made['doctor']}",
        f"OBX|1|NM|2823-3^Potassium^LN||4.1|mmol/L^^UCUM|3.5-5.1|N|||F|||{day:%Y%m%d}0700",
        f"OBX|2|TX|note^Comment^L||Mrs. {made['family']} was seen by Dr. {made['doctor']} on {day:%d.%m.%Y}||||||F",
        f"NTE|1||Call {made['kin']} {made['family']} on {made['text phone']}",
    )
    path = folder / f"{number}.hl7"
    path.write_text("\r".join(lines) + "\r", encoding="utf-8")
    return path, [*made.items(), ("birth", f"{born:%Y%m%d}"), ("seen", f"{day:%Y%m%d}"), ("seen in text", f"{day:%d.%m.%Y}")]
