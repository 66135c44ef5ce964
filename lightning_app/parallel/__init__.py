"""Several devices, on one machine or many: one study, with one process that writes."""
