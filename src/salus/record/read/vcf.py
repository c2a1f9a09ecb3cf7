"""Reader of VCF 4.x, plain or compressed (gzip, bgzip): the variants of each sample, and what they come to in counts.

Takes a file; gives for each sample one item of all its variants, whose table loads when needed, and one item a variant where they are
few. A significance (ClinVar) or consequence (ANN, CSQ) is the file's own annotation and says so. Leaves out BCF, and alleles that a
sample does not carry.

Source: The Variant Call Format, version 4.3 (samtools/hts-specs): 1.4 (header), 1.6 (records), 5 (structural variants).
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from salus.errors import FormatError, InputError
from salus.record.claims import modality_of
from salus.record.patient import Code, Content, Item, Skipped, Source, item_id
from salus.record.read.reader import FileRead, Found, Reader, ReadOptions
from salus.record.read.source import file_sha256, refuse_empty

MOST_ITEMS = 200
"""Variants of one sample up to which each is an item of its own."""
TABLE_ROWS = 5000
"""Variants that the table of a sample lists."""
LINE_LIMIT = 16 << 20
RECORDS_LIMIT = 20_000_000
SAMPLES_LIMIT = 200
_PURINES, _PYRIMIDINES = frozenset("AG"), frozenset("CT")
_SYSTEM = "vcf"
SIGNIFICANCE = frozenset({
    "benign", "likely benign", "benign/likely benign", "uncertain significance", "likely pathogenic", "pathogenic",
    "pathogenic/likely pathogenic", "likely risk allele", "uncertain risk allele", "established risk allele", "drug response",
    "association", "risk factor", "protective", "affects", "other", "not provided", "conflicting interpretations of pathogenicity",
    "conflicting classifications of pathogenicity", "conflicting data from submitters", "association not found", "confers sensitivity",
    "no classification for the single variant", "low penetrance",
})  # fmt: skip
"""What ClinVar calls a variant (its data dictionary, germline classifications); other words in that place are not repeated."""
_SYMBOL = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,15}", re.ASCII)
"""A gene symbol as HGNC and its sisters for other species spell them."""
_TERMS = re.compile(r"[a-z0-9_]{1,60}(?:&[a-z0-9_]{1,60}){0,9}|[A-Za-z ]{1,30} variant", re.ASCII)
"""Consequences as Sequence Ontology terms."""


@dataclass(frozen=True)
class Variant:
    """One allele that a sample carries."""

    line: int
    name: str
    """`chr1:12345 A>G`."""
    rs: str
    kind: str
    zygosity: str
    genotype: str
    remarks: tuple[str, ...]


@dataclass
class _Sample:
    counts: Counter[str] = field(default_factory=Counter)
    first: list[Variant] = field(default_factory=list)


@dataclass(frozen=True)
class Header:
    """What the header says."""

    samples: tuple[str, ...]
    build: str
    csq: tuple[str, ...] = ()
    """Names of the parts of CSQ."""
    filters: frozenset[str] = frozenset()
    """Filters that it declares."""


def recognises(path: Path, head: bytes) -> bool:
    """Return whether the file begins as VCF does, unpacked where it is compressed."""
    if head.startswith(b"\x1f\x8b"):
        try:
            head = zlib.decompressobj(31).decompress(head, 64)
        except zlib.error:
            return False
    return head.startswith(b"##fileformat=VCFv4")


def read(path: Path, options: ReadOptions) -> FileRead:
    """Return the variants of every sample; a single sample takes the folder's patient, several are patients by their names.

    Raises:
        FormatError: the file is empty, truncated, not VCF, or a line is over the limit.
        InputError: it cannot be opened, or holds more than `RECORDS_LIMIT` records or `SAMPLES_LIMIT` samples.
    """
    refuse_empty(path)
    sha256 = file_sha256(path)
    header, samples, refused = _scan(path, lists=MOST_ITEMS + 1)
    found = []
    for name in header.samples or ("",):
        items = _items(path, sha256, header, name, samples[name])
        found.append(Found(name if len(header.samples) > 1 else None, items))
    skipped = tuple(Skipped(str(path), f"{count} × {reason}") for reason, count in refused.items())
    return FileRead(tuple(found), skipped)


def _items(path: Path, sha256: str, header: Header, name: str, sample: _Sample) -> tuple[Item, ...]:
    total = sum(count for key, count in sample.counts.items() if key.startswith("type: "))
    place = f"sample {header.samples.index(name) + 1}" if name else "sites"
    build = f"genome build as the file states it: {header.build}" if header.build else "the file states no genome build"
    summary = Item(
        id=item_id(sha256, place),
        modality=modality_of("vcf:variants", "modality:genome_variants"),
        code=Code(_SYSTEM, "variants", "genome variants"),
        source=Source(str(path), sha256, place),
        content=Content("text", partial(_table, path, name), f"{total} variants"),
        remarks=(build,),
    )
    if total > MOST_ITEMS:
        return (summary,)
    items = [summary]
    for number, variant in enumerate(sample.first, start=1):
        locator = f"{place}, line {variant.line}, variant {number}"
        words = ", ".join(part for part in (variant.zygosity, f"genotype {variant.genotype}" if variant.genotype else "") if part)
        items.append(
            Item(
                id=item_id(sha256, locator),
                modality=modality_of("vcf:variant", "modality:genome_variants"),
                code=Code(_SYSTEM, variant.rs or variant.name, " ".join(part for part in (variant.name, variant.rs) if part)),
                source=Source(str(path), sha256, locator),
                value=words or variant.kind,
                remarks=(*variant.remarks, build),
            )
        )
    return tuple(items)


def _table(path: Path, name: str) -> str:
    """Return the counts and the first `TABLE_ROWS` variants of one sample as a table of text."""
    _, samples, _ = _scan(path, lists=TABLE_ROWS, only=name)
    sample = samples[name]
    lines = [f"# {key}\t{count}" for key, count in sorted(sample.counts.items())]
    lines.append("variant\tid\ttype\tzygosity\tgenotype\tannotation")
    lines += ["\t".join((each.name, each.rs, each.kind, each.zygosity, each.genotype, "; ".join(each.remarks))) for each in sample.first]
    return "\n".join(lines)


def _scan(path: Path, *, lists: int, only: str | None = None) -> tuple[Header, dict[str, _Sample], Counter[str]]:
    """Return header, counts and the first variants of each sample in one pass, and what was refused."""
    lines = _lines(path)
    header = _header(path, lines)
    samples = {name: _Sample() for name in (header.samples or ("",))}
    refused: Counter[str] = Counter()
    for records, (number, line) in enumerate(lines):
        if records >= RECORDS_LIMIT:
            raise InputError(f"Cannot read VCF '{path.name}': it holds more than {RECORDS_LIMIT} records. Split it by chromosome.")
        try:
            _record(number, line, header, samples, lists)
        except FormatError as error:
            refused[str(error)] += 1
    return header, samples if only is None else {only: samples[only]}, refused


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield number and text of each line that is not blank."""
    try:
        with path.open("rb") as raw:
            is_packed = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if is_packed else path.open("rb") as stream:
            number = 0
            while line := stream.readline(LINE_LIMIT):
                number += 1
                if len(line) >= LINE_LIMIT:
                    raise FormatError(f"Cannot read VCF '{path.name}': line {number} is over {LINE_LIMIT} bytes. Split it by sample.")
                if text := line.decode("utf-8").strip("\r\n"):
                    yield number, text
    except UnicodeDecodeError as error:
        raise FormatError(f"Cannot read VCF '{path.name}': it is not UTF-8 ({error.reason}). Write it again.") from None
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise FormatError(f"Cannot read VCF '{path.name}': it is truncated or damaged. Copy it again.") from None
    except OSError as error:
        raise InputError(f"Cannot read VCF '{path.name}': {error.strerror}. Check that it may be read.") from error


