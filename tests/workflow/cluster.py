"""A real Slurm cluster on this machine: two cpu nodes, one gpu node that urgent jobs take over, no accounting.

Slurm's jobs lose SLURM_CONF, so the configuration lies in /etc/slurm; whatever lay there is set aside and put back.
Every daemon is a child of this process, which ends it and waits for its end. Munge has a socket and a key of its own: a
munged that somebody else runs is neither used nor ended.
"""

import os
import shutil
import socket
import subprocess
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "squeue", "munged")
NODES = ("c1", "c2", "g1")
ETC = Path("/etc/slurm")

SLURM_CONF = """
ClusterName=test
SlurmctldHost={host}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_min_interval=100000,bf_interval=1,batch_sched_delay=0
GresTypes=gpu
DefMemPerCPU=200
SlurmdParameters=config_overrides
ReturnToService=2
SlurmdTimeout=20
KillWait=120
MinJobAge=300
MpiDefault=none
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
AccountingStorageType=accounting_storage/none
SlurmUser=root
SlurmctldPort=16817
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdSpoolDir={folder}/spool-%n
StateSaveLocation={folder}/state
NodeName=c1 NodeHostname={host} Port=17001 CPUs=4 RealMemory=8000
NodeName=c2 NodeHostname={host} Port=17002 CPUs=4 RealMemory=8000
NodeName=g1 NodeHostname={host} Port=17003 CPUs=4 RealMemory=8000 Gres=gpu:1
PartitionName=cpu Nodes=c1,c2 Default=YES MaxTime=INFINITE State=UP
PartitionName=gpu Nodes=g1 MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes=g1 MaxTime=INFINITE State=UP PriorityTier=2
"""


def strangers() -> list[str]:
    """Daemons of a Slurm that runs here and is not of these tests: only one fits in /etc/slurm."""
    running = (process.info for process in psutil.process_iter(["pid", "name"]))
    return [f"{info['name']} (process {info['pid']})" for info in running if info["name"] in ("slurmctld", "slurmd")]


@contextmanager
def slurm(folder: Path):
    """Bring the cluster up in `folder`, stop it at the end."""
    for name in ("state", *(f"spool-{node}" for node in NODES)):
        (folder / name).mkdir(parents=True)
    with ExitStack() as stack:
        stack.enter_context(_configured(folder))
        stack.enter_context(munge(folder))
        stack.enter_context(_daemon(folder, "slurmctld", "-D"))
        for node in NODES:
            stack.enter_context(_daemon(folder, "slurmd", "-D", "-N", node))
        _wait_for(_idle, folder)
        try:
            yield
        finally:
            subprocess.run(["scancel", "--user", str(os.getuid())], capture_output=True)
            _wait_for(lambda: not _said("squeue", "-h"), folder)


@contextmanager
def munge(folder: Path):
    """A munged with its socket, its key and all else in `folder`."""
    folder.chmod(0o755)  # it wants a socket that everyone may reach
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(128))
    options = (f"--{name}-file={folder}/munge.{name}" for name in ("key", "pid", "log", "seed"))
    with _daemon(folder, "munged", "--foreground", f"--socket={folder}/munge.socket", *options):
        _wait_for((folder / "munge.socket").exists, folder)
        yield


@contextmanager
def _configured(folder):
    """The cluster's configuration in /etc/slurm."""
    aside = ETC.with_name("slurm.set-aside-by-tests")
    if aside.exists():  # a test was killed: what lies in /etc/slurm is its own
        shutil.rmtree(ETC, ignore_errors=True)
    elif ETC.exists():
        ETC.rename(aside)
    ETC.mkdir()
    (ETC / "slurm.conf").write_text(SLURM_CONF.format(host=socket.gethostname(), folder=folder))
    (ETC / "gres.conf").write_text("NodeName=g1 Name=gpu File=/dev/null\n")
    (ETC / "cgroup.conf").write_text("CgroupAutomount=no\n")
    try:
        yield
    finally:
        shutil.rmtree(ETC)
        if aside.exists():
            aside.rename(ETC)


@contextmanager
def _daemon(folder, *words):
    """A daemon in the foreground, ended at the end; what it says is in `folder`."""
    with open(folder / "daemons.log", "ab") as said:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _idle():
    states = _said("sinfo", "-h", "-N", "-o", "%N %t").split("\n")
    return len({line for line in states if line.endswith(" idle")}) == len(NODES)


def _said(*words):
    return subprocess.run(words, capture_output=True, text=True).stdout


def _wait_for(condition, folder, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            told = (folder / "daemons.log").read_text()[-2000:]
            raise RuntimeError(f"the Slurm cluster did not come up or did not end its jobs: {told}")
        time.sleep(0.1)
