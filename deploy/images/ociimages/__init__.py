"""Container images as OCI archives, made without a container runtime: equal input, equal bytes."""
