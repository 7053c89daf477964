"""``llm-router train``: the embedded classifier's weights, rebuilt from text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from llm_router.cli import output
from llm_router.cli.context import Options, pass_options
from llm_router.errors import InvalidRequest, MissingExtra

if TYPE_CHECKING:
    from llm_router.learn.rebuild import Run

MAX_BYTES = 20_000_000


@click.command()
@click.option(
    "--text",
    type=click.Path(path_type=Path),
    default=Path("training"),
    show_default=True,
    metavar="FOLDER",
    help="The training text.",
)
@click.option(
    "--cases",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Labelled cases of others to learn from as well, in the form that eval reads.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("encoder.npz"),
    show_default=True,
    metavar="FILE",
    help="Where the weights go; the model card is written beside them.",
)
@click.option(
    "--unseen",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="With --cases, write the answer to each case by weights that had not seen its source.",
)
@click.option("--check", is_flag=True, help="Write nothing; compare with the weights that are in use.")
@click.option("--json", "as_json", is_flag=True, help="The result as JSON.")
@pass_options
def train(
    options: Options,
    /,
    *,
    text: Path,
    cases: Path | None,
    out: Path,
    unseen: Path | None,
    check: bool,
    as_json: bool,
) -> None:
    """Rebuilds the embedded classifier from text: weights, calibration and model card.

    Use the result with the setting classify.weights. Exit code 1 where --check finds a difference.
    """
    _needs_scipy()
    from llm_router.assembly import encoder_of
    from llm_router.learn import rebuild
    from llm_router.learn.corpus import CorpusError

    if unseen is not None and cases is None:
        raise click.UsageError("--unseen needs --cases: it is about their sources")
    if check:
        _same_data(options, text, cases)
    try:
        run = rebuild.rebuild(text, cases, options.fleet(), tell=output.say)
    except CorpusError as error:
        what, _, hint = str(error).partition("\nhint: ")
        raise InvalidRequest(f"cannot train from {text}", why=what, hint=hint or "mend that line") from error
    result: dict[str, object] = {"version": run.weights.version, "size_bytes": len(run.data)}
    apart: list[str] = []
    if check:
        apart = rebuild.differences(run, encoder_of(options.configuration().settings))
        result |= {"texts": len(run.examples), "different": len(apart)}
    else:
        result |= {"weights": str(_written(run, out)), "card": str(out.with_suffix(".card.md"))}
    if unseen is not None:
        _save(unseen, _unseen_lines(run))
    _told(run, result, as_json=as_json)
    if apart:
        raise click.exceptions.Exit(1)


def _unseen_lines(run: Run) -> bytes:
    import msgspec

    lines = (
        {
            "id": one.case.id,
            "category": one.category,
            "confidence": round(one.confidence, 4),
            "probabilities": {name: round(p, 6) for name, p in one.probabilities.items()},
        }
        for one in run.unseen
    )
    return b"".join(msgspec.json.encode(line) + b"\n" for line in lines)


def _same_data(options: Options, text: Path, cases: Path | None) -> None:
    """Raises InvalidRequest where the weights in use were made from other data: then they must differ."""
    from llm_router.assembly import encoder_of
    from llm_router.learn.rebuild import digest

    made_from = encoder_of(options.configuration().settings).made_from
    for folder, made in zip((text, cases), made_from, strict=True):
        if (folder is not None and digest(folder) == made) or (folder is None and not made):
            continue
        what = "the training text" if folder is text else "the cases"
        raise InvalidRequest(
            "cannot compare with the weights in use",
            why=f"{what} they were made from ({made or 'none'}) are not what you name",
            hint="name the same folders, or train anew",
        )


def _needs_scipy() -> None:
    try:
        import scipy  # noqa: F401
    except ImportError as error:
        raise MissingExtra.needed("train", "training the classifier", "scipy") from error


def _written(run: Run, out: Path) -> Path:
    """Writes weights and card; each whole or not at all."""
    if len(run.data) > MAX_BYTES:
        raise InvalidRequest(
            "the weights were not written",
            why=f"they take {len(run.data) / 1e6:.1f} MB, at most {MAX_BYTES / 1e6:.0f} MB are kept",
            hint="train on fewer different texts",
        )
    _save(out, run.data)
    _save(out.with_suffix(".card.md"), run.card.encode())
    return out


def _save(path: Path, data: bytes) -> None:
    from llm_router.drawing import write_whole

    write_whole(path, data)


def _told(run: Run, result: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        output.json_data(result)
        return
    trained = run.trained
    output.say(
        f"version {result['version']}, {len(run.data) / 1e6:.2f} MB, {len(run.examples):,} texts; on what "
        f"the fits had not seen: {trained.acceptable:.3f} acceptable, calibration error "
        f"{trained.calibration_error:.3f}"
    )
    if "different" in result:
        output.say(f"{result['different']} texts are not answered as by the weights in use")
    else:
        output.data(str(result["weights"]))
