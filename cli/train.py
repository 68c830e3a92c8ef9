"""`codec train`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click


def _settings(values: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not equals:
            raise click.UsageError(f"--set {value}: write KEY=VALUE, for example train.steps=1000")
        found[name] = text
    return found


def _line(values: dict[str, Any], steps: int) -> str:
    left = (steps - values["step"]) / max(values["steps_per_second"], 1e-9)
    parts = [f"step {values['step']}/{steps}", f"loss {values['loss']:.3f}"]
    unit = next((name for name in ("bpp", "bits", "kbps") if name in values), None)
    if unit:
        parts.append(f"{values[unit]:.3f} {unit}")
    parts += [f"{values['steps_per_second']:.2f} steps/s", f"{left / 60:.0f} min left"]
    lines = ["  ".join(parts)]
    for point in values.get("validation", []):
        figures = "  ".join(f"{name} {value:.3f}" for name, value in point.items() if name != "quality")
        lines.append(f"  held out, quality {100 * point['quality']:.0f}: {figures}")
    return "\n".join(lines)


@click.command("train")
@click.argument("recipe")
@click.option(
    "--data",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="Folder or .tar of photographs or sounds; repeatable.",
)
@click.option(
    "--run",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for checkpoint and metrics. [default: runs/NAME]",
)
@click.option("--steps", type=click.IntRange(1), help="Train to this step instead of the recipe's.")
@click.option("--resume", is_flag=True, help="Continue the run in that folder.")
@click.option("--start", metavar="MODEL", help="Begin with the weights of a model: its name in the zoo, or a folder.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change the recipe, e.g. train.lr=1e-4.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--threads", type=click.IntRange(1), help="Of the processor, for the network. [default: all]")
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True, help="Threads that decode files.")
@click.option("--compile", "compiled", is_flag=True, help="Use torch.compile.")
@click.option("--tensorboard", is_flag=True, help="Also write TensorBoard events to the run's folder.")
@click.option(
    "--export",
    "target",
    type=click.Path(file_okay=False, path_type=Path),
    help="Do not train: write the run's averaged weights as a model to this folder.",
)
@click.option("--json", "as_json", is_flag=True, help="Print metrics as JSON lines on stdout.")
def command(
    recipe: str,
    data: tuple[Path, ...],
    folder: Path | None,
    steps: int | None,
    resume: bool,
    start: str | None,
    settings: tuple[str, ...],
    device: str,
    threads: int | None,
    workers: int,
    compiled: bool,
    tensorboard: bool,
    target: Path | None,
    as_json: bool,
) -> int:
    """Train a model from a recipe.

    RECIPE is a TOML file, a folder with a recipe.toml, or the name of a model in the zoo. Interrupted at any time, the
    run continues with --resume. --start MODEL trains a finished model on, on other data for example. With several GPUs:
    torchrun --nproc-per-node N -m codec.cli.main train RECIPE ...
    """
    from codec.checkpoint import find_model
    from codec.errors import ExistsError, RecipeError
    from codec.training import distributed
    from codec.training.recipe import find, read

    source = find(recipe)
    overrides = _settings(settings) | ({"train.steps": str(steps)} if steps else {})
    plan = read(source, overrides)
    folder = folder or Path("runs") / source.resolve().parent.name

    import torch

    from codec.training import trainer
    from codec.training.export import export
    from codec.training.run import CHECKPOINT, Run
    from codec.training.sources import dataset

    if threads:
        torch.set_num_threads(threads)
    if target is not None:
        run = Run(plan, torch.device("cpu"))
        run.load(folder)
        info = export(run, target)
        text = f"{folder} at step {run.step} -> {target}  {(target / 'model.safetensors').stat().st_size:,} bytes"
        click.echo(
            json.dumps({"model": str(target), "digest": info.digest}) if as_json else f"{text}  {info.digest[:8]}"
        )
        return 0
    if not resume and (folder / CHECKPOINT).exists():
        raise ExistsError(f"{folder} holds a run; add --resume to continue it, or choose another --run")
    if not data:
        raise click.UsageError("--data is needed: a folder or .tar of photographs or sounds")
    begin = find_model(start) if start else None
    report = _reporter(folder if tensorboard else None, plan.train.steps, as_json=as_json)
    where = distributed.start(device)
    try:
        run = Run(plan, where)
        files = dataset(run.model, list(data), smallest=max(stage.size for stage in plan.train.stages))
        if distributed.rank() == 0:
            click.echo(
                f"{len(files)} {files.what}, {where}, to step {plan.train.steps}; Ctrl-C stops, --resume continues",
                err=True,
            )
        trainer.prepare(run, files, folder, resume=resume, start=begin)
        trainer.train(run, files, folder, report=report, workers=workers, compiled=compiled)
    except torch.cuda.OutOfMemoryError as exc:
        raise RecipeError("the GPU is out of memory; use a smaller batch, e.g. --set train.stages=...") from exc
    finally:
        distributed.finish()
    return 0


def _reporter(events: Path | None, steps: int, *, as_json: bool) -> Any:
    """Return a function that shows a line of metrics, and adds it to TensorBoard events if a folder is given."""
    writer = None
    if events is not None:
        from codec.errors import MissingPackageError

        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as exc:
            raise MissingPackageError("TensorBoard is not installed; pip install 'codec[tensorboard]'") from exc
        writer = SummaryWriter(events)

    def report(values: dict[str, Any]) -> None:
        if as_json:
            sys.stdout.write(json.dumps(values) + "\n")
            sys.stdout.flush()
        else:
            click.echo(_line(values, steps), err=True)
        if writer is not None:
            for name, value in values.items():
                if isinstance(value, (int, float)):
                    writer.add_scalar(name, value, values["step"])
            for point in values.get("validation", []):
                for name in point.keys() - {"quality"}:
                    writer.add_scalar(f"{name}/{point['quality']}", point[name], values["step"])

    return report
