// A gRPC client that finds its servers by xDS. Each line on standard input is a full method name to
// call; each line on standard output says how the call ended: its status code, and the answer.
//
// The bootstrap configuration comes from GRPC_XDS_BOOTSTRAP_CONFIG, the argument is the target.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	_ "google.golang.org/grpc/xds"
	"google.golang.org/grpc/xds/bootstrap"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Channel credentials of the type "token": no transport security, a bearer token on each stream.
type token struct{}

func (token) Name() string { return "token" }

func (token) Build(config json.RawMessage) (credentials.Bundle, func(), error) {
	var value string
	if err := json.Unmarshal(config, &value); err != nil {
		return nil, nil, fmt.Errorf("the token is no string: %w", err)
	}
	return bundle{value}, func() {}, nil
}

type bundle struct{ token string }

func (bundle) TransportCredentials() credentials.TransportCredentials {
	return insecure.NewCredentials()
}
func (b bundle) PerRPCCredentials() credentials.PerRPCCredentials { return b }
func (b bundle) NewWithMode(string) (credentials.Bundle, error)   { return b, nil }
func (bundle) RequireTransportSecurity() bool                     { return false }

func (b bundle) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + b.token}, nil
}

func main() {
	bootstrap.RegisterChannelCredentials(token{})
	connection, err := grpc.NewClient(os.Args[1], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		var answer wrapperspb.StringValue
		err := connection.Invoke(ctx, lines.Text(), &emptypb.Empty{}, &answer)
		cancel()
		fmt.Printf("%v %s\n", status.Code(err), answer.Value)
	}
}