def _header(path: Path, lines: Iterator[tuple[int, str]]) -> Header:
    build, csq, filters = "", (), set[str]()
    for _, line in lines:
        if found := re.match(r"##(?:reference|assembly)=(.+)", line):
            build = build or _build_of(found[1])
        if found := re.match(r"##contig=.*assembly=\"?([\w.-]+)", line):
            build = build or _build_of(found[1])
        if found := re.match(r"##FILTER=<ID=([\w.:+-]{1,60})[,>]", line, re.ASCII):
            filters.add(found[1])
        if found := re.match(r"##INFO=<ID=CSQ,.*Format: ([^\">]+)", line):
            csq = tuple(found[1].strip().split("|"))
        if line.startswith("#CHROM\t"):
            names = tuple(line.split("\t")[9:])
            if len(names) > SAMPLES_LIMIT or len(set(names)) != len(names) or not all(names):
                raise InputError(
                    f"Cannot read VCF '{path.name}': more than {SAMPLES_LIMIT} samples, or names that repeat. Split it by sample."
                )
            return Header(names, build, csq, frozenset(filters))
        if not line.startswith("##"):
            break
    raise FormatError(f"Cannot read VCF '{path.name}': it has no line '#CHROM'. Write it again.")


def _build_of(stated: str) -> str:
    """Return the build that a reference's name tells, without its path: `GRCh38`; else `stated, but not known`."""
    found = re.search(r"GRCh3[678](?:\.p\d+)?|hg(?:18|19|38)|b37|T2T-CHM13(?:v[\d.]+)?|NCBI3[67]", stated, re.IGNORECASE)
    return found[0] if found else "stated, but not known"


