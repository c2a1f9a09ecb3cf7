"""Biological sequences: FASTA and FASTQ, plain or gzip.

Takes a path; gives one item whose letters load lazily. Whether they are DNA, RNA or protein is seen from the letters, or declared.
A header line may name a person, so it is neither kept nor shown. Leaves out multi-line alignments and reference genomes.
"""

from __future__ import annotations

import gzip
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from salus.errors import FormatError, InputError, MissingExtra
from salus.record.claims import modality_of
from salus.record.patient import Alphabet, Code, Content, Item, Sequences, Source, item_id
from salus.record.read.reader import FileRead, Found, Reader, ReadOptions
from salus.record.read.source import file_sha256, refuse_empty
from salus.record.sequences import OUTSIDE, alphabet_of

GZIP = b"\x1f\x8b"
MOST_LETTERS = 50_000_000
"""More letters than this are refused: a genome is aligned first, and its variants are read (VCF)."""
MOST_SEQUENCES = 2_000_000
MOST_LINE = 1 << 24
SANGER_OFFSET = 33
"""Character of quality 0. Source: Cock et al., Nucleic Acids Res 2010;38:1767-1771, section 'Sanger FASTQ'."""
MOST_QUALITY = 93
WORDS = {"dna": "DNA", "rna": "RNA", "protein": "protein"}
UNITS = {"dna": "bases", "rna": "bases", "protein": "residues"}


class _Bounded:
    """A text stream that refuses a line of unbounded length, as the parsers read it."""

    def __init__(self, stream: IO[str], file: str) -> None:
        self.stream, self.file = stream, file

    def read(self, size: int = -1) -> str:
        return self.stream.read(size)

    def readline(self) -> str:
        line = self.stream.readline(MOST_LINE)
        if len(line) == MOST_LINE:
            raise FormatError(f"Cannot read the sequences '{self.file}': a line is longer than {MOST_LINE:,} characters. Break its lines.")
        return line

    def __iter__(self) -> Iterator[str]:
        return iter(self.readline, "")


@dataclass(frozen=True)
class _Counted:
    """What one pass over a file found."""

    letters: Counter[str]
    sequences: int
    shortest: int
    longest: int
    is_fastq: bool


def recognises(_path: Path, head: bytes) -> bool:
    r"""Return whether the first bytes, unpacked where they are gzip, are a FASTA or FASTQ record.

    Example:
        >>> [recognises(Path("a"), head) for head in (b">one\nACGT\n", b"@r\nAC\n+\nII\n", b">5 mg\nx=1\n")]
        [True, True, False]
    """
    if head.startswith(GZIP):
        try:
            head = zlib.decompressobj(wbits=31).decompress(head, len(head))
        except zlib.error:
            return False
    lines = [line.rstrip() for line in head.splitlines()]
    if len(lines) < 2 or not lines[1].isascii():
        return False
    first = lines[1].upper().decode("ascii")
    is_letters = bool(first) and all(letter.isalpha() or letter in OUTSIDE for letter in first)
    if lines[0].startswith(b">"):
        return is_letters
    return lines[0].startswith(b"@") and is_letters and (len(lines) < 3 or lines[2].startswith(b"+") or lines[2][:1].isalpha())


def read_fasta(path: Path, options: ReadOptions) -> FileRead:
    """Return a FASTA or FASTQ file as one item; the file is read once through, its letters are not kept.

    Raises:
        FormatError: the file is empty, truncated, not text, holds letters of no alphabet, or qualities that do not fit.
        InputError: it cannot be opened, or holds more than 50 million letters.
        MissingExtra: the parser is not installed.
    """
    refuse_empty(path)
    counted = _count(path)
    alphabet = _declared(options.modality) or alphabet_of(counted.letters)
    if alphabet is None:
        raise FormatError(
            f"Cannot read the sequences '{path.name}': their letters are neither of nucleotides nor of amino acids (IUPAC). "
            "Check that it is FASTA or FASTQ."
        )
    sha256 = file_sha256(path)
    form = "FASTQ" if counted.is_fastq else "FASTA"
    lengths = f"{counted.longest}" if counted.shortest == counted.longest else f"{counted.shortest} to {counted.longest}"
    count = f"{counted.sequences} sequence{'s'[: counted.sequences != 1]}"
    summary = f"{count}, {WORDS[alphabet]}, {lengths} {UNITS[alphabet]}, {form}"
    item = Item(
        id=item_id(sha256, ""),
        modality=options.modality or modality_of(f"sequence:{alphabet}"),
        code=Code("media", f"text/{form.lower()}", f"{WORDS[alphabet]} sequence"),
        source=Source(str(path), sha256),
        category="sequence",
        content=Content("sequence", partial(load_fasta, path, alphabet), summary),
        remarks=() if options.modality else (f"{WORDS[alphabet]} by its letters: the format does not say",),
    )
    return FileRead(found=(Found(None, (item,)),))


