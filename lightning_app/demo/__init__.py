"""The demo: its own are the images that it writes and the small networks that it trains; the rest are the commands."""
