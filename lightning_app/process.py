"""What a process that trains has to have in its environment before torch and Lightning are loaded."""

import os


def settle_environment() -> None:
    """Sets it, in the command's own process and in every worker's."""
    # A thread that spins while it waits slows every other process on the machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Lightning would take this process for one of several that train together; each of ours trains for itself.
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        del os.environ[name]
