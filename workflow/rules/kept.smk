# What a refused job was to replace comes back, and the job stays planned.
#
# Snakemake removes a job's outputs before the job starts, notes a job that failed as if it were done, and misses a file
# only where a job that runs needs it: after a refused job its files were gone, and the next run found nothing to do.
# `update()` restores the files, but with that note they pass for current ones. So the files of the long stages have
# a second name while a run lasts, and whatever stands though a job before it was not done is marked as begun: Snakemake
# makes what is marked so again (`rerun-incomplete` in profiles/default).

KEPT = ("train_member", "predict_fold", "evaluate_trial")


def to_run(*names):
    """The jobs of these rules that this run is to do, or has done."""
    return [job for job in workflow.dag.needrun_jobs(exclude_finished=False) if job.rule.name in names]


def keep_outputs():
    """Before the first job: keep what will be replaced, and mark the report, which rests on all else, as begun."""
    for job in to_run(*KEPT):
        for path in job.output:
            files.keep(path)
    for job in to_run("report"):
        workflow.persistence.started(job)


def put_back_outputs():
    """After a run that failed: put back what was kept and has no successor, marked first."""
    for job in to_run(*KEPT):
        if any(files.is_kept(path) and not Path(path).exists() for path in job.output):
            workflow.persistence.started(job)
        for path in job.output:
            if files.put_back(path):
                print(f"put back {path}, as it was before this run: its job is still to be done", file=sys.stderr)


def let_go_outputs():
    """After a run that ended well."""
    for job in to_run(*KEPT):
        for path in job.output:
            files.let_go(path)
