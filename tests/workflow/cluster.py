"""A real Slurm cluster on this machine: two cpu nodes, one gpu node that urgent jobs take over, no accounting.

Slurm's jobs lose SLURM_CONF, so the configuration lies in /etc/slurm; whatever lay there is set aside and put back.
"""

import os
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "squeue", "munged", "runuser")
ETC = Path("/etc/slurm")

SLURM_CONF = """
ClusterName=test
SlurmctldHost={host}
AuthType=auth/munge
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
KillWait=5
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


@contextmanager
def slurm(folder: Path):
    """Bring the cluster up in `folder`, stop it at the end."""
    for name in ("state", "spool-c1", "spool-c2", "spool-g1"):
        (folder / name).mkdir(parents=True)
    aside = ETC.with_name("slurm.set-aside-by-tests")
    if aside.exists():  # a test was killed: what lies in /etc/slurm is its own
        shutil.rmtree(ETC, ignore_errors=True)
    elif ETC.exists():
        ETC.rename(aside)
    ETC.mkdir()
    (ETC / "slurm.conf").write_text(SLURM_CONF.format(host=socket.gethostname(), folder=folder))
    (ETC / "gres.conf").write_text("NodeName=g1 Name=gpu File=/dev/null\n")
    (ETC / "cgroup.conf").write_text("CgroupAutomount=no\n")
    own_munge = subprocess.run(["pgrep", "-x", "munged"], capture_output=True).returncode != 0
    try:
        if own_munge:
            subprocess.run(["install", "-d", "-o", "munge", "-g", "munge", "-m", "755", "/run/munge"], check=True)
            subprocess.run(["runuser", "-u", "munge", "--", "munged"], check=True)
        subprocess.run(["slurmctld"], check=True)
        for node in ("c1", "c2", "g1"):
            subprocess.run(["slurmd", "-N", node], check=True)
        _wait_until_idle(folder)
        yield
    finally:
        subprocess.run(["scancel", "--user", str(os.getuid())], capture_output=True)
        for pid in [*folder.glob("slurmd-*.pid"), folder / "slurmctld.pid"]:
            _stop(pid)
        if own_munge:
            subprocess.run(["pkill", "-x", "munged"])
        shutil.rmtree(ETC)
        if aside.exists():
            aside.rename(ETC)


def _wait_until_idle(folder, seconds=30):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        states = subprocess.run(["sinfo", "-h", "-N", "-o", "%N %t"], capture_output=True, text=True).stdout.split("\n")
        if len({line for line in states if line.endswith(" idle")}) == 3:
            return
        time.sleep(0.3)
    raise RuntimeError(f"the Slurm cluster did not come up: {(folder / 'slurmctld.log').read_text()[-2000:]}")


def _stop(pid_file):
    if not pid_file.exists():
        return
    pid = int(pid_file.read_text())
    try:
        os.kill(pid, 15)
        for _ in range(50):
            os.kill(pid, 0)
            time.sleep(0.1)
        os.kill(pid, 9)
    except ProcessLookupError:
        pass
