"""Status messages that are derived from the read models: the states of rollouts, the liveness of gateways."""
