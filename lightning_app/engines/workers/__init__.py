"""Several devices as one engine: a process a device, by Ray."""
