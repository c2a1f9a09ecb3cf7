"""FASTA and FASTQ: expected letters and qualities are those that the test wrote, and those of Biopython's own record parser."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salus.errors import FormatError, InputError
from salus.record.patient import Item, Sequences
from salus.record.read import fasta
from salus.record.read.fasta import READER
from salus.record.read.reader import HEAD_BYTES, ReadOptions

FASTA = ">NAME OF SOMEBODY\nACGTN\nACGT\n>second\nRYSW\n"
FASTQ = "@NAME OF SOMEBODY\nACGT\n+\nI5+!\n@r2\nGG\n+\n@I\n"


def read(path: Path, options: ReadOptions | None = None) -> Item:
    assert READER.recognises(path, path.read_bytes()[:HEAD_BYTES])
    (item,) = READER.read(path, options or ReadOptions()).found[0].items
    return item


def loaded(item: Item) -> Sequences:
    assert item.content is not None
    found = item.content.load()
    assert isinstance(found, Sequences)
    return found


def written(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("name", ["a.fasta", "a.fa.gz"])
def test_letters_of_fasta(tmp_path: Path, name: str) -> None:
    item = read(written(tmp_path / name, FASTA))
    assert (item.modality, item.category, item.code.code) == ("dna", "sequence", "text/fasta")
    assert item.content is not None and item.content.summary == "2 sequences, DNA, 4 to 9 bases, FASTA"
    assert loaded(item) == Sequences(("ACGTNACGT", "RYSW"), "dna")
    assert "SOMEBODY" not in repr(item)


def test_qualities_of_fastq(tmp_path: Path) -> None:
    found = loaded(read(written(tmp_path / "a.fastq", FASTQ)))
    assert found.letters == ("ACGT", "GG")
    # ASCII less 33 (Sanger): I = 40, 5 = 20, + = 10, ! = 0, @ = 31
    assert [one.tolist() for one in found.qualities] == [[40, 20, 10, 0], [31, 40]]


@pytest.mark.parametrize(
    ("letters", "modality"), [("ACGTACGGTN", "dna"), ("ACGUACGGUN", "rna"), ("MKVLAWDE*", "protein"), ("acgtacgt", "dna")]
)
def test_alphabet_is_seen_from_the_letters(tmp_path: Path, letters: str, modality: str) -> None:
    item = read(written(tmp_path / "a.fa", f">x\n{letters}\n"))
    assert item.modality == modality
    assert any("by its letters" in remark for remark in item.remarks)


def test_declared_alphabet_is_taken(tmp_path: Path) -> None:
    item = read(written(tmp_path / "a.fa", ">x\nGATTACA\n"), ReadOptions(modality="protein"))
    assert item.modality == "protein" and loaded(item).alphabet == "protein" and not item.remarks


def refused(path: Path, error: type[InputError] = FormatError) -> str:
    with pytest.raises(error) as caught:
        READER.read(path, ReadOptions())
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "the file is empty"),
        (">only a header\n", "no sequence has a letter"),
        ("@r\nACGT\n+\nII\n", "a FASTQ record is cut off"),
        ("@r\nACGT\n", "a FASTQ record is cut off"),
        (">x\nAC1GT\n", "neither of nucleotides nor of amino acids"),
        (">x\nACGÄ\n", "is not ASCII"),
        ("@r\nAC\n+\nI\x7f\n", "a quality is outside Phred 0 to 93"),
    ],
)
def test_what_is_damaged_is_refused(tmp_path: Path, text: str, why: str) -> None:
    assert why in refused(written(tmp_path / "a.fa", text))


def test_truncated_gzip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.fa.gz"
    path.write_bytes(gzip.compress((">x\n" + "ACGT" * 4000).encode())[:-12])
    assert "the gzip data are truncated or damaged" in refused(path)


def test_more_letters_than_fit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fasta, "MOST_LETTERS", 10)
    assert "more than 10 letters" in refused(written(tmp_path / "a.fa", ">x\nACGTACGTACGT\n"), InputError)
    monkeypatch.setattr(fasta, "MOST_LINE", 8)
    assert "a line is longer than 8 characters" in refused(tmp_path / "a.fa")


@given(st.lists(st.text("ACGTRYSWKMBDHVN", min_size=1, max_size=90), min_size=1, max_size=5))
def test_same_letters_as_biopython(tmp_path_factory: pytest.TempPathFactory, sequences: list[str]) -> None:
    from Bio import SeqIO

    path = tmp_path_factory.mktemp("fasta") / "a.fa"
    path.write_text("".join(f">s{place}\n{letters[:40]}\n{letters[40:]}\n" for place, letters in enumerate(sequences)))
    expected = tuple(str(record.seq) for record in SeqIO.parse(path, "fasta"))
    assert fasta.load_fasta(path, "dna").letters == expected == tuple(sequences)


def test_measurements_of_qualities(tmp_path: Path) -> None:
    from salus.modalities.dna import MODALITY

    assert MODALITY.measure is not None
    found = {each.name: each.value for each in MODALITY.measure(read(written(tmp_path / "a.fastq", FASTQ)))}
    errors = 10.0 ** (-np.array([40, 20, 10, 0, 31, 40]) / 10)  # Phred's definition, by hand
    assert found["mean quality (Phred)"] == pytest.approx(-10 * np.log10(errors.mean()))
    assert found["share of letters at Q30 or better"] == pytest.approx(50.0)
    assert found["GC content"] == pytest.approx(100 * 4 / 6)
