"""The ``msicube`` command: a group of subcommands, and how an error ends it."""

from __future__ import annotations

import errno
import os
import sys
from importlib import import_module
from typing import Any

import click

import msicube
from msicube.errors import MSICubeError

#: Command -> its module in this package; loaded when it is used, so that help stays quick and torch out of the way.
COMMANDS: dict[str, str] = {
    "simulate": "simulate",
    "convert": "convert",
    "pride": "pride",
    "rebin": "rebin",
    "export": "export",
    "info": "info",
    "validate": "validate",
    "mask": "mask",
    "fit": "fit",
    "apply": "apply",
    "pool": "pool",
    "pretrain": "pretrain",
    "train": "train",
    "evaluate": "evaluate",
    "predict": "predict",
    "explain": "explain",
    "compare": "compare",
    "report": "report",
    "demo": "demo",
}


class _Commands(click.Group):
    """Loads each command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"msicube.cli.{COMMANDS[cmd_name]}").command
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(msicube.__version__, prog_name="msicube")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def cli(context: click.Context, debug: bool) -> None:
    """Spectral images as chunked Zarr: convert, preprocess out of core, train.

    Data go to standard output; messages and progress go to standard error. A failed job exits with 1, wrong usage
    with 2.
    """
    context.obj = {"debug": debug}


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit."""
    debug = "--debug" in (arguments if arguments is not None else sys.argv[1:])
    try:
        code: Any = cli.main(args=arguments, prog_name="msicube", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("Stopped.", err=True)
        code = 130
    except BrokenPipeError:  # whoever read our output, such as head, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except (MSICubeError, OSError) as error:
        if debug:
            raise
        click.echo(f"Error: {error}{_remedy(error)}", err=True)
        code = 1
    sys.exit(code if isinstance(code, int) else 0)


def _remedy(error: Exception) -> str:
    """Return what to do about an error of the operating system; our own errors say it themselves."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return ": make room and run the same command again, it goes on where it stopped"
    return ""
