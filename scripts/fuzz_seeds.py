"""Small made files of the formats that no real data set here holds, as seeds for fuzzing; written with the makers that the tests use."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
from fuzz_mutations import MARKER
from tests.record.read import test_aecg, test_meds, test_omop, test_vcf
from tests.record.read.made_pdf import made_pdf
from tests.record.read.made_scp import written

SIDE = 24


def write_made_seeds(folder: Path) -> None:
    """Write one or more files of each such format below a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    fasta = f">{MARKER} one\nACGTNRYACGTACGT\nGATTACA\n>two\nMKVLAWDERTP\n".encode()
    (folder / "a.fasta").write_bytes(fasta)
    (folder / "b.fa.gz").write_bytes(gzip.compress(fasta))
    (folder / "c.fastq").write_text(f"@{MARKER}\nACGTACGT\n+\nIIII5+!I\n@r2\nGGN\n+\n@II\n")
    variants = f"{test_vcf.HEAD}{MARKER}\tother\n{test_vcf.ROWS}"
    (folder / "d.vcf").write_text(variants)
    (folder / "e.vcf.gz").write_bytes(gzip.compress(variants.encode()))
    (folder / "f.pdf").write_bytes(made_pdf("Findings: lungs clear.", "Impression: normal."))
    (folder / "g.xml").write_text(test_aecg.document(test_aecg.ALL))
    rows = np.cumsum(np.random.default_rng(0).integers(-9, 10, (2, 300)), axis=1)
    for name, order, huffman in (("h.scp", 2, True), ("i.scp", 0, False)):
        (folder / name).write_bytes(written(rows, (1, 2), order=order, huffman=huffman))
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    kinds = (("j.tif", "RGB", None), ("k.tif", "L", "tiff_lzw"), ("l.tif", "P", "tiff_deflate"), ("m.tif", "RGB", "jpeg"))
    for name, mode, compression in kinds:
        Image.fromarray(pixels).convert(mode).save(folder / name, format="TIFF", compression=compression)
    omop = folder / "omop"
    omop.mkdir()
    test_omop.write(omop)
    test_meds.dataset(folder / "meds", test_meds.ROWS, {"LOINC//8867-4": "Heart rate"}, {1: "train", 2: "held_out"})
