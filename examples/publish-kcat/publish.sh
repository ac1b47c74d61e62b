#!/usr/bin/env bash
# Defines a project: publishes the command with kcat and prints its outcome.
#
#     export SIGNALBOX_COMMAND_TOKEN=$(signalbox token create --organization default --subject billing)
#     bash publish.sh shop
#
# Exits with 0 when the command was accepted, with 1 when it was rejected or no outcome came in time.
set -euo pipefail

project=${1:?usage: publish.sh PROJECT}
organization=${SIGNALBOX_ORG:-default}
prefix=${SIGNALBOX_KAFKA_PREFIX:-signalbox}
id=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
connection=(
    -b "${SIGNALBOX_KAFKA:-127.0.0.1:9092}"
    # TLS and SASL: SASL_SSL below, and -X ssl.ca.location=ca.pem
    # mutual TLS: -X security.protocol=SSL -X ssl.certificate.location=client.pem -X ssl.key.location=client.key
)
if [ -n "${SIGNALBOX_KAFKA_MECHANISM:-}" ]; then
    # In a file that only its owner can read: the arguments of a process are public.
    config=$(mktemp)
    trap 'rm -f "$config"' EXIT
    cat >"$config" <<END
security.protocol=SASL_PLAINTEXT
sasl.mechanism=$SIGNALBOX_KAFKA_MECHANISM
sasl.username=${SIGNALBOX_KAFKA_USERNAME:-}
sasl.password=${SIGNALBOX_KAFKA_PASSWORD:-}
END
    connection+=(-F "$config")
fi

type=io.signalbox.project.command.define.v1
data=$(printf '{"organization": "%s", "name": "%s"}' "$organization" "$project")

# Binds the token to this command: readers of the topic cannot use it for another one. The empty string is
# the attribute subject, which this command does not have. Perl, because openssl would show the secret in its
# arguments.
authorization=$(
    printf '%s' "$data" |
        ORGANIZATION=$organization ID=$id TYPE=$type perl -MDigest::SHA=sha256_hex,hmac_sha256_hex -0777 -ne '
            my ($jwt, $secret) = split /~/, $ENV{SIGNALBOX_COMMAND_TOKEN} // "";
            my @text = ("signalbox-command-v1", @ENV{qw(ORGANIZATION ID TYPE)}, "", sha256_hex($_));
            print $jwt // "", "~", hmac_sha256_hex(join("\n", @text), $secret // "");
        '
)

since=$((($(date +%s) - 60) * 1000)) # a minute earlier: clocks differ

# kcat's default partitioner differs from Kafka's, so Kafka's is named.
printf '%s' "$data" |
    kcat -P "${connection[@]}" -t "$prefix.commands" -k "$organization" \
        -X partitioner=murmur2_random -X acks=all \
        -H ce_specversion=1.0 -H "ce_id=$id" -H "ce_type=$type" \
        -H ce_source=/billing -H "ce_authorization=$authorization" \
        -H content-type=application/json

for _ in $(seq 30); do
    headers=$(
        kcat -C -e -q "${connection[@]}" -t "$prefix.outcomes" -X isolation.level=read_committed \
            -o "s@$since" -f '%h\n' | grep -F "ce_causationid=$id" || true
    )
    case $headers in
        *ce_outcome=accepted*)
            echo accepted
            exit 0
            ;;
        *ce_outcome=rejected*)
            tr ',' '\n' <<<"$headers" | sed -n 's/^ce_outcomerule=/rejected: /p'
            exit 1
            ;;
    esac
    sleep 1
done
echo "no outcome yet; to send the command again, use its id: $id" >&2
exit 1
