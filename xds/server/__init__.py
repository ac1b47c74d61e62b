"""The discovery server: streams of proxies over gRPC, without knowledge of Envoy's configuration."""
