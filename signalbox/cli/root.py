"""`signalbox`: its verbs by name. A verb's module is imported only when the verb is used."""

import gc
import importlib
import os
import sys
from collections.abc import Mapping, Sequence

import click

from signalbox.cli.failure import DONE, USAGE, Failure

VERBS: Mapping[str, tuple[str, str]] = {
    "up": ("operations.up", "Start Signalbox on this machine, with Envoy."),
    "run": ("operations.run", "Run some roles in this process, on Kafka and PostgreSQL."),
    "dev": ("operations.dev", "Start a Kafka or a PostgreSQL here, for development."),
    "apply": ("resources.apply", "Create or change resources from files; --deploy deploys APIs."),
    "create": ("resources.create", "Create an organization."),
    "get": ("resources.get", "List resources of a kind, or show one."),
    "describe": ("resources.describe", "Show all details of one resource."),
    "deploy": ("resources.deploy", "Deploy a revision of an API to a gateway or an environment."),
    "undeploy": ("resources.undeploy", "Take an API off a gateway."),
    "gateway": ("operations.gateway", "Write the bootstrap file of another Envoy."),
    "history": ("resources.history", "List the events of a resource: time, caller and change."),
    "doctor": ("doctor.command", "Check data, ports, Envoy and the server, and print remedies."),
    "migrate": ("operations.migrate", "Move an embedded Signalbox to Kafka and PostgreSQL."),
    "rebuild": ("operations.rebuild", "Compute read models again from the log, beside the live ones."),
    "token": ("operations.token", "Create tokens for services that publish commands on Kafka."),
    "parked": ("operations.parked", "List, retry or skip dead letters."),
    "log": ("operations.log", "Skip a record on the event log that cannot be read."),
    "version": ("version", "Print the version."),
}
"""Per verb: its module in this package, with a click command of the verb's name, and a summary."""

YOUNG = 100_000
"""New objects before a garbage collection: those of a start stay, and to examine them takes a third of it."""


class Verbs(click.Group):
    """Lists the verbs without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"signalbox.cli.{VERBS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], VERBS, 1)
            meant = f"did you mean {near[0]!r}?" if near else "see 'signalbox --help'"
            raise click.UsageError(f"there is no command {args[0]!r}: {meant}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in VERBS.items()])


@click.command(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def signalbox() -> None:
    """Signalbox, an event-sourced control plane for APIs and gateways.

    \b
    Start:    signalbox up
    Then:     signalbox apply -f api.yaml --deploy
              signalbox get deployments

    \b
    Environment: SIGNALBOX_URL, SIGNALBOX_TOKEN, SIGNALBOX_ORG, SIGNALBOX_PROFILE, SIGNALBOX_DATA,
                 NO_COLOR.
    Exit codes: 0 done, 1 error, 2 changes pending, 3 usage.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code. `arguments` are without the program's name."""
    gc.set_threshold(YOUNG)
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        result = signalbox.main(given, prog_name="signalbox", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return USAGE
    except click.UsageError as error:
        error.show()
        return USAGE
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.exceptions.Abort:
        click.echo("stopped", err=True)
        return 130
    except Failure as failure:
        click.echo(f"error: {failure.message}", err=True)
        if failure.hint:
            click.echo(f"hint: {failure.hint}", err=True)
        return failure.code
    except BrokenPipeError:
        # The reading program (`head`, a pager) ended: keep the interpreter from flushing to a closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    return result if isinstance(result, int) else DONE
