"""The engine for studies of thousands: many examples at once on one device, each with its own copy of the weights."""
