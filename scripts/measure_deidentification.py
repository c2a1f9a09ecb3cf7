"""Measures de-identification by planted identifiers: `python scripts/measure_deidentification.py results/deidentification.json [dev|test]`.

Four parts: tags of DICOM files, elements of FHIR bundles and fields of EDF, NIfTI and HL7 v2 files; free text by kind; text burned into
frames; and identifiers that are spoken (needs espeak-ng). Everything was chosen on the `dev` half of the notes and sentences; the figures are
of the `test` half. Recall counts an identifier as found when no letter or digit of it is left, one that is spoken when nine tenths of its
sound are silence; precision is the share of what was changed that was planted. Nobody's data is read.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from platform import python_version

import numpy as np
import soundfile
from PIL import Image, ImageDraw, ImageFont
from planted import NOTES, Maker, plain, planted_notes
from planted_files import message, recording, volume
from planted_speech import spoken_notes
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundMultiFrameImageStorage, generate_uid
from scipy.ndimage import label

from salus import __version__
from salus.evaluate.rows import Result, commit, file_hash, write_result
from salus.metrics import Floats, Interval, bootstrap
from salus.record.deidentify.dicom import check_dicom, deidentify_dicom, read_whole, survey_dicom
from salus.record.deidentify.fhir import check_fhir, deidentify_fhir, survey_fhir
from salus.record.deidentify.formats import FORMATS
from salus.record.deidentify.key import Key
from salus.record.deidentify.kinds import found_by
from salus.record.deidentify.pixels import build_text_finder
from salus.record.deidentify.sounds import check_sound, deidentify_sound
from salus.record.deidentify.text import OWN
from salus.record.deidentify.work import Person, Work
from salus.record.read.reader import ReadOptions
from salus.record.transcribe import RATE_HZ, transcriber

TARGETS = {"tags": 0.99, "free-text": 0.95, "burned-in": 0.95, "speech": 0.95}
OTHERS = (("EDF", recording, "edf"), ("NIfTI", volume, "nifti"), ("HL7 v2", message, "hl7v2"))
PLANTED = ("planted.py", "planted_files.py", "planted_speech.py")
SPOKEN_COPIES = 8
COPIES = 12
PATIENTS = 60
FRAMES = 8
SIZES = ((256, 256), (480, 640), (600, 800))
KEY = Key(bytes(range(32)))


def share(_truth: Floats, found: Floats) -> float:
    """Return the share of ones."""
    return float(found.mean()) if len(found) else float("nan")


def interval(found: Sequence[bool], groups: Sequence[str]) -> Interval:
    """Return a share with its interval, resampled by note, patient or picture."""
    values = np.array(found, dtype=np.float64)
    return bootstrap(share, values, values, list(groups))


class Nothing:
    """Finds no text: for files without pictures."""

    def find(self, _picture: object) -> tuple[()]:
        """Return no box."""
        return ()


def free_text(result: Result, half: str) -> None:
    """Measure planted notes."""
    recall: dict[str, list[tuple[bool, str]]] = defaultdict(list)
    right: list[tuple[bool, str]] = []
    for note in planted_notes(half, seed=1, copies=COPIES):
        hits = found_by(OWN, note.text)
        covered = {place for hit in hits for place in range(hit.start, hit.end)}
        group = f"note {note.note}"
        for start, end, kind in note.spans:
            is_found = all(place in covered for place in range(start, end) if note.text[place].isalnum())
            recall[kind].append((is_found, group))
        right += [(any(start < hit.end and hit.start < end for start, end, _ in note.spans), group) for hit in hits]
    everything = [one for each in recall.values() for one in each]
    add(result, "free-text", "recall", everything)
    add(result, "free-text", "precision", right)
    for kind, each in sorted(recall.items()):
        add(result, "free-text", "recall", each, subgroup=f"kind={kind}")


def add(result: Result, part: str, metric: str, found: Sequence[tuple[bool, str]], *, subgroup: str = "") -> None:
    """Add one row."""
    measured = interval([each for each, _ in found], [group for _, group in found])
    result.add(f"deidentify/{part}", "final", "salus deidentify", metric=metric, found=measured, selected_on="dev", subgroup=subgroup)


STRINGS = {
    "PatientName": "name", "PatientID": "record_number", "OtherPatientNames": "name", "PatientAddress": "street", "PatientTelephoneNumbers": "phone",
    "ReferringPhysicianName": "name", "PerformingPhysicianName": "name", "OperatorsName": "name", "InstitutionName": "hospital", "InstitutionAddress": "street",
    "AccessionNumber": "other_id", "StudyID": "other_id", "DeviceSerialNumber": "device", "PatientMotherBirthName": "name", "RequestingPhysician": "name",
    "StationName": "device", "AdmissionID": "other_id", "PatientComments": "name", "AdditionalPatientHistory": "name", "ImageComments": "name",
    "StudyDescription": "name", "SeriesDescription": "record_number", "ProtocolName": "name", "RequestedProcedureDescription": "name", "NameOfPhysiciansReadingStudy": "name",
    "ResponsiblePerson": "name", "MedicalRecordLocator": "record_number", "CurrentPatientLocation": "hospital", "IssuerOfPatientID": "hospital", "InsurancePlanIdentification": "plan_number",
    "PatientInsurancePlanCodeSequence": "", "Manufacturer": "", "PatientBirthName": "name", "PhysiciansOfRecord": "name", "InstitutionalDepartmentName": "hospital",
}  # fmt: skip
DATES = ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate", "PatientBirthDate", "InstanceCreationDate", "AdmittingDate")


def tagged(maker: Maker, folder: Path, number: int) -> tuple[Path, list[tuple[str, str]]]:
    """Write a DICOM file with planted tags, some in a sequence and some private; return it and (tag, value)."""
    data, planted = Dataset(), []
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.9.1.1", generate_uid()
    data.StudyInstanceUID, data.SeriesInstanceUID, data.Modality = generate_uid(), generate_uid(), "ECG"
    planted += [("SOPInstanceUID", str(data.SOPInstanceUID)), ("StudyInstanceUID", str(data.StudyInstanceUID)), ("SeriesInstanceUID", str(data.SeriesInstanceUID))]
    for keyword, placeholder in STRINGS.items():
        if not placeholder:
            continue
        value = plain(maker.make(placeholder)).replace("\\", "")[:16 if keyword in ("AccessionNumber", "StudyID", "StationName") else 60]
        setattr(data, keyword, value)
        planted.append((keyword, value))
    for keyword in DATES:
        value = f"{maker.random.randrange(1920, 2024)}{maker.random.randrange(1, 13):02d}{maker.random.randrange(1, 29):02d}"
        setattr(data, keyword, value)
        planted.append((keyword, value))
    item = Dataset()
    item.RequestingPhysician, item.RequestedProcedureDescription = plain(maker.make("name")), plain(maker.make("name"))
    planted += [("sequence", str(item.RequestingPhysician)), ("sequence", str(item.RequestedProcedureDescription))]
    data.RequestAttributesSequence = [item]
    block = data.private_block(0x0011, "ACME 1.0", create=True)
    value = plain(maker.make("name"))
    block.add_new(1, "LO", value)
    planted.append(("private", value))
    path = folder / f"{number}.dcm"
    data.save_as(path, enforce_file_format=True)
    return path, planted


def bundle(maker: Maker, folder: Path, number: int) -> tuple[Path, list[tuple[str, str]]]:
    """Write a FHIR bundle with planted identifiers; return it and (element, value)."""
    made = {
        "family": maker.make("family"), "given": maker.make("given"), "number": maker.make("record_number"), "phone": maker.make("phone"), "email": maker.make("email"),
        "street": maker.make("street"), "city": maker.make("city"), "zip": maker.make("zip"), "birth": f"19{maker.random.randrange(20, 99)}-0{maker.random.randrange(1, 10)}-1{maker.random.randrange(0, 10)}",
        "doctor": maker.make("family"), "hospital": maker.make("hospital"), "kin": maker.make("name"), "seen": f"2021-0{maker.random.randrange(1, 10)}-2{maker.random.randrange(0, 9)}",
        "maiden": maker.make("name"), "device": maker.make("device"), "photo": "https://" + maker.make("email").replace("@", ".") + "/p.png",
    }  # fmt: skip
    key = f"{maker.random.getrandbits(64):016x}"
    patient = {
        "resourceType": "Patient", "id": key, "name": [{"family": made["family"], "given": [made["given"]]}], "identifier": [{"system": "urn:x", "value": made["number"]}],
        "telecom": [{"system": "phone", "value": made["phone"]}, {"system": "email", "value": made["email"]}], "birthDate": made["birth"], "photo": [{"url": made["photo"]}],
        "address": [{"line": [made["street"]], "city": made["city"], "postalCode": made["zip"], "state": "MA"}], "contact": [{"name": {"text": made["kin"]}}],
        "extension": [{"url": "http://hl7.org/fhir/StructureDefinition/patient-mothersMaidenName", "valueString": made["maiden"]}],
        "text": {"status": "generated", "div": f"<div>{made['given']} {made['family']}</div>"},
    }  # fmt: skip
    seen = {
        "resourceType": "Observation", "id": f"o{number}", "status": "final", "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4", "display": "Heart rate"}]},
        "subject": {"reference": f"Patient/{key}", "display": f"{made['given']} {made['family']}"}, "effectiveDateTime": f"{made['seen']}T10:00:00Z",
        "performer": [{"reference": "Practitioner/d1", "display": f"Dr. {made['doctor']}"}], "valueQuantity": {"value": 72, "unit": "/min"}, "note": [{"text": f"Seen with Mrs. {made['family']} at {made['hospital']}."}],
    }  # fmt: skip
    doctor = {"resourceType": "Practitioner", "id": "d1", "name": [{"family": made["doctor"]}]}
    place = {"resourceType": "Organization", "id": "h1", "name": made["hospital"]}
    device = {"resourceType": "Device", "id": "v1", "serialNumber": made["device"], "patient": {"reference": f"Patient/{key}"}}
    tree = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": each} for each in (patient, seen, doctor, place, device)]}
    path = folder / f"{number}.json"
    path.write_text(json.dumps(tree, ensure_ascii=False), encoding="utf-8")
    return path, [*made.items(), ("id", key)]


def work_for(people: Sequence[Person]) -> Work:
    """Return the work on one file by itself."""
    patient = next((person for person in people if person.key), Person("p"))
    known: dict[object, frozenset[str]] = {}
    for person in people:
        for kind, values in person.values.items():
            known[kind] = known.get(kind, frozenset()) | values
    return Work(KEY, patient.key, {patient.key: known}, {patient.key: patient.key}, finder=Nothing)  # type: ignore[dict-item]


def tags(result: Result, half: str) -> None:
    """Measure planted tags and elements: none of the values may be anywhere in the file that would be delivered."""
    maker = Maker(20_000 if half == "test" else 30_000)
    found: dict[str, list[tuple[bool, str]]] = defaultdict(list)
    delivered: list[tuple[bool, str]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(PATIENTS):
            path, planted = tagged(maker, folder, number)
            work, target = work_for(survey_dicom(path)), folder / f"{number}.new"
            deidentify_dicom(path, target, work)
            raw = target.read_bytes().decode("latin-1").casefold()
            found["DICOM"] += [(value.casefold() not in raw, f"d{number}") for _, value in planted]
            delivered.append((not check_dicom(path, target, work), f"d{number}"))
            kept = read_whole(target)
            assert kept.Modality == "ECG"
            path, planted = bundle(maker, folder, number)
            work = work_for(survey_fhir(path))
            deidentify_fhir(path, target, work)
            raw = target.read_text("utf-8").casefold()
            found["FHIR"] += [(value.casefold() not in raw, f"f{number}") for _, value in planted]
            delivered.append((not check_fhir(path, target, work), f"f{number}"))
            assert '"value": 72' in raw
            for form, write, name_of_format in OTHERS:
                path, planted = write(maker, folder, number)
                before = path.read_bytes().decode("latin-1").casefold()
                assert not [place for place, value in planted if value.casefold() not in before], "what was planted is there"
                known = FORMATS[name_of_format]
                work = work_for(known.survey(path))
                known.clean(path, target, work)
                raw = target.read_bytes().decode("latin-1").casefold()
                found[form] += [(value.casefold() not in raw, f"{form}{number}") for _, value in planted]
                delivered.append((not known.check(path, target, work), f"{form}{number}"))
    add(result, "tags", "recall", [one for each in found.values() for one in each])
    for form, each in found.items():
        add(result, "tags", "recall", each, subgroup=f"format={form}")
    add(result, "tags", "delivered", delivered)


def spoken(result: Result, half: str) -> None:
    """Measure identifiers in speech: nine tenths of the sound of each must be silence; what else is silenced is told as `kept`."""
    engine = transcriber("whisper")
    recall: dict[str, list[tuple[bool, str]]] = defaultdict(list)
    kept: list[float] = []
    delivered: list[tuple[bool, str]] = []
    with tempfile.TemporaryDirectory() as name:
        path, target = Path(name, "said.wav"), Path(name, "new.wav")
        for note in spoken_notes(half, seed=1, copies=SPOKEN_COPIES):
            soundfile.write(path, note.samples, RATE_HZ, "PCM_16")
            work = Work(KEY, "p", options=ReadOptions(modality="speech"), transcriber=lambda: engine)
            deidentify_sound(path, target, work)
            delivered.append((not check_sound(path, target, work), f"sentence {note.sentence}"))
            before, after = (soundfile.read(each, dtype="float32")[0] for each in (path, target))
            beside = np.ones(len(before), bool)
            for start, end, kind in note.spans:
                beside[start:end] = False
                left = float((after[start:end] ** 2).sum() / (before[start:end] ** 2).sum())
                recall[kind].append((left <= 0.1, f"sentence {note.sentence}"))
            kept.append(float((after[beside] ** 2).sum() / (before[beside] ** 2).sum()))
    add(result, "speech", "recall", [one for each in recall.values() for one in each])
    for kind, each in sorted(recall.items()):
        add(result, "speech", "recall", each, subgroup=f"kind={kind}")
    add(result, "speech", "delivered", delivered)
    result.notes["speech_share_of_other_sound_kept"] = float(np.mean(kept))


def burned_in(result: Result, half: str) -> None:
    """Measure text planted into each frame of multi-frame files at its own place: no planted pixel may stay, and little else may go."""
    maker = Maker(40_000 if half == "test" else 50_000)
    found: list[tuple[bool, str]] = []
    right: list[tuple[bool, str]] = []
    changed: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        for number, size in enumerate(SIZES):
            path, places, clean = film(maker, Path(name), size, number)
            work = Work(KEY, "p", finder=build_text_finder)
            target = Path(name) / f"{number}.new"
            deidentify_dicom(path, target, work)
            pixels = read_whole(target).pixel_array
            for frame, text in enumerate(places):
                for mask in text:
                    found.append((float((pixels[frame][mask] == clean[frame][mask]).mean()) < 0.1, f"{number}/{frame}"))
            planted = np.any(np.stack([np.any(np.stack(text), axis=0) for text in places]), axis=0)
            gone = np.any(pixels != clean, axis=0)
            right += [(bool(touched), f"{number}") for touched in _pieces(gone, planted)]
            changed.append(float(gone.mean()))
    add(result, "burned-in", "recall", found)
    add(result, "burned-in", "precision", right)
    result.notes["burned_in_share_of_pixels_covered"] = float(np.mean(changed))
    result.notes["burned_in_frames"] = FRAMES * len(SIZES)


def _pieces(gone: np.ndarray, planted: np.ndarray) -> list[bool]:
    """Return, for each covered piece, whether planted text lies in it."""
    marked, count = label(gone)
    return [bool(planted[marked == piece].any()) for piece in range(1, count + 1) if (marked == piece).sum() > 20]


def film(maker: Maker, folder: Path, size: tuple[int, int], number: int) -> tuple[Path, list[list[np.ndarray]], np.ndarray]:
    """Write a multi-frame file with texts that differ in size, place and brightness; return where their pixels are, frame by frame."""
    random = np.random.default_rng(maker.random.randrange(1 << 30))
    height, width = size
    rows, columns = np.mgrid[:height, :width]
    fan = ((rows - height * 0.1) ** 2 + (columns - width / 2) ** 2 < (height * 0.75) ** 2) & (np.abs(columns - width / 2) < rows * 0.8)
    frames, places = [], []
    for _ in range(FRAMES):
        picture = Image.fromarray((np.clip(random.gamma(2.0, 28.0, size), 1, 200) * fan + 1).astype(np.uint8))
        where = []
        for line, placeholder in enumerate(("name", "record_number", "date", "hospital")):
            font = ImageFont.load_default(int(random.integers(max(11, height // 34), max(15, height // 18))))
            text = plain(maker.make(placeholder))
            at = (int(random.integers(4, max(5, width // 6))), int((0.02, 0.09, 0.84, 0.92)[line] * height))
            layer = Image.new("L", (width, height))
            ImageDraw.Draw(layer).text(at, text, fill=255, font=font)
            mask = np.asarray(layer) > 100
            drawn = np.asarray(picture).copy()
            drawn[mask] = int(random.integers(170, 256))
            picture = Image.fromarray(drawn)
            where.append(mask)
        frames.append(np.asarray(picture))
        places.append(where)
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID, data.Modality, data.PatientID = UltrasoundMultiFrameImageStorage, generate_uid(), "US", "p"
    data.Rows, data.Columns, data.NumberOfFrames, data.SamplesPerPixel = height, width, FRAMES, 1
    data.PhotometricInterpretation, data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = "MONOCHROME2", 8, 8, 7, 0
    pixels = np.stack(frames)
    data.PixelData = pixels.tobytes()
    path = folder / f"film-{number}.dcm"
    data.save_as(path, enforce_file_format=True)
    return path, places, pixels


def main(out: Path, half: str) -> None:
    """Measure and write."""
    result = Result(half)
    tags(result, half)
    free_text(result, half)
    burned_in(result, half)
    spoken(result, half)
    tree = {
        "command": "python " + " ".join(sys.argv),
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "salus": __version__,
        "python": python_version(),
        "data_hashes": {name: file_hash(NOTES.with_name(name)) for name in (NOTES.name, *PLANTED)},
        "split_hashes": {},
        "rows": [asdict(one) for one in result.rows],
        "targets": TARGETS,
        "notes": result.notes,
    }
    write_result(tree, out)
    for row in result.rows:
        print(f"{row.task} {row.metric} {row.subgroup}: {row.value:.4f} [{row.low:.4f}, {row.high:.4f}], n = {row.n}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "test")
