# Backups of the long stages' outputs: after a failed job its old outputs are restored, and the job stays planned.
#
# Snakemake removes a job's outputs before the job starts, records a failed job as if it were done, and notices a missing
# file only if a job that runs needs it: after a failed job its outputs were gone, and the next run had nothing to do.
# `update()` restores the files, but with that record they count as current. So the outputs of the long stages are backed
# up during a run, and restored ones are marked as incomplete, as is the report, which depends on all others: Snakemake
# reruns their jobs (`rerun-incomplete` in profiles/default).

KEPT = ("train_member", "predict_fold", "evaluate_trial")


def to_run(*names):
    """The jobs of these rules that this run will do or has done."""
    return [job for job in workflow.dag.needrun_jobs(exclude_finished=False) if job.rule.name in names]


def back_up_outputs():
    """Before the first job: back up the outputs that will be replaced, and mark the report as incomplete."""
    for job in to_run(*KEPT):
        for path in job.output:
            files.back_up(path)
    for job in to_run("report"):
        workflow.persistence.started(job)


def restore_outputs():
    """After a failed run: restore outputs that were not replaced, after marking them as incomplete."""
    for job in to_run(*KEPT):
        if any(files.has_backup(path) and not Path(path).exists() for path in job.output):
            workflow.persistence.started(job)
        for path in job.output:
            if files.restore(path):
                print(f"put back {path}, as it was before this run: its job is still to be done", file=sys.stderr)


def discard_backups():
    """After a successful run: remove the backups."""
    for job in to_run(*KEPT):
        for path in job.output:
            files.discard_backup(path)
