"""The `codec` command: a group whose commands are imported when called."""

from __future__ import annotations

import keyword
import signal
import sys
import warnings
from importlib import import_module

import click

from codec.cli import exits
from codec.errors import CodecError

_COMMANDS = {  # name -> one line for --help, so that help imports nothing
    "encode": "Compress images, sound and video to .lcb files.",
    "decode": "Decompress .lcb files.",
    "append": "Add a clip to a .lcb file of video.",
    "inspect": "Show what is in .lcb files, without decoding.",
    "truncate": "Cut .lcb files of pictures to a size, without encoding them again.",
    "predict": "Say what pictures show, from .lcb files of models that serve a task.",
    "tokens": "Turn pictures or sound into the tokens of a codebook model, and back.",
    "pack": "Encode a folder of pictures, sounds or videos into tar shards to train on.",
    "eval": "Measure rate and distortion of codecs on files, with anchors, and write a report.",
    "compare": "Measure how much two files differ.",
    "train": "Train a model from a recipe.",
    "import": "Turn a checkpoint of another library into a model.",
    "list": "List installed models or systems.",
    "doctor": "Check the installation and print what a bug report needs.",
}


class _Lazy(click.Group):
    def list_commands(self, context: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        module = name + "_" * keyword.iskeyword(name)  # import_.py
        return import_module(f"codec.cli.{module}").command if name in _COMMANDS else None

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.command(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="codec", prog_name="codec")
def main() -> None:
    """Learned compression with real bitstreams: codec encode photo.jpg, codec decode photo.lcb."""


def _terminated(*_: object) -> None:
    raise KeyboardInterrupt


def run() -> None:
    """Run the command line and exit with its code."""
    warnings.filterwarnings("ignore", module="PIL")  # oddities of input files that change nothing
    signal.signal(signal.SIGTERM, _terminated)  # clean up temporary files as for Ctrl-C
    try:
        code = main.main(standalone_mode=False) or 0
    except click.ClickException as exc:
        exc.show()
        code = exc.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("codec: interrupted", err=True)
        code = exits.INTERRUPTED
    except BrokenPipeError:
        code = exits.FAILURE
    except (CodecError, OSError, MemoryError, ValueError) as exc:
        click.echo(f"codec: {exits.message_of(exc)}", err=True)
        code = exits.code_of(exc)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":  # torchrun starts modules: torchrun ... -m codec.cli.main train ...
    run()