def load_fasta(path: Path, alphabet: Alphabet) -> Sequences:
    """Return all sequences of a file, upper case, in its order.

    Raises:
        FormatError: the file is damaged.
    """
    letters: list[str] = []
    qualities: list[NDArray[np.uint8]] = []
    for found, quality in _records(path):
        letters.append(found)
        if quality is not None:
            qualities.append(quality)
    return Sequences(tuple(letters), alphabet, tuple(qualities))


def _declared(modality: str | None) -> Alphabet | None:
    return cast(Alphabet, modality) if modality in WORDS else None


def _count(path: Path) -> _Counted:
    """Return what a file holds, in bounded memory."""
    letters: Counter[str] = Counter()
    total, sequences, shortest, longest, is_fastq = 0, 0, MOST_LETTERS, 0, False
    for found, quality in _records(path):
        letters.update(found)
        total, sequences = total + len(found), sequences + 1
        shortest, longest = min(shortest, len(found)), max(longest, len(found))
        is_fastq = quality is not None
        if total > MOST_LETTERS or sequences > MOST_SEQUENCES:
            raise InputError(
                f"Cannot read the sequences '{path.name}': they are more than {MOST_LETTERS:,} letters or {MOST_SEQUENCES:,} sequences. "
                "Split the file, or align it and give the variants."
            )
    if not total:
        raise FormatError(f"Cannot read the sequences '{path.name}': no sequence has a letter. Export or copy it again.")
    return _Counted(letters, sequences, shortest, longest, is_fastq)


def _records(path: Path) -> Iterator[tuple[str, NDArray[np.uint8] | None]]:
    """Yield letters and, for FASTQ, qualities, record by record; headers are dropped here."""
    try:
        from Bio.SeqIO.FastaIO import SimpleFastaParser
        from Bio.SeqIO.QualityIO import FastqGeneralIterator
    except ImportError:
        raise MissingExtra("read FASTA or FASTQ", "omics") from None
    try:
        with _open(path) as stream:
            bounded = _Bounded(stream, path.name)
            is_fastq = stream.read(1) == "@"
            stream.seek(0)
            if is_fastq:
                for _, letters, quality in FastqGeneralIterator(cast(IO[str], bounded)):
                    yield letters.upper(), _phred(quality, path)
            else:
                for _, letters in SimpleFastaParser(bounded):  # type: ignore[no-untyped-call]
                    yield "".join(letters.split()).upper(), None
    except UnicodeDecodeError as error:
        raise FormatError(f"Cannot read the sequences '{path.name}': byte {error.start} is not ASCII. Export it again.") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise FormatError(f"Cannot read the sequences '{path.name}': the gzip data are truncated or damaged. Copy it again.") from error
    except ValueError as error:
        raise FormatError(
            f"Cannot read the sequences '{path.name}': a FASTQ record is cut off, or its letters and qualities "
            "differ in length. Copy it again."
        ) from error
    except OSError as error:
        raise InputError(f"Cannot read '{path.name}': {error.strerror}. Check that the file may be read.") from error


def _open(path: Path) -> IO[str]:
    with path.open("rb") as stream:
        is_packed = stream.read(2) == GZIP
    return gzip.open(path, "rt", encoding="ascii") if is_packed else path.open(encoding="ascii")


def _phred(quality: str, path: Path) -> NDArray[np.uint8]:
    codes = np.frombuffer(quality.encode("ascii"), np.uint8)
    if len(codes) and (codes.min() < SANGER_OFFSET or codes.max() > SANGER_OFFSET + MOST_QUALITY):
        raise FormatError(
            f"Cannot read the sequences '{path.name}': a quality is outside Phred 0 to {MOST_QUALITY} (offset 33). "
            "Export it again."
        )
    return codes - np.uint8(SANGER_OFFSET)


READER = Reader(name="fasta", title="FASTA or FASTQ sequences", recognises=recognises, read=read_fasta, priority=30)
