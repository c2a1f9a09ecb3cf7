"""White cells and platelets in pictures of blood smears (BCCD, 364 images).

Takes the cohort folder; gives two questions per image. No patient is published, so the image is the unit of split and bootstrap. Labels are
counts of the annotators' boxes; a platelet or cell that they left out counts as absent.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from xml.etree import ElementTree

from salus.cohorts.one_file import read_one_file
from salus.cohorts.split_file import read_split
from salus.errors import InputError
from salus.record.read.image import READER
from salus.record.read.reader import ReadOptions
from salus.task import Example, Split, Task

FOLDER = "blood_cells_bccd"
WHITE = ("How many white blood cells does this smear show?", ("0", "1", "2 or more"))
PLATELETS = ("Does this smear show platelets?", ("yes", "no"))


def counts_of(annotation: Path) -> dict[str, int]:
    """Return the number of boxes by kind of cell (`WBC`, `RBC`, `Platelets`) in a VOC annotation.

    Raises:
        InputError: the file is missing or no annotation.
    """
    try:
        names = [element.findtext("name") or "" for element in ElementTree.parse(annotation).getroot().iter("object")]
    except (OSError, ElementTree.ParseError) as error:
        raise InputError(f"Cannot read the annotation {annotation}: {type(error).__name__}. Restore the original files.") from error
    return {name: names.count(name) for name in sorted(set(names))}


def read(data: Path, split: Split) -> tuple[Example, ...]:
    """Return two questions per image of a split, in the order of `split.csv`.

    Args:
        data: folder that holds `blood_cells_bccd/`.
        split: `train`, `val` or `test`; as published, by image.

    Raises:
        InputError: a table, an image or an annotation is missing.
    """
    folder = data / FOLDER
    examples = []
    for image, own in read_split(folder / "split.csv", "image_id").items():
        if own != split:
            continue
        path = folder / "JPEGImages" / f"{image}.jpg"
        if not path.is_file():
            raise InputError(f"Cannot read the cohort {folder}: an image of split.csv is not there. Restore the original files.")
        counts = counts_of(folder / "Annotations" / f"{image}.xml")
        record = partial(read_one_file, READER, path, subject_id=image, options=ReadOptions(modality="microscopy"))
        white = WHITE[1][min(counts.get("WBC", 0), 2)]
        platelets = "yes" if counts.get("Platelets", 0) else "no"
        for family, (question, options), answer in (("white-cells", WHITE, white), ("platelets", PLATELETS, platelets)):
            examples.append(Example(f"bccd-count/{image}/{family}", image, record, question, options, answer, family))
    return tuple(examples)


TASK = Task(
    name="bccd-count",
    title="White cells and platelets in a blood smear",
    modalities=("microscopy",),
    metric="accuracy",
    read=read,
    folders=(FOLDER,),
    licence="MIT",
    may_shape_shipped_weights=True,
)
