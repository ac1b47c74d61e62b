"""Resources, a sample API and the service behind it, which the first start of `signalbox up` creates."""
