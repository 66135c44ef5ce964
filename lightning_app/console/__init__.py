"""What every command shows and heeds: bars, log, signals, and the process it runs in."""
