"""`trilemma`: from suites to records, scores, claims and the report. A user's mistake is one line and exit code 2.

Nothing heavy is imported before a command needs it.
"""

from __future__ import annotations

import sys
import warnings

import typer

from benchmarks.cli import checking, looking, running, weights
from benchmarks.cli.terms import say

app = typer.Typer(
    name="trilemma", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="A reproducibility benchmark suite for fast diffusion and flow generative models.",
)  # fmt: skip
lock = typer.Typer(no_args_is_help=True, help="The checkpoints that the suite may load: verify them, train one again.")
app.command("list")(looking.list_)
app.command()(looking.plan)
for command in (running.run, running.bench, running.score, running.report, running.keep):
    app.command()(command)
app.command("claims")(looking.claims_)
for command in (running.work, checking.check, looking.doctor):
    app.command()(command)
for command in (weights.verify, weights.train):
    lock.command()(command)
app.add_typer(lock, name="lock")

INTERRUPTED = 130
# click's ClickException; click is a package of its own for some versions of typer and a part of it for others
REFUSED = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


def main() -> None:
    """Entry point of the console script."""
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch")  # torch.func.jvp on torch 2.15
    sys.exit(code_of(sys.argv[1:]))


def code_of(arguments: list[str]) -> int:
    """Run a command line; its exit code. Mistakes of the user are one line on stderr."""
    try:
        return app(arguments, prog_name="trilemma", standalone_mode=False) or 0
    except typer.Exit as exit:
        return exit.exit_code
    except typer.Abort:
        return say("interrupted", INTERRUPTED)
    except REFUSED as error:
        return say(f"{error.format_message()}; `trilemma --help` shows what there is", 2)
    except KeyboardInterrupt:
        return say("interrupted; what was done is kept, the same command goes on from there", INTERRUPTED)
    except Exception as error:
        if type(error).__name__ in MISTAKES and type(error).__module__.startswith("benchmarks."):
            return say(str(error), 2)
        raise


# by name, so that none is imported
MISTAKES = {"UsageError", "StoreError", "BadCheckpoint", "BadRecipe", "EngineError", "TooLarge"}
