// Defines a project: publishes the command and prints its outcome.
//
//	export SIGNALBOX_COMMAND_TOKEN=$(signalbox token create --organization default --subject billing)
//	go run . shop
//
// Exits with 0 when the command was accepted, with 1 when it was rejected or no outcome came in time.
package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

var (
	kafka        = setting("SIGNALBOX_KAFKA", "127.0.0.1:9092")
	prefix       = setting("SIGNALBOX_KAFKA_PREFIX", "signalbox")
	organization = setting("SIGNALBOX_ORG", "default")
	token        = os.Getenv("SIGNALBOX_COMMAND_TOKEN")
)

const defineProjectType = "io.signalbox.project.command.define.v1"

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: publish PROJECT")
		os.Exit(3)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	accepted, err := defineProject(ctx, os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	if !accepted {
		os.Exit(1)
	}
}

func connection() []kgo.Opt {
	// TLS and SASL: kgo.DialTLSConfig(&tls.Config{RootCAs: pool}) too, with Certificates for mutual TLS.
	options := []kgo.Opt{kgo.SeedBrokers(kafka)}
	user, password := os.Getenv("SIGNALBOX_KAFKA_USERNAME"), os.Getenv("SIGNALBOX_KAFKA_PASSWORD")
	switch os.Getenv("SIGNALBOX_KAFKA_MECHANISM") {
	case "PLAIN":
		options = append(options, kgo.SASL(plain.Auth{User: user, Pass: password}.AsMechanism()))
	case "SCRAM-SHA-256":
		options = append(options, kgo.SASL(scram.Auth{User: user, Pass: password}.AsSha256Mechanism()))
	case "SCRAM-SHA-512":
		options = append(options, kgo.SASL(scram.Auth{User: user, Pass: password}.AsSha512Mechanism()))
	}
	return options
}

func defineProject(ctx context.Context, project string) (bool, error) {
	client, err := kgo.NewClient(connection()...)
	if err != nil {
		return false, err
	}
	defer client.Close()

	// Before the command is sent, so that its outcome is not missed.
	ends, err := kadm.NewClient(client).ListEndOffsets(ctx, prefix+".outcomes")
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return false, fmt.Errorf("cannot find the end of the outcomes: %w", err)
	}
	outcomes, err := kgo.NewClient(append(connection(),
		kgo.ConsumePartitions(ends.KOffsets()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
	)...)
	if err != nil {
		return false, err
	}
	defer outcomes.Close()

	id := uuid.NewString()
	command, err := command(id, project)
	if err != nil {
		return false, err
	}
	if err := client.ProduceSync(ctx, command).FirstErr(); err != nil {
		return false, fmt.Errorf("not sure that it arrived; it is safe to send it again with the id %s: %w", id, err)
	}
	return report(ctx, outcomes, id)
}

func command(id, project string) (*kgo.Record, error) {
	data, err := json.Marshal(map[string]string{"organization": organization, "name": project})
	if err != nil {
		return nil, err
	}
	record := &kgo.Record{Topic: prefix + ".commands", Key: []byte(organization), Value: data}
	for name, value := range map[string]string{
		"ce_specversion":   "1.0",
		"ce_id":            id,
		"ce_type":          defineProjectType,
		"ce_source":        "/billing",
		"ce_authorization": authorization(id, defineProjectType, data),
		"content-type":     "application/json",
	} {
		record.Headers = append(record.Headers, kgo.RecordHeader{Key: name, Value: []byte(value)})
	}
	return record, nil
}

// authorization binds the token to this command: readers of the topic cannot use it for another one.
func authorization(id, commandType string, data []byte) string {
	jwt, secret, _ := strings.Cut(token, "~")
	body := sha256.Sum256(data)
	// The empty line is the subject, which this command does not have.
	text := []string{"signalbox-command-v1", organization, id, commandType, "", hex.EncodeToString(body[:])}
	proof := hmac.New(sha256.New, []byte(secret))
	proof.Write([]byte(strings.Join(text, "\n")))
	return jwt + "~" + hex.EncodeToString(proof.Sum(nil))
}

func report(ctx context.Context, outcomes *kgo.Client, id string) (bool, error) {
	for {
		fetches := outcomes.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return false, fmt.Errorf("no outcome yet; to send the command again, use its id: %s", id)
		}
		if err := fetches.Err(); err != nil {
			return false, err
		}
		for records := fetches.RecordIter(); !records.Done(); {
			outcome := records.Next()
			if header(outcome, "ce_causationid") != id {
				continue
			}
			if header(outcome, "ce_outcome") == "accepted" {
				fmt.Println("accepted")
				return true, nil
			}
			fmt.Printf("rejected: %s: %s\n", header(outcome, "ce_outcomerule"), header(outcome, "ce_outcomemessage"))
			return false, nil
		}
	}
}

func header(record *kgo.Record, name string) string {
	for _, header := range record.Headers {
		if header.Key == name {
			return string(header.Value)
		}
	}
	return ""
}

func setting(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}
