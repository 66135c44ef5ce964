"""The network, its loss, the LightningModule and what Lightning needs around them; engines/ trains with it."""
