"""VCF made here by the standard's rules; what stands in a record is compared with pysam (htslib), independently."""

from __future__ import annotations

import contextlib
import gzip

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salus.errors import FormatError, InputError
from salus.modalities.genome_variants import measure
from salus.record.read.reader import HEAD_BYTES, ReadOptions
from salus.record.read.vcf import READER

HEAD = (
    "##fileformat=VCFv4.2\n##reference=file:///secret/place/GRCh38.p13.fa\n##contig=<ID=chr1,length=248956422>\n"
    '##FILTER=<ID=q10,Description="x">\n##FORMAT=<ID=GT,Number=1,Type=String,Description="g">\n'
    '##INFO=<ID=CLNSIG,Number=.,Type=String,Description="c">\n##INFO=<ID=ANN,Number=.,Type=String,Description="a">\n'
    "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t"
)
ROWS = (
    "chr1\t100\trs12\tA\tG\t50\tPASS\tCLNSIG=Likely_pathogenic;ANN=G|missense_variant|MODERATE|BRCA1|x\tGT\t0/1\t1/1\n"
    "chr1\t200\t.\tA\tT\t50\tq10\t.\tGT\t1|1\t0/0\n"
    "chr1\t300\t.\tAT\tA,ATT\t50\tPASS\t.\tGT\t1/2\t./.\n"
    "chr1\t400\t.\tC\tT\t50\tPASS\t.\tGT\t0/1\t1\n"
)


def write(folder, text, name="a.vcf"):
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    return path


@pytest.mark.parametrize("name", ["a.vcf", "a.vcf.gz"])
def test_samples_are_patients_and_variants_are_items(tmp_path, name):
    path = write(tmp_path, f"{HEAD}S1\tS2\n{ROWS}", name)
    assert READER.recognises(path, path.read_bytes()[:HEAD_BYTES])
    result = READER.read(path, ReadOptions())
    first, second = result.found
    assert (first.subject_id, second.subject_id) == ("S1", "S2") and result.skipped == ()
    summary, brca, *rest = first.items
    assert (summary.content.summary, summary.modality) == ("5 variants", "genome_variants")
    assert (brca.code.code, brca.code.display, brca.value) == ("rs12", "chr1:100 A>G rs12", "heterozygous, genotype 0/1")
    assert brca.remarks == (
        "gene as the file annotates it, not assessed here: BRCA1",
        "consequence as the file annotates it, not assessed here: missense_variant",
        "significance as the file annotates it, not assessed here: Likely pathogenic",
        "genome build as the file states it: GRCh38.p13",
    )
    assert [item.value.split(",")[0] for item in rest] == ["homozygous", "heterozygous", "heterozygous", "heterozygous"]
    assert rest[0].remarks[0] == "filter: q10" and "secret" not in repr(result)
    assert [item.value for item in second.items[1:]] == ["homozygous, genotype 1/1", "hemizygous or haploid, genotype 1"]
    measured = {found.name: found.value for found in measure(summary)}
    assert measured == {
        "single-nucleotide variants": 3, "insertion variants": 1, "deletion variants": 1,
        "ratio of transitions to transversions": 2, "ratio of heterozygous to homozygous": 4,
    }  # fmt: skip


def test_many_variants_are_one_item_that_loads_when_needed(tmp_path):
    rows = "".join(f"chr1\t{n}\t.\tA\tG\t.\tPASS\t.\tGT\t0/1\n" for n in range(1, 1001))
    (found,) = READER.read(write(tmp_path, f"{HEAD}S1\n{rows}"), ReadOptions()).found
    (summary,) = found.items
    assert found.subject_id is None and summary.content.summary == "1000 variants"
    assert len([line for line in summary.content.load().splitlines() if line.startswith("chr1:")]) == 1000


def test_records_agree_with_htslib(tmp_path):
    pysam = pytest.importorskip("pysam")
    path = write(tmp_path, f"{HEAD}S1\tS2\n{ROWS}")
    found = {each.subject_id: each.items[1:] for each in READER.read(path, ReadOptions()).found}
    with pysam.VariantFile(str(path)) as file:
        expected = {name: [] for name in file.header.samples}
        for record in file:
            for name, call in record.samples.items():
                for allele in sorted({number for number in call["GT"] if number}):
                    expected[name].append(f"{record.chrom}:{record.pos} {record.ref}>{record.alleles[allele]}")
    assert {name: [item.code.display.split(" rs")[0] for item in items] for name, items in found.items()} == expected


def test_broken_records_are_counted(tmp_path):
    rows = "chr1\tx\t.\tA\tG\t.\t.\t.\tGT\t0/1\nchr1\t5\nchr1\t5\t.\tA\tG\t.\t.\t.\tGT\t0/7\n"
    result = READER.read(write(tmp_path, f"{HEAD}S1\n{rows}"), ReadOptions())
    assert sorted(each.reason for each in result.skipped) == [
        "1 × record whose genotype names an allele that is not there", "1 × record whose position is not a number",
        "1 × record with too few columns",
    ]  # fmt: skip


def test_truncated_and_headless_files(tmp_path):
    path = write(tmp_path, f"{HEAD}S1\n{ROWS}", "a.vcf.gz")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(FormatError, match="truncated or damaged"):
        READER.read(path, ReadOptions())
    with pytest.raises(FormatError, match="no line '#CHROM'"):
        READER.read(write(tmp_path, "##fileformat=VCFv4.2\nchr1\n"), ReadOptions())


@settings(max_examples=80)
@given(st.binary(max_size=60), st.integers(21, 900), st.integers(0, 40), st.booleans())
def test_whatever_the_bytes_only_typed_errors(tmp_path_factory, noise, at, cut, packed):
    raw = f"{HEAD}S1\tS2\n{ROWS}".encode()
    raw = gzip.compress(raw) if packed else raw
    path = tmp_path_factory.mktemp("noise") / "a.vcf"
    path.write_bytes(raw[:at] + noise + raw[at + cut :])
    with contextlib.suppress(InputError):
        READER.read(path, ReadOptions())


def test_what_is_no_word_of_clinvar_is_not_repeated(tmp_path):
    text = (HEAD + "a\tb\n" + ROWS).replace("Likely_pathogenic", "Likely_pathogenic|Mrs_Quimby")
    found = READER.read(write(tmp_path, text), ReadOptions())
    remarks = " ".join(remark for one in found.found for item in one.items for remark in item.remarks)
    assert "significance as the file annotates it, not assessed here: Likely pathogenic" in remarks and "Quimby" not in remarks
