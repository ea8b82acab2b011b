# From the survey's archive to photometric redshifts with their distributions.
#   snakemake --cores all                          the default run: a simulated sky, offline, minutes on two cores
#   snakemake --cores all --configfile FILE.yaml   another run; its results lie under results/<run>
#   snakemake --profile slurm                      the same on a cluster


# The default configuration is not merged into one of the command line. Jobs read their run's plan.
if workflow.is_main_process and not workflow.overwrite_configfiles:

    configfile: f"{workflow.basedir}/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/archive.smk"
include: "workflow/rules/sample.smk"
include: "workflow/rules/cubes.smk"
include: "workflow/rules/published.smk" if PUBLISHED else "workflow/rules/frames.smk"
include: "workflow/rules/training.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/kept.smk"


localrules:
    all,
    query_galaxies,
    query_fields,
    select_galaxies,
    plan_frames,
    assign_folds,
    create_store,


# The report needs everything else.
rule all:
    default_target: True
    input:
        report=f"{RUN}/report/index.html",


# Only in the main process, not in its jobs.
onstart:
    write_plan(CONFIG, VERSION)
    back_up_outputs()


onsuccess:
    discard_backups()


onerror:
    restore_outputs()
