"""`recsys completion`."""

from __future__ import annotations

from typing import Annotated

import typer

from workers.errors import SettingsError

SHELLS = ("bash", "zsh", "fish")


def complete_shell(incomplete: str) -> list[str]:
    """Return the shells that begin like this."""
    return [shell for shell in SHELLS if shell.startswith(incomplete)]


def completion(
    shell: Annotated[str, typer.Argument(help="bash, zsh or fish.", autocompletion=complete_shell)],
) -> None:
    """Print what makes a shell complete commands and options at the Tab key.

    bash: source <(recsys completion bash), in ~/.bashrc. zsh: the same line in ~/.zshrc, after compinit. fish: recsys completion fish >
    ~/.config/fish/completions/recsys.fish
    """
    if shell not in SHELLS:
        raise SettingsError(f"SHELL: one of {', '.join(SHELLS)}")
    from typer._completion_shared import get_completion_script

    typer.echo(get_completion_script(prog_name="recsys", complete_var="_RECSYS_COMPLETE", shell=shell))
