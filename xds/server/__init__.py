"""The discovery server: xDS streams over gRPC, independent of the content of resources."""
