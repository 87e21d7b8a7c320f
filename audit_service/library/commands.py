"""``audit-service library``: what is there, what it rests on, and a copy to adapt."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from audit_service.domain.datasheets import Datasheet, Standing, Words
from audit_service.errors import Conflict
from audit_service.files import write_whole
from audit_service.library import catalogue

app = typer.Typer(help="Ready behaviors with sourced words, to copy and adapt.", no_args_is_help=True)
out = Console()

_Name = Annotated[str, typer.Argument(help="As `audit-service library list` shows it.")]


@app.command("list")
def list_entries() -> None:
    """List the behaviors."""
    table = Table("Name", "Title", "Signal", "Prompts", box=None)
    for entry in catalogue.entries():
        sheet = entry.datasheet
        table.add_row(entry.name, "\n".join(sheet.titles.values()), sheet.signal, sheet.language)
    out.print(table)


@app.command()
def show(name: _Name) -> None:
    """Show a behavior's datasheet: what the words are, what they rest on, and what they do not show."""
    for line in _datasheet(catalogue.entry(name).datasheet):
        out.print(line, highlight=False)


@app.command()
def copy(
    name: _Name,
    to: Annotated[Path | None, typer.Option("--to", help="The new file; NAME.yaml in this folder otherwise.")] = None,
) -> None:
    """Copy a behavior as an audit file: change its model, prompts and threshold, then `audit-service run` it."""
    entry = catalogue.entry(name)
    target = to or Path(f"{name}.yaml")
    if target.exists():
        raise Conflict(f"{target} is there already.", remedy="Choose another file with --to, or remove it.")
    write_whole(target, entry.file.encode())
    out.print(f"{target} is yours to change. `audit-service lint {target}` checks it.", highlight=False, soft_wrap=True)


def _datasheet(sheet: Datasheet) -> list[str]:
    return [
        *(f"[bold]{title}[/]" for title in sheet.titles.values()),
        f"Cues: {sheet.signal}. Prompts: {sheet.language}.",
        "",
        sheet.purpose,
        "",
        "[bold]What the words rest on[/]",
        *(line for words in sheet.words for line in _words(words)),
        "",
        "[bold]Controls[/]",
        f"  {sheet.neutral}",
        "",
        "[bold]Limits[/]",
        *(f"  - {limit}" for limit in sheet.limits),
    ]


def _words(words: Words) -> Iterator[str]:
    yield f"  {words.what}"
    yield f"    → {words.rests_on}"
    yield f"    [dim]{_STANDING[words.standing]}[/] {words.seen or ''}".rstrip()
    if words.figures:
        yield f"    {words.unit}: {', '.join(f'{cue} {figure:,g}' for cue, figure in words.figures.items())}"


_STANDING = {
    Standing.CONFIRMED: "Looked up:",
    Standing.UNCONFIRMED: "Not looked up.",
    Standing.OWN: "The author's own.",
}