def _record(number: int, line: str, header: Header, samples: Mapping[str, _Sample], lists: int) -> None:
    """Count one record for each sample that carries one of its alleles.

    Raises:
        FormatError: the line has too few columns, or a position that is no number.
    """
    parts = line.split("\t")
    if len(parts) < 8 + (len(header.samples) > 0) + len(header.samples):
        raise FormatError("record with too few columns")
    chromosome, position, ids, ref, alt, _, filters, info = parts[:8]
    if not position.isdecimal() or not ref:
        raise FormatError("record whose position is not a number")
    alts = [] if alt == "." else alt.split(",")
    remarks = _annotations(filters, info, header)
    rs = next((each for each in ids.split(";") if re.fullmatch(r"rs\d+", each)), "")
    at = parts[8].split(":").index("GT") if len(parts) > 8 and "GT" in parts[8].split(":") else None
    for column, name in enumerate(header.samples or ("",), start=9):
        fields = parts[column].split(":") if header.samples else []
        genotype = fields[at] if at is not None and at < len(fields) else ""
        for allele, zygosity in _carried(genotype, len(alts), has_samples=bool(header.samples)):
            kind = kind_of(ref, alts[allele - 1])
            sample = samples[name]
            sample.counts[f"type: {kind}"] += 1
            sample.counts[f"zygosity: {zygosity or 'not stated'}"] += 1
            if kind == "single-nucleotide":
                pair = {ref.upper(), alts[allele - 1].upper()}
                sample.counts["transitions" if pair in (_PURINES, _PYRIMIDINES) else "transversions"] += 1
            if len(sample.first) < lists:
                variant = f"{chromosome}:{position} {ref[:40]}>{alts[allele - 1][:40]}"
                sample.first.append(Variant(number, variant, rs, kind, zygosity, genotype, remarks))


def _carried(genotype: str, alleles: int, *, has_samples: bool) -> list[tuple[int, str]]:
    """Return the alternative alleles that a sample carries, each with its zygosity in words; all of them in a file without samples."""
    if not has_samples:
        return [(number, "") for number in range(1, alleles + 1)]
    called = re.split(r"[/|]", genotype)
    if not genotype or not all(each == "." or each.isdecimal() for each in called):
        return []
    numbers = [int(each) for each in called if each != "."]
    if any(number > alleles for number in numbers):
        raise FormatError("record whose genotype names an allele that is not there")
    carried = sorted({number for number in numbers if number})
    if len(called) == 1:
        words = "hemizygous or haploid"
    elif len(numbers) < len(called):
        words = "partly called"
    else:
        words = "homozygous" if len(set(numbers)) == 1 else "heterozygous"
    return [(number, words) for number in carried]


def kind_of(ref: str, alt: str) -> str:
    """Return the type of a variant by its alleles.

    Example:
        >>> kind_of("A", "G"), kind_of("A", "AT"), kind_of("AT", "A"), kind_of("AT", "GC"), kind_of("N", "<DEL>")
        ('single-nucleotide', 'insertion', 'deletion', 'multi-nucleotide', 'structural')
    """
    if not re.fullmatch(r"[ACGTNacgtn]+", alt) or not re.fullmatch(r"[ACGTNacgtn]+", ref):
        return "other" if alt == "*" else "structural"
    if len(ref) == len(alt):
        return "single-nucleotide" if len(ref) == 1 else "multi-nucleotide"
    return "insertion" if len(alt) > len(ref) else "deletion"


def _annotations(filters: str, info: str, header: Header) -> tuple[str, ...]:
    """Return filter, gene, consequence and significance as the file states them."""
    keyed = dict(part.partition("=")[::2] for part in info.split(";"))
    stated = [one for one in filters.split(";") if one not in ("PASS", ".", "", "0")]
    known = [one for one in stated if one in header.filters]
    remarks = [f"filter: {';'.join(known)}"] if known else []
    if len(stated) > len(known):
        remarks.append("it did not pass a filter that the header does not declare")
    gene = effect = ""
    if "ANN" in keyed:
        parts = keyed["ANN"].split(",")[0].split("|")
        gene, effect = (parts[3] if len(parts) > 3 else ""), (parts[1] if len(parts) > 1 else "")
    elif "CSQ" in keyed and header.csq:
        named = dict(zip(header.csq, keyed["CSQ"].split(",")[0].split("|"), strict=False))
        gene, effect = named.get("SYMBOL", ""), named.get("Consequence", "")
    elif "GENEINFO" in keyed:
        gene = keyed["GENEINFO"].split(":")[0]
    parts = re.split(r"[|,]", keyed.get("CLNSIG", "").replace("_", " "))
    significance = ", ".join(part.strip() for part in parts if part.strip().lower() in SIGNIFICANCE)
    gene, effect = gene if _SYMBOL.fullmatch(gene) else "", effect if _TERMS.fullmatch(effect) else ""
    for title, words in (("gene", gene), ("consequence", effect), ("significance", significance)):
        if words:
            remarks.append(f"{title} as the file annotates it, not assessed here: {words}")
    return tuple(remarks)


READER = Reader(name="vcf", title="VCF variants", recognises=recognises, read=read, priority=20)
