"""`signalbox token`: tokens for publishing commands on Kafka."""

import re
from dataclasses import replace
from pathlib import Path
from time import time

import click
import orjson

from signalbox.cli.failure import USAGE, Failure
from signalbox.cli.output import OutputFormat, emit, formed, note
from signalbox.cli.tables import table
from signalbox.settings import Settings, SettingsError, from_environment
from streams.kafka.security import keys
from streams.kafka.security.authority import issued, open_authority
from streams.kafka.security.binding import SEPARATOR, with_secret
from streams.kafka.security.keys import KeyFileError, SpeaksFor, TrustedKey

EVERYWHERE = "*"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_SPAN = re.compile(r"([1-9][0-9]{0,8})([smhd])")


_DASHED_KID = re.compile(r"-[A-Za-z0-9_-]{42}")
"""A thumbprint of a key; one in 64 begins like an option."""


class KidCommand(click.Command):
    """A command that takes a key's id, which may begin with a hyphen."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        kids = [arg for arg in args if _DASHED_KID.fullmatch(arg)]
        if kids and "--" not in args:
            args = [*(arg for arg in args if arg not in kids), "--", *kids]
        return super().parse_args(ctx, args)


_data = click.option("--data", metavar="DIR", help="The data directory. [SIGNALBOX_DATA; default .signalbox]")
_organizations = click.option(
    "--organization",
    "organizations",
    metavar="NAME",
    multiple=True,
    required=True,
    help="An organization where it is valid; may be given several times. '*' for all.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def token() -> None:
    """Manage tokens of services that publish commands on Kafka.

    A token is printed as JWT~SECRET. With every command a service sends the JWT and a proof made with the
    secret (docs/publishing-commands.md), in the CloudEvents attribute `authorization` (the Kafka header
    `ce_authorization`): it is valid for that command only. Two kinds of issuers make
    tokens:

    \b
    Signalbox itself:  signalbox token create --organization acme --subject billing
    your own:          signalbox token key --issuer acme-identity --out acme.jwk > acme.public.jwk
                       signalbox token trust acme.public.jwk --organization acme

    The keys are in the directory of secrets (signing.jwk, trusted.jwks, tokens.key), or where
    SIGNALBOX_SIGNING_KEY and SIGNALBOX_TRUSTED_KEYS say. A running Signalbox applies a change within seconds.
    """


@token.command()
@_organizations
@click.option("--subject", metavar="NAME", required=True, help="The name of the service, for the history.")
@click.option("--expires", metavar="SPAN", default="90d", show_default=True, help="Such as 90d, 12h, 30m.")
@click.option(
    "--key",
    "key_file",
    type=click.Path(path_type=Path),
    help="Sign with this private key, made by `signalbox token key`. [default: Signalbox's own]",
)
@_data
def create(
    organizations: tuple[str, ...], subject: str, expires: str, key_file: Path | None, data: str | None
) -> int:
    """Print a token for a service. Nothing but the token goes to standard output.

    It cannot be revoked before it expires, except by distrusting the key that signed it.
    """
    seconds = _seconds(expires)
    if not subject.strip():
        raise Failure("--subject takes the name of a service", code=USAGE)
    named = None if EVERYWHERE in organizations else organizations
    settings = _settings(data)
    try:
        if key_file is None:
            open_authority(settings.signing_key, settings.trusted_keys, settings.token_key)
        key = keys.signing_key(key_file or settings.signing_key)
        token_key = keys.kept_text(settings.token_key)
    except KeyFileError as error:
        raise Failure(str(error)) from error
    made = issued(key, subject=subject, organizations=named, now=time(), seconds=seconds)
    click.echo(with_secret(token_key, made))
    note(f"for {subject} in {_where(named)}; expires in {expires}")
    return 0


@token.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True))
@_data
def bind(file: Path, data: str | None) -> int:
    """Print the token of another issuer with a secret, as JWT~SECRET.

    FILE holds the JWT; '-' is standard input.
    """
    made = _content(file).decode(errors="replace").strip()
    if made.count(".") != 2 or SEPARATOR in made:
        raise Failure(f"{file} holds no JWT")
    try:
        click.echo(with_secret(keys.kept_text(_settings(data).token_key), made))
    except KeyFileError as error:
        raise Failure(str(error)) from error
    return 0


@token.command()
@click.option("--issuer", metavar="NAME", required=True, help="The issuer's name in its tokens (`iss`).")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="The new file of the private key."
)
def key(issuer: str, out: Path) -> int:
    """Create a key pair for another issuer of tokens, and print the public key.

    The private key stays with the issuer, in a file that only its owner can read; it is never overwritten.
    Pass the public key to `signalbox token trust`.
    """
    made = keys.new_key()
    try:
        keys.write_private(out, made, issuer)
    except KeyFileError as error:
        raise Failure(str(error)) from error
    click.echo(orjson.dumps(keys.public_document(made, issuer), option=orjson.OPT_INDENT_2).decode())
    note(f"{out} has the private key; the printed one is the public key")
    return 0


@token.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True))
@_organizations
@click.option("--issuer", metavar="NAME", help="The issuer's name in its tokens. [default: the key's `iss`]")
@click.option(
    "--users",
    is_flag=True,
    help="It may issue tokens for users too: for another Signalbox API, or an identity provider.",
)
@click.option("--bearer", is_flag=True, help="Accept its tokens without a proof: any reader can use them.")
@_data
def trust(
    file: Path,
    organizations: tuple[str, ...],
    issuer: str | None,
    users: bool,
    bearer: bool,
    data: str | None,
) -> int:
    """Trust a public key (JWK, Ed25519) to sign commands of services.

    Its tokens are valid only in the organizations given here, whatever the tokens themselves name.
    """
    try:
        document: object = orjson.loads(_content(file))
    except orjson.JSONDecodeError as error:
        raise Failure(f"{file} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise Failure(f"{file} is not a key: a key is a JSON object (JWK)")
    speaks_for: SpeaksFor = "users" if users else "services"
    may = {
        "organizations": EVERYWHERE if EVERYWHERE in organizations else list(organizations),
        "speaks_for": speaks_for,
        "bearer": bearer,
        **({"iss": issuer} if issuer else {}),
    }
    try:
        trusted = keys.trusted_key({**document, **may}, str(file))
        changed = keys.trust(_settings(data).trusted_keys, trusted)
    except KeyFileError as error:
        raise Failure(str(error), "`signalbox token key` prints one to hand over") from error
    state = "trusted" if changed else "was trusted already"
    click.echo(
        f"{trusted.kid}: {state}, for {speaks_for} of {trusted.issuer} in {_where(trusted.organizations)}"
    )
    return 0


@token.command(cls=KidCommand)
@click.argument("kid")
@click.option("--off", is_flag=True, help="Require a proof again.")
@_data
def bearer(kid: str, off: bool, data: str | None) -> int:
    """Accept tokens signed by the key KID without a proof, as versions without proofs did.

    Anyone who can read the commands topic can then use such a token until it expires.
    """
    file = _settings(data).trusted_keys
    present = _read(file)
    if kid not in present:
        raise Failure(f"there is no key {kid!r} in {file}", "`signalbox token keys` lists them")
    changed = replace(present[kid], bearer=not off)
    try:
        keys.write_trusted(file, list({**present, kid: changed}.values()))
    except KeyFileError as error:
        raise Failure(str(error)) from error
    click.echo(f"{kid}: its tokens {'need a proof' if off else 'are accepted without a proof'}")
    return 0


@token.command(cls=KidCommand)
@click.argument("kid")
@_data
def distrust(kid: str, data: str | None) -> int:
    """Stop trusting the key KID: every token signed with it is refused from then on."""
    file = _settings(data).trusted_keys
    present = _read(file)
    if kid not in present:
        raise Failure(f"there is no key {kid!r} in {file}", "`signalbox token keys` lists them")
    try:
        keys.write_trusted(file, [k for k in present.values() if k.kid != kid])
    except KeyFileError as error:
        raise Failure(str(error)) from error
    click.echo(f"{kid}: no longer trusted")
    return 0


@token.command("keys")
@formed
@_data
def keys_(form: OutputFormat, data: str | None) -> int:
    """List the trusted keys."""
    found = list(_read(_settings(data).trusted_keys).values())
    if form != "table":
        emit({"items": [k.document() for k in found]}, form)
    elif found:
        rows = [
            [k.issuer, k.speaks_for, _where(k.organizations), "bearer" if k.bearer else "bound", k.kid]
            for k in found
        ]
        click.echo(table(["issuer", "speaks for", "organizations", "tokens", "kid"], rows))
    else:
        note("No key is trusted yet: `signalbox up` and `signalbox token create` create the first.")
    return 0


def _settings(data: str | None) -> Settings:
    try:
        return from_environment(data=data)
    except SettingsError as error:
        raise Failure(str(error), code=USAGE) from error


def _read(file: Path) -> dict[str, TrustedKey]:
    try:
        return keys.read_trusted(file)
    except KeyFileError as error:
        raise Failure(str(error)) from error


def _content(file: Path) -> bytes:
    with click.open_file(str(file), "rb") as stream:
        return stream.read()


def _seconds(span: str) -> float:
    found = _SPAN.fullmatch(span.strip())
    if found is None:
        raise Failure(f"--expires takes a span such as 90d, 12h or 30m; {span!r} is not one", code=USAGE)
    return float(int(found[1]) * _UNITS[found[2]])


def _where(organizations: "tuple[str, ...] | frozenset[str] | None") -> str:
    return "all organizations" if organizations is None else ", ".join(sorted(organizations))
