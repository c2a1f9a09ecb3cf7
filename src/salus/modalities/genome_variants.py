"""Variants of a genome, from VCF: shown and counted by rule; no variant is interpreted.

Claims what the VCF reader gives. Measures counts by type, transitions to transversions and heterozygous to homozygous; says nothing of
disease.
"""

from __future__ import annotations

from collections.abc import Sequence

from salus.encode.modality import Measurement, Modality
from salus.record.patient import Code, Content, Item, Source, item_id

TABLE = (
    "# transitions\t4\n# transversions\t2\n# type: insertion\t1\n# type: single-nucleotide\t6\n# zygosity: heterozygous\t4\n"
    "# zygosity: homozygous\t2\n# zygosity: not stated\t1\nvariant\tid\ttype\tzygosity\tgenotype\tannotation"
)


def measure(item: Item) -> Sequence[Measurement]:
    """Return the counts by type and the two ratios of one sample; loads its table, none for a single variant."""
    loaded = item.content.load() if item.content else None
    if not isinstance(loaded, str):
        return ()
    rows = (line[2:].rpartition("\t") for line in loaded.splitlines() if line.startswith("# "))
    counts = {name: int(count) for name, _, count in rows}
    found = [
        Measurement(f"{name.removeprefix('type: ')} variants", float(count), "1", "alleles of the sample, by the lengths of REF and ALT")
        for name, count in counts.items()
        if name.startswith("type: ")
    ]
    ratios = (
        ("ratio of transitions to transversions", "transitions", "transversions", "A<>G and C<>T over all other exchanges of one base"),
        ("ratio of heterozygous to homozygous", "zygosity: heterozygous", "zygosity: homozygous", "by the genotypes (GT) of the sample"),
    )
    for name, above, below, rule in ratios:
        if counts.get(below):
            found.append(Measurement(name, counts.get(above, 0) / counts[below], "1", rule))
    return tuple(found)


def example() -> tuple[Item, ...]:
    """Return a made-up sample of seven variants.

    Example:
        >>> [found.value for found in measure(example()[0])]
        [1.0, 6.0, 2.0, 2.0]
    """
    source = Source("example.vcf", "7c" * 32, "sample 1")
    content = Content("text", lambda: TABLE, "7 variants")
    code = Code("vcf", "variants", "genome variants")
    return (Item(item_id(source.sha256, source.locator), "genome_variants", code, source, content=content),)


MODALITY = Modality(
    name="genome_variants",
    title="genome variants",
    claims=("vcf:variants", "vcf:variant", "modality:genome_variants"),
    example=example,
    measure=measure,
)
