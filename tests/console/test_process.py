import io
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO, cast

import pytest
from lightning.fabric.plugins.environments import LSFEnvironment, SLURMEnvironment, TorchElasticEnvironment
from lightning.fabric.utilities.rank_zero import _get_rank

from lightning_app.cli import main
from lightning_app.console.process import Lasting, keep_memory, settle_process
from tests.commands.test_run import OUT
from tests.store.studies import sample_of, study_of
from tests.torture import contents

SLURM = {"SLURM_NTASKS": "4", "SLURM_PROCID": "2", "SLURM_JOB_NAME": "study", "SLURM_JOB_NODELIST": "a[1-2]"}
TORCHRUN = {
    **{"RANK": "3", "LOCAL_RANK": "3", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4", "MASTER_ADDR": "10.0.0.1"},
    **{"MASTER_PORT": "29500", "TORCHELASTIC_RUN_ID": "none", "GROUP_RANK": "0", "ROLE_RANK": "3"},
}
KUBERNETES = {**TORCHRUN, "KUBERNETES_PORT": "tcp://10.0.0.1:443"}
LSF = {
    **{"LSB_JOBID": "7", "LSB_DJOB_RANKFILE": "no/such/file", "LSB_HOSTS": "a b"},
    **{"JSM_NAMESPACE_LOCAL_RANK": "1", "JSM_NAMESPACE_SIZE": "2", "JSM_NAMESPACE_RANK": "1"},
}
MPI = {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1", "PMI_RANK": "1", "PMIX_RANK": "1"}
LAUNCHED = {**SLURM, **TORCHRUN, **KUBERNETES, **LSF, **MPI}


def test_what_is_set_is_the_users_where_the_user_has_set_it() -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("OMP_WAIT_POLICY", "CUDA_DEVICE_MAX_CONNECTIONS"):
            patch.delenv(name, raising=False)
        patch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
        settle_process()
        assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
        assert os.environ["CUDA_DEVICE_MAX_CONNECTIONS"] == "32"
        assert "MPLBACKEND" not in os.environ
        patch.setenv("OMP_WAIT_POLICY", "ACTIVE")
        patch.setenv("CUDA_DEVICE_MAX_CONNECTIONS", "8")
        settle_process()
        assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
        assert os.environ["CUDA_DEVICE_MAX_CONNECTIONS"] == "8"


@pytest.mark.parametrize("launcher", [SLURM, TORCHRUN, KUBERNETES, LSF, MPI])
def test_no_launcher_makes_a_process_the_second_of_several(launcher: dict[str, str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in launcher.items():
            patch.setenv(name, value)
        settle_process()
        assert not any(kind.detect() for kind in (LSFEnvironment, SLURMEnvironment, TorchElasticEnvironment))
        # What Kubernetes and MPI are told by.
        assert not {"RANK", "WORLD_SIZE", "MASTER_ADDR", "OMPI_COMM_WORLD_SIZE"} & {*os.environ}
        assert _get_rank() is None


def test_a_study_runs_as_one_of_several_tasks_of_a_job_and_is_logged(study: list[str]) -> None:
    logger = ["--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", "logs"]
    assert run_in_a_process([*study, "--max_examples", "1", *logger], env=LAUNCHED).returncode == 0
    # Lightning's loggers write nothing in a process that takes itself for the second of several.
    (metrics,) = Path("logs").rglob("metrics.csv")
    assert "study/steps" in metrics.read_text()


def run_in_a_process(
    argv: list[str], shell: str = "", env: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """The command as a shell starts it, with more words for the shell."""
    program = f'exec "$0" "$@" {shell}'
    return subprocess.run(
        ["sh", "-c", program, sys.executable, "-m", "lightning_app", *argv],
        capture_output=True, text=True, check=False, timeout=120, env={**os.environ, **(env or {})},
    )  # fmt: skip


@pytest.mark.parametrize("closed", ["<&- >&- 2>&-", "2>&1 | head -n 1"])
def test_a_study_needs_nobody_who_reads_what_it_says(study: list[str], closed: str) -> None:
    study = [*study, "--max_examples", "2"]
    assert main(study) == 0
    expected = contents(OUT)
    OUT.rename("undisturbed")
    done = run_in_a_process(study, closed)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert contents(OUT) == expected


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_what_was_asked_for_and_cannot_be_printed_is_one_clear_error(unbuffered: str) -> None:
    done = run_in_a_process(["--help"], "> /dev/full", {"PYTHONUNBUFFERED": unbuffered})
    assert done.returncode == 1
    assert done.stderr == "steps-to-epsilon --help: error: what is printed can't be written: No space left on device\n"


def test_what_the_screen_cannot_show_is_printed_all_the_same() -> None:
    study_of(Path("é"), sample_of(2), 10)
    done = run_in_a_process(["status", "é"], env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0
    assert done.stdout.startswith(r"\xe9: complete")


def test_a_stream_that_breaks_falls_silent() -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

        def flush(self) -> None:
            raise OSError(5, "Input/output error")

    stream = cast(TextIO, Lasting(Broken()))
    print("to nobody", file=stream, flush=True)
    assert not stream.isatty()
    whole = io.StringIO()
    print("to somebody", file=cast(TextIO, Lasting(whole)))
    assert whole.getvalue() == "to somebody\n"


@pytest.mark.parametrize("name", ["MALLOC_ARENA_MAX", "MALLOC_MMAP_MAX_", "GLIBC_TUNABLES", "no glibc"])
def test_who_has_set_the_allocator_keeps_it_and_where_there_is_no_glibc_nothing_is_done(name: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for other in [other for other in os.environ if other.startswith("MALLOC_") or other == "GLIBC_TUNABLES"]:
            patch.delenv(other)
        if name == "no glibc":
            patch.setattr("ctypes.CDLL", lambda library: object())
        else:
            patch.setenv(name, "4" if name.startswith("MALLOC") else "glibc.malloc.arena_max=4")
        assert not keep_memory()


LOSSES = """
import sys
from lightning_app.console.process import keep_memory
assert keep_memory() == (sys.argv[1] == "kept")
import timm, torch
torch.manual_seed(0)
torch.set_num_threads(1)
network = timm.create_model("resnet18", num_classes=10).eval()
optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
image = torch.randn(1, 3, 160, 160)
for _ in range(4):
    optimizer.zero_grad()
    loss = torch.nn.functional.cross_entropy(network(image), torch.tensor([3]))
    loss.backward()
    optimizer.step()
    print(loss.item().hex())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has it")
def test_kept_memory_changes_no_bit() -> None:
    """In two processes: what is set once stays set in this one."""
    none = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    losses = {
        word: subprocess.check_output([sys.executable, "-c", LOSSES, word], text=True, env={**none, **env}).split()
        for word, env in {"kept": {}, "as it comes": {"MALLOC_ARENA_TEST": "8"}}.items()
    }
    assert losses["kept"] == losses["as it comes"]
    assert len({*losses["kept"]}) == 4
