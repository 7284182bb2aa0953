"""The command line: one thin command a verb."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

from tribrain.cli_adapt import adapt
from tribrain.cli_ensemble import ensemble
from tribrain.cli_evaluate import evaluate
from tribrain.cli_options import Backbones, CacheFolder, Device, NoCache, chosen_cache
from tribrain.cli_quickstart import quickstart
from tribrain.cli_study import study_app
from tribrain.cli_train import train
from tribrain.errors import InputError, InputWarning

app = typer.Typer(
    name="tribrain",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
models_app = typer.Typer(help="List models, look into one, convert one.", no_args_is_help=False)
app.add_typer(models_app, name="models")
cache_app = typer.Typer(help="Look at the features that are kept, check them, make room.")
app.add_typer(cache_app, name="cache", no_args_is_help=True)
app.add_typer(study_app, name="study", no_args_is_help=True)
app.command()(quickstart)
app.command()(train)
app.command()(adapt)
app.command()(ensemble)
app.command()(evaluate)

Precision = Annotated[str, typer.Option(help="Of the backbones: auto, fp32, bf16 or fp16.")]
ExactContext = Annotated[
    bool, typer.Option(help="Long texts: never more context than published; slow.")
]
Transcript = Annotated[
    Path | None, typer.Option(help="Word times: .tsv .csv .srt .vtt .TextGrid .json .ctm")
]
RunningText = Annotated[
    Path | None, typer.Option(help="Running text with punctuation; aligned without a transcript.")
]
Language = Annotated[
    str | None, typer.Option(help="Of the words: en, de, ... (default: heard, else en)")
]
AudioTrack = Annotated[str | None, typer.Option(help="Sound track, by number or language.")]
Subtitles = Annotated[
    str | None, typer.Option(help="Subtitle track to read: its number or language, or auto.")
]
Recogniser = Annotated[
    str,
    typer.Option(help="auto, none, pocketsphinx, faster-whisper:MODEL or transformers:FOLDER."),
]
Aligner = Annotated[str, typer.Option(help="auto, none, pocketsphinx or ctc:FOLDER.")]
Sentences = Annotated[bool, typer.Option(help="Tell sentences by the pauses between words.")]
Pace = Annotated[
    str, typer.Option(help="Of a text: speaking, reading:WORDS_A_MINUTE or rsvp:MILLISECONDS.")
]
Atlas = Annotated[
    str, typer.Option(help="An atlas by name, file or folder (names: regions --atlas list).")
]
Speak = Annotated[
    str | None, typer.Option(help="Say a text aloud: espeak-ng, or a folder with a VITS model.")
]


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
    stimulus: Annotated[
        Path,
        typer.Argument(
            help="Video, sound, text (.txt) or picture; a folder of pictures, or a design (.tsv)."
        ),
    ],
    model: Annotated[
        str, typer.Option(help="textbook, a folder, or a hub name (NAME@REVISION).")
    ] = "textbook",
    out: Annotated[
        Path | None, typer.Option(help="Folder to write. (default: NAME_tribrain)")
    ] = None,
    transcript: Transcript = None,
    text: RunningText = None,
    modalities: Annotated[
        str | None, typer.Option(help="Some of text,audio,video. (default: all there are)")
    ] = None,
    subject: Annotated[
        str | None,
        typer.Option(help="Someone it was trained on. (default: a person never seen)"),
    ] = None,
    overlap: Annotated[float, typer.Option(help="Seconds that windows share.")] = 0.0,
    backbones: Backbones = None,
    device: Device = "auto",
    precision: Precision = "auto",
    exact_context: ExactContext = False,
    cache: CacheFolder = None,
    no_cache: NoCache = False,
    duration: Annotated[float, typer.Option(help="Seconds that a picture is shown.")] = 20.0,
    blank: Annotated[float, typer.Option(help="Seconds between the pictures of a folder.")] = 0.0,
    language: Language = None,
    audio_track: AudioTrack = None,
    subtitles: Subtitles = None,
    recogniser: Recogniser = "auto",
    aligner: Aligner = "auto",
    sentences: Sentences = False,
    pace: Pace = "speaking",
    speak: Speak = None,
    format: Annotated[
        str, typer.Option(help="Some of gifti,cifti,nifti,mgh,npz; Zarr is always there.")
    ] = "gifti",
    atlas: Atlas = "textbook",
    mask: Annotated[
        Path | None, typer.Option(help="Where a subcortical model's voxels lie (.nii.gz).")
    ] = None,
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
            precision=precision,
            exact_context=exact_context,
            cache=chosen_cache(cache, no_cache),
            duration=duration,
            language=language,
            heard={
                "blank": blank,
                "audio_track": _number(audio_track),
                "subtitles": subtitles,
                "recogniser": recogniser,
                "aligner": aligner,
                "sentences": sentences,
                "pace": pace,
                "speak": speak,
            },
            formats=_parts(format) or (),
            atlas=atlas,
            mask=mask,
            overwrite=overwrite,
            progress=progress,
        )
    typer.echo(f"written to {report.parent}; open {report} to look")


@app.command()
def words(
    stimulus: Annotated[Path, typer.Argument(help="Video, sound or text (.txt).")],
    out: Annotated[
        Path | None, typer.Option(help="File to write. (default: NAME_words.tsv)")
    ] = None,
    transcript: Transcript = None,
    text: RunningText = None,
    language: Language = None,
    audio_track: AudioTrack = None,
    subtitles: Subtitles = None,
    recogniser: Recogniser = "auto",
    aligner: Aligner = "auto",
    pace: Pace = "speaking",
    speak: Speak = None,
    device: Device = "auto",
) -> None:
    """Find the words and their times; correct the table by hand and give it to --transcript."""
    from collections import Counter

    from tribrain.viewing.predict_files import words_to_file
    from tribrain.viewing.progress import progress_lines

    with progress_lines() as progress:
        written, found = words_to_file(
            stimulus,
            out,
            transcript=transcript,
            text=text,
            language=language,
            audio_track=_number(audio_track),
            subtitles=subtitles,
            recogniser=recogniser,
            aligner=aligner,
            pace=pace,
            speak=speak,
            device=device,
            progress=progress,
        )
    sources = Counter(word.source for word in found.words)
    told = ", ".join(f"{count} {source}" for source, count in sources.items())
    typer.echo(f"{len(found.words)} words ({told}) written to {written}")


@app.command()
def features(
    stimuli: Annotated[
        list[Path], typer.Argument(help="Files, folders, lists (.tsv, .csv) of stimuli.")
    ],
    recipe: Annotated[
        str, typer.Option(help="lite, tribev2, tribev2-mini, debug, or a file (.toml).")
    ] = "lite",
    out: Annotated[
        Path | None, typer.Option(help="Folder to write. (default: only kept in cache)")
    ] = None,
    format: Annotated[str, typer.Option(help="npz or zarr.")] = "npz",
    transcript: Transcript = None,
    text: RunningText = None,
    modalities: Annotated[
        str | None, typer.Option(help="Some of text,audio,video. (default: all there are)")
    ] = None,
    backbones: Backbones = None,
    device: Device = "auto",
    precision: Precision = "auto",
    exact_context: ExactContext = False,
    compile: Annotated[bool, typer.Option(help="Compile the backbones (torch.compile).")] = False,
    cluster: Annotated[
        str | None, typer.Option(help="local:WORKERS, slurm:JOBS or a Dask scheduler's address.")
    ] = None,
    cache: CacheFolder = None,
    no_cache: NoCache = False,
    duration: Annotated[float, typer.Option(help="Seconds that a picture is shown.")] = 20.0,
    language: Language = None,
    overwrite: Annotated[bool, typer.Option(help="Replace another stimulus's features.")] = False,
) -> None:
    """Extract features, and keep them so that they are never worked out twice."""
    from tribrain.viewing.feature_files import features_to_folder
    from tribrain.viewing.progress import progress_lines

    with progress_lines() as progress:
        outcomes = features_to_folder(
            stimuli,
            recipe=recipe,
            out=out,
            output=format,
            transcript=transcript,
            text=text,
            modalities=_parts(modalities),
            backbones=backbones,
            device=device,
            precision=precision,
            exact_context=exact_context,
            compile_blocks=compile,
            cluster=cluster,
            cache=chosen_cache(cache, no_cache),
            duration=duration,
            language=language,
            overwrite=overwrite,
            progress=progress,
        )
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    for outcome in outcomes:
        if outcome.error is None:
            typer.echo(str(outcome))
    if out is not None and len(failed) < len(outcomes):
        typer.echo(f"written to {out}")
    if failed and len(outcomes) == 1:
        raise InputError(str(failed[0].error))
    for outcome in failed:
        typer.echo(f"tribrain: {outcome}", err=True)
    if failed:
        raise typer.Exit(1)


@app.command()
def regions(
    response: Annotated[
        Path, typer.Argument(help="Folder of a prediction, its .zarr, or one of its files.")
    ],
    atlas: Atlas = "textbook",
    match: Annotated[
        str | None, typer.Option(help='Regions by name: "V1_L", "A5,STSdp", "V*".')
    ] = None,
    group: Annotated[
        str | None, typer.Option(help='Regions of a group, such as "motion"; list lists.')
    ] = None,
    hemisphere: Annotated[str | None, typer.Option(help="left or right. (default: both)")] = None,
    sort: Annotated[str, typer.Option(help="By mean, peak, share or atlas (its order).")] = "mean",
    top: Annotated[int, typer.Option(help="Rows to print; 0 for all.")] = 20,
    out: Annotated[Path | None, typer.Option(help="Write the whole table (.tsv).")] = None,
) -> None:
    """Ask a prediction about regions: their mean, when they peak, their share of the variance."""
    from tribrain.viewing.region_files import listed, printed_regions

    if "list" in (atlas, group):
        typer.echo(listed(None if atlas == "list" else atlas))
        return
    typer.echo(
        printed_regions(
            response,
            atlas,
            top=top,
            out=out,
            match=match,
            group=group,
            hemisphere=hemisphere,
            sort=sort,
        )
    )


@cache_app.command("list")
def cache_list(cache: CacheFolder = None) -> None:
    """List what is kept: one line an entry, the last used first, and the whole size."""
    from tribrain.features.store import Store
    from tribrain.viewing.feature_files import entry_line, readable_size

    store = Store(cache)
    entries = sorted(store.entries(), key=lambda entry: entry.used, reverse=True)
    for entry in entries:
        typer.echo(entry_line(entry))
    size = readable_size(sum(entry.size for entry in entries))
    limit = readable_size(store.limit)
    typer.echo(f"{len(entries)} entries, {size} of {limit}, in {store.folder}")


@cache_app.command("verify")
def cache_verify(
    cache: CacheFolder = None,
    remove: Annotated[bool, typer.Option(help="Take damaged entries away.")] = False,
) -> None:
    """Compare every entry with its checksum; exit code 1 if any is damaged."""
    from tribrain.features.store import Store

    sound, damaged = Store(cache).verify(remove=remove)
    for line in damaged:
        typer.echo(f"damaged: {line}{' (removed)' if remove else ''}")
    typer.echo(f"{sound} entries are as they were written, {len(damaged)} are damaged")
    if damaged:
        raise typer.Exit(1)


@cache_app.command("prune")
def cache_prune(
    cache: CacheFolder = None,
    limit: Annotated[
        str | None,
        typer.Option(help="Size to shrink to: 20G; 0 removes all. (default: the limit)"),
    ] = None,
) -> None:
    """Remove what was unused for longest, until the rest fits."""
    from tribrain.features.store import Store, parse_size
    from tribrain.viewing.feature_files import readable_size

    removed, left = Store(cache).prune(None if limit is None else parse_size(limit))
    typer.echo(f"{removed} entries removed, {readable_size(left)} left")


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


def _number(text: str | None) -> int | str | None:
    return int(text) if text is not None and text.isdecimal() else text


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
