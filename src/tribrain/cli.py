"""The command line: one thin command a verb."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

from tribrain.errors import InputError, InputWarning

app = typer.Typer(
    name="tribrain",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
models_app = typer.Typer(help="List models, look into one, convert one.", no_args_is_help=False)
app.add_typer(models_app, name="models")


@app.callback(invoke_without_command=True)
def about(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Predict the response of the human brain to films, sounds and texts."""
    if version:
        import tribrain

        typer.echo(tribrain.__version__)


@app.command()
def predict(
    stimulus: Annotated[Path, typer.Argument(help="Video, sound, picture or text (.txt).")],
    model: Annotated[
        str, typer.Option(help="textbook, a folder, or a hub name (NAME@REVISION).")
    ] = "textbook",
    out: Annotated[Path | None, typer.Option(help="Folder to write. [NAME_tribrain]")] = None,
    transcript: Annotated[Path | None, typer.Option(help="Word times (.tsv, .csv).")] = None,
    text: Annotated[Path | None, typer.Option(help="Running text with punctuation.")] = None,
    modalities: Annotated[
        str | None, typer.Option(help="Some of text,audio,video. [all there are]")
    ] = None,
    subject: Annotated[
        str | None, typer.Option(help="Someone the model was trained on. [a person never seen]")
    ] = None,
    overlap: Annotated[float, typer.Option(help="Seconds that windows share.")] = 0.0,
    backbones: Annotated[
        Path | None, typer.Option(help="Folder with a Hugging Face folder a backbone.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    duration: Annotated[float, typer.Option(help="Seconds that a picture is shown.")] = 20.0,
    language: Annotated[str, typer.Option(help="Language of the words.")] = "en",
    format: Annotated[str, typer.Option(help="Some of gifti,npz; Zarr is always there.")] = "gifti",
    overwrite: Annotated[bool, typer.Option(help="Replace another stimulus's response.")] = False,
) -> None:
    """Predict the brain's response to a stimulus."""
    from tribrain.viewing.predict_files import predict_to_folder
    from tribrain.viewing.progress import progress_lines

    with progress_lines() as progress:
        report = predict_to_folder(
            stimulus,
            model=model,
            out=out,
            transcript=transcript,
            text=text,
            modalities=_parts(modalities),
            subject=subject,
            overlap=overlap,
            backbones=backbones,
            device=device,
            duration=duration,
            language=language,
            formats=_parts(format) or (),
            overwrite=overwrite,
            progress=progress,
        )
    typer.echo(f"written to {report.parent}; open {report} to look")


@models_app.callback(invoke_without_command=True)
def models(context: typer.Context) -> None:
    """List the models that have a name."""
    from tribrain.encoder.models import NON_COMMERCIAL, PUBLISHED
    from tribrain.encoder.textbook import LABEL

    if context.invoked_subcommand is None:
        typer.echo(f"textbook  (built in) {LABEL}")
        for name, what in PUBLISHED.items():
            typer.echo(f"{name}  {what}; {NON_COMMERCIAL}")


@models_app.command()
def info(model: str) -> None:
    """Print what a model is, as JSON."""
    import json

    from tribrain.encoder.models import load_model

    typer.echo(json.dumps(load_model(model, device="cpu").describe(), indent=2))


@models_app.command()
def convert(model: str, out: Annotated[Path, typer.Argument(help="Folder to write.")]) -> None:
    """Write a published checkpoint in tribrain's own format (safetensors and JSON)."""
    from tribrain.encoder.models import convert_model

    convert_model(model, out)
    typer.echo(f"written to {out}")


def _parts(listed: str | None) -> tuple[str, ...] | None:
    if listed is None:
        return None
    return tuple(part.strip() for part in listed.split(",") if part.strip())


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: object = None,
    line: str | None = None,
) -> None:
    if issubclass(category, InputWarning):
        typer.echo(f"note: {message}", err=True)


def main() -> None:
    """Run the command line; see the exit codes in the documentation."""
    warnings.showwarning = _show_warning
    warnings.simplefilter("always", InputWarning)
    try:
        code = app(standalone_mode=False)  # typer gives the codes of Exit and of Ctrl-C back
    except InputError as error:
        typer.echo(f"tribrain: {error}", err=True)
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except Exception as error:
        show = getattr(error, "show", None)  # wrong options and arguments, from the parser
        if show is None:
            typer.echo(f"tribrain: {type(error).__name__}: {error}", err=True)
            sys.exit(1)
        show()
        sys.exit(2)
    if code == 130:
        typer.echo("tribrain: stopped", err=True)
    sys.exit(code or 0)
