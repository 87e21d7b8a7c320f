"""``audit-service import``: a file of a published format becomes a pair file, and an audit that goes with it."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from audit_service.domain.behaviors import FormKind
from audit_service.errors import Conflict
from audit_service.files import write_whole
from audit_service.importing.auditing import audit_text
from audit_service.importing.bbq import Bbq, Polarity
from audit_service.importing.converting import convert
from audit_service.importing.crows_pairs import CrowsPairs
from audit_service.importing.discrim_eval import DiscrimEval, Varied
from audit_service.importing.formats import Format, Wrapping
from audit_service.importing.table import Table
from audit_service.importing.winogender import Winogender

app = typer.Typer(
    help="Make pairs from a published data set or a table that you have; none is shipped.", no_args_is_help=True
)
out = Console()

# Typer has no options that several commands share, so each command names these, and gives them their defaults.
File = Annotated[Path, typer.Argument(help="The file as its authors published it.")]
Out = Annotated[Path | None, typer.Option("--out", help="The pair file; FILE.pairs.jsonl beside it otherwise.")]
Audit = Annotated[Path | None, typer.Option("--audit", help="Also write an audit file for these pairs, to fill in.")]
Chat = Annotated[bool, typer.Option("--chat", help="Send prompts through the model's chat template.")]
Suffix = Annotated[str, typer.Option("--suffix", help="Text after every prompt, such as ' Answer:'.")]
Reference = Annotated[str | None, typer.Option("--reference", help="The group that the others are compared with.")]


@app.command("discrim-eval")
def discrim_eval(
    file: File,
    *,
    attribute: Annotated[Varied, typer.Option(help="What is varied; the two others are held equal.")] = Varied.RACE,
    reference: Reference = None,
    pair_file: Out = None,
    audit: Audit = None,
    chat: Chat = False,
    suffix: Suffix = "",
) -> None:
    """Discrim-eval (Tamkin et al. 2023): explicit.jsonl or implicit.jsonl."""
    _convert(file, DiscrimEval(attribute, reference), _wrapping(chat, suffix), pair_file, audit)


@app.command()
def bbq(
    file: File,
    *,
    polarity: Annotated[
        Polarity, typer.Option(help="Questions where being the answer is better (nonneg) or worse (neg).")
    ] = Polarity.POSITIVE,
    pair_file: Out = None,
    audit: Audit = None,
    chat: Chat = False,
    suffix: Suffix = "",
) -> None:
    """BBQ (Parrish et al. 2022): one of the files data/*.jsonl."""
    _convert(file, Bbq(polarity), _wrapping(chat, suffix), pair_file, audit)


@app.command("crows-pairs")
def crows_pairs(
    file: File,
    *,
    bias_type: Annotated[str | None, typer.Option(help="Only pairs of this type, such as race-color.")] = None,
    pair_file: Out = None,
    audit: Audit = None,
    chat: Chat = False,
    suffix: Suffix = "",
) -> None:
    """CrowS-Pairs (Nangia et al. 2020): crows_pairs_anonymized.csv."""
    _convert(file, CrowsPairs(bias_type), _wrapping(chat, suffix), pair_file, audit)


@app.command()
def winogender(
    file: File,
    *,
    neutral: Annotated[bool, typer.Option("--neutral", help="Compare neutral pronouns too.")] = False,
    pair_file: Out = None,
    audit: Audit = None,
    chat: Chat = False,
    suffix: Suffix = "",
) -> None:
    """Winogender schemas (Rudinger et al. 2018): all_sentences.tsv."""
    _convert(file, Winogender(neutral), _wrapping(chat, suffix), pair_file, audit)


@app.command("csv")
def table(
    file: File,
    *,
    attribute: Annotated[str, typer.Option(help="Name of the attribute that the groups belong to.")],
    reference: Annotated[str, typer.Option(help="The group that the others are compared with.")],
    prompt: Annotated[str, typer.Option(help="Column of the prompt.")] = "prompt",
    group: Annotated[str, typer.Option(help="Column of the group.")] = "group",
    case: Annotated[str, typer.Option(help="Column that is equal in prompts to be compared.")] = "case",
    pair_file: Out = None,
    audit: Audit = None,
    chat: Chat = False,
    suffix: Suffix = "",
) -> None:
    """A table with a header and one prompt a row."""
    made_as = Table(attribute, reference, prompt_column=prompt, group_column=group, case_column=case)
    _convert(file, made_as, _wrapping(chat, suffix), pair_file, audit)


def _wrapping(chat: bool, suffix: str) -> Wrapping:
    return Wrapping(FormKind.CHAT if chat else FormKind.TEXT, suffix)


def _convert(file: Path, made_as: Format, wrapping: Wrapping, pair_file: Path | None, audit: Path | None) -> None:
    target = pair_file or file.with_suffix(".pairs.jsonl")
    if taken := [path for path in (target, audit) if path is not None and path.exists()]:
        raise Conflict(f"{taken[0]} is there already.", remedy="Name another file, or remove it.")
    made = convert(file, made_as, wrapping, target=target)
    _say(f"{target}: {made.pairs} pairs of {made.provenance.rows} rows")
    for why, count in made.provenance.left_out.items():
        _say(f"  left out: {count} ({why})")
    if audit is not None:
        write_whole(audit, audit_text(made, made_as, wrapping, pair_file=target, beside=audit).encode())
        _say(f"{audit}: fill in owner, threshold and model, then `audit-service lint {audit}`")


def _say(line: str) -> None:
    out.print(line, highlight=False, markup=False, soft_wrap=True)
