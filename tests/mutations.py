"""Faults that the tests must notice: each is put into a copy of the tree, and the tests named beside it must fail.

    python tests/mutations.py                 all of them, some ten minutes on two cores
    python tests/mutations.py median width    those with one of these words in their names
    python tests/mutations.py --list

The working tree is never touched. A mutation that no test notices survives: the command names it and exits with 1.
Where tests look at a finished run, the tiny run is made once in the copy, and a mutation reruns only the rule that it
names. A text that is not found exactly once, as after code has moved, is an error that names it: correct the table.
"""

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "src/sdss_photoz"
VERSIONS = "tests/workflow/test_versions.py::test_results_change_only_with_their_version"


class Mutation(NamedTuple):
    """A fault: in `path` the text `old` becomes `new`.

    `tests` are pytest's words for the tests of which one must fail; `rule` is the rule that must run again before them,
    where they look at a finished run.
    """

    name: str
    path: str
    old: str
    new: str
    tests: tuple[str, ...]
    rule: str | None = None


MUTATIONS = [
    # archive and sample
    Mutation(
        "targets of other surveys pass the query",
        f"{PACKAGE}/archive/queries/extended.sql",
        "zi.primtarget >= 64",
        "zi.primtarget >= 0",
        ("tests/archive/test_services.py::test_the_query_keeps_the_papers_rows_and_no_other",),
    ),
    Mutation(
        "the limit in magnitude is a tenth too faint",
        f"{PACKAGE}/sample/selection.py",
        'table["dered_petro_r"].le(sample.r_max)',
        'table["dered_petro_r"].le(sample.r_max + 0.1)',
        ("tests/sample/test_selection.py",),
    ),
    Mutation(
        "of two spectra the larger redshift error stays",
        f"{PACKAGE}/sample/selection.py",
        'np.lexsort((table["spec_id"], error, labels))',
        'np.lexsort((table["spec_id"], -error, labels))',
        ("tests/sample/test_selection.py::test_of_two_spectra_the_smaller_redshift_error_stays",),
    ),
    Mutation(
        "galaxies outside a trial's condition are tested",
        f"{PACKAGE}/sample/folds.py",
        "trainable & takes_part, testable & takes_part",
        "trainable & takes_part, testable",
        ("tests/sample/test_folds.py::test_galaxies_that_do_not_fulfil_a_trials_condition_take_no_part_and_the_others_keep_their_roles",),
    ),
    Mutation(
        "a comparison with a missing value is false",
        f"{PACKAGE}/condition.py",
        "dtype=bool), unknown)",
        "dtype=bool), unknown & False)",
        ("tests/test_condition.py::test_a_condition_is_true_false_or_unknown_where_sql_says_so",),
    ),
    Mutation(
        "a box limits the last condition of a query of one's own alone",
        f"{PACKAGE}/archive/own_query.py",
        'WHERE ({conditions}\\n)\\n"',
        'WHERE {conditions}\\n"',
        ("tests/archive/test_own_query.py::test_a_box_limits_all_of_its_conditions",),
    ),
    Mutation(
        "galaxies of a group fall into several folds",
        f"{PACKAGE}/sample/folds.py",
        '    if folds.by == "group":\n        return groups\n',
        '    if folds.by == "group":\n        return objects\n',
        ("tests/sample/test_folds.py::test_neighbours_within_25_arcsec_share_every_role",),
    ),
    Mutation(
        "the node of the great circle counts twice",
        f"{PACKAGE}/surveys/great_circle.py",
        "    return node + np.degrees(m), np.degrees(nu), cos_theta, sin_theta",
        "    return 2 * node + np.degrees(m), np.degrees(nu), cos_theta, sin_theta",
        ("tests/frames/test_footprint.py::test_great_circle_terms_place_pixels_as_the_headers_of_real_frames_do",
         "tests/frames/test_footprint.py::test_fields_anywhere_on_the_sky_are_found"),
    ),
    # cubes
    Mutation(
        "every cube is transposed",
        f"{PACKAGE}/cubes/make.py",
        "flux[galaxy, :, :, band] = image\n",
        "flux[galaxy, :, :, band] = image.T\n",
        (f"{VERSIONS}[cubes]",),
        "make_cubes",
    ),
    Mutation(
        "larger cubes look for frames no further than the usual ones",
        f"{PACKAGE}/frames/footprint.py",
        "+ grid.half_diagonal  # arcsec",
        "+ CUBE.half_diagonal  # arcsec",
        ("tests/frames/test_footprint.py::test_fields_whose_centres_are_as_far_as_half_the_diagonals_are_near",),
    ),
    Mutation(
        "a store of another grid passes for the usual one",
        f"{PACKAGE}/cubes/layout.py",
        "other = [] if grid == CUBE else",
        "other = [] if grid else",
        ("tests/cubes/test_store.py::test_a_store_of_another_grid_is_refused_as_one_of_another_selection_is",),
    ),
    Mutation(
        "East is to the right",
        f"{PACKAGE}/cubes/resample.py",
        "np.stack([-self._step * east, self._step * north, corner], axis=-1)",
        "np.stack([self._step * east, self._step * north, corner - 2 * self._centre * self._step * east], axis=-1)",
        ("tests/cubes/test_resample.py::test_homography_is_astropy_wcs_to_1e_8_pixels",),
    ),
    Mutation(
        "a tap of the kernel has the wrong sign",
        f"{PACKAGE}/cubes/kernel.py",
        "    b = -plus / (fraction + 1) ** 2\n",
        "    b = plus / (fraction + 1) ** 2\n",
        ("tests/cubes/test_resample.py::test_weights_have_unit_sum_and_the_form_of_lanczos",
         "tests/cubes/test_resample.py::test_kernel_equals_the_rules_written_plainly"),
    ),
    Mutation(
        "flux is not scaled with the area of a pixel",
        f"{PACKAGE}/cubes/resample.py",
        "return self._area * (cosine * cosine * cosine)",
        "return np.maximum(cosine, 0) ** 3",
        ("tests/cubes/test_resample_invariance.py::test_constant_frame_gives_that_constant_times_the_ratio_of_areas",),
    ),
    Mutation(
        "frames are stacked by their mean",
        f"{PACKAGE}/cubes/stack.py",
        'STACKS = {"median": median_stack,',
        'STACKS = {"median": mean_stack,',
        ("tests/cubes/test_make.py::test_of_three_runs_the_middle_one_counts_or_their_mean",),
    ),
    Mutation(
        "depth is that of the last pixel",
        f"{PACKAGE}/cubes/stack.py",
        "            depth = max(depth, count)\n",
        "            depth = count\n",
        ("tests/cubes/test_stack.py",),
    ),
    Mutation(
        "seeing is in pixels",
        f"{PACKAGE}/cubes/quality.py",
        '_median(used, fields, f"psfWidth_{band}")',
        '_median(used, fields, f"psfWidth_{band}") / 0.396',
        ("tests/cubes/test_quality.py::test_frames_are_named_with_the_median_of_their_seeing_and_sky",),
    ),
    # training
    Mutation(
        "labels are a bin too high",
        f"{PACKAGE}/scores/grid.py",
        "(inside / self.step).astype(np.int64), self.bins - 1)",
        "(inside / self.step).astype(np.int64) + 1, self.bins - 1)",
        ("tests/training/data/test_examples.py::test_a_redshift_falls_into_the_bin_between_whose_edges_it_lies",),
    ),
    Mutation(
        "the noise of all bands is that of u",
        f"{PACKAGE}/inputs/stretch.py",
        "x = x / _noise(x, noise)",
        "x = x / SDSS.noise[0]",
        ("tests/inputs/test_stretch.py::test_asinh_stretch_is_asinh_of_flux_over_the_noise_of_its_band",),
    ),
    Mutation(
        "the last epoch is kept",
        f"{PACKAGE}/training/fit.py",
        'if not self.state.history or loss < min(row["validation_loss"] for row in self.state.history):',
        "if True:",
        ("tests/training/test_fit.py::test_the_written_network_is_that_of_the_best_epoch_where_later_ones_are_worse",),
    ),
    Mutation(
        "the weight decay of a group is added to its gradients",
        f"{PACKAGE}/training/adam.py",
        "kernel = torch._fused_adamw_ if decay else torch._fused_adam_",
        "kernel = torch._fused_adam_",
        ("tests/training/test_groups.py::test_the_optimizer_of_groups_is_torchs_also_from_a_state_in_the_middle",),
    ),
    Mutation(
        "training galaxies are predicted as test galaxies",
        f"{PACKAGE}/training/jobs.py",
        'chosen = select(galaxies, folds, fold, "test")',
        'chosen = select(galaxies, folds, fold, "train")',
        ("tests/training/test_inference.py::test_each_test_galaxy_has_a_row_per_member",),
    ),
    Mutation(
        "cubes are predicted for other galaxies",
        f"{PACKAGE}/training/inference.py",
        "cubes = load_cubes_for(store, rows[part], digest, without_target)",
        "cubes = load_cubes_for(store, rows[part][::-1], digest, without_target)",
        ("tests/training/test_inference.py::test_distributions_are_those_of_the_network_on_the_galaxys_own_cube",),
    ),
    # ways to predict
    Mutation(
        'the CRPS of a mixture counts the spread of its components whole',
        f"{PACKAGE}/targets/mixture.py",
        'to_value - 0.5 * (weights',
        'to_value - 1.0 * (weights',
        ('tests/targets/test_mixture.py',),
    ),
    Mutation(
        'variances of two components are not added in the CRPS',
        f"{PACKAGE}/targets/mixture.py",
        '(variance[:, :, None] + variance[:, None]).sqrt()',
        'variance[:, :, None].sqrt()',
        ('tests/targets/test_mixture.py',),
    ),
    Mutation(
        'the likelihood is not in the unit of the label',
        f"{PACKAGE}/targets/mixture.py",
        '.mean() + math.log(self.deviation)',
        '.mean()',
        ('tests/targets/test_mixture.py',),
    ),
    Mutation(
        'components start as one where labels are tied',
        f"{PACKAGE}/targets/mixture.py",
        'APART = 0.01',
        'APART = 0.0',
        ('tests/targets/test_mixture.py',),
    ),
    Mutation(
        'a distribution loses what lies beyond the grid',
        f"{PACKAGE}/targets/base.py",
        'cdf[:, 0], cdf[:, -1] = 0, 1',
        'cdf[:, 0] = 0',
        ('tests/targets/test_mixture.py',),
    ),
    Mutation(
        'residuals are point less value',
        f"{PACKAGE}/targets/regression.py",
        'np.quantile(values - points',
        'np.quantile(points - values',
        ('tests/targets/test_regression.py',),
    ),
    Mutation(
        'the root of the mean square has no gradient at 0',
        f"{PACKAGE}/targets/regression.py",
        'TINY = 1e-12',
        'TINY = 0.0',
        ('tests/targets/test_regression.py',),
    ),
    Mutation(
        'the validation loss is a mean square',
        f"{PACKAGE}/targets/regression.py",
        'else math.sqrt(total / count)',
        'else total / count',
        ('tests/targets/test_regression.py',),
    ),
    Mutation(
        'the last layer of a regression computes in bfloat16',
        f"{PACKAGE}/training/step.py",
        'if head.exact and not self.aligned:',
        'if False:',
        ('tests/training/test_heads.py::test_the_last_layer_of_a_regression_computes_in_float32_under_autocast',),
    ),
    Mutation(
        'weights, means and widths are smoothed over their neighbours',
        f"{PACKAGE}/networks/inception_small.py",
        'if self.ordered else x',
        'if True else x',
        ('tests/training/test_heads.py::test_outputs_that_are_no_bins_are_not_smoothed_over_their_neighbours',),
    ),
    Mutation(
        'passes with dropout drop the same features',
        f"{PACKAGE}/networks/parts/dropout.py",
        'torch.full_like(layer.step, step)',
        'torch.full_like(layer.step, 0)',
        ('tests/training/test_heads.py::test_dropout_is_active_within_a_pass_alone_and_follows_its_number',),
    ),
    Mutation(
        'point estimates are those of the last symmetry',
        f"{PACKAGE}/training/inference.py",
        'points[index, part] = (sum(map(head.point, each)) / len(each))',
        'points[index, part] = (head.point(each[-1]))',
        ('tests/training/test_heads.py::test_averaged_over_the_symmetries_predictions_of_a_turned_cube_are_those_of_the_cube',),
    ),
    # evaluation
    Mutation(
        "the bias is a median",
        f"{PACKAGE}/scores/metrics.py",
        '"bias": float(np.mean(dz)),',
        '"bias": float(np.median(dz)),',
        (f"{VERSIONS}[evaluation]",),
        "evaluate_trial",
    ),
    Mutation(
        "a width is doubled",
        f"{PACKAGE}/scores/pdfs.py",
        "    return quantile(pdf, 1 - tail, grid) - quantile(pdf, tail, grid)\n",
        "    return 2 * (quantile(pdf, 1 - tail, grid) - quantile(pdf, tail, grid))\n",
        (f"{VERSIONS}[evaluation]",),
        "evaluate_trial",
    ),
    Mutation(
        "the archive's redshifts are reversed against their galaxies",
        f"{PACKAGE}/evaluation/evaluate.py",
        'archive = galaxies["z_archive"].to_numpy(np.float64) if "z_archive"',
        'archive = galaxies["z_archive"].to_numpy(np.float64)[::-1] if "z_archive"',
        (f"{VERSIONS}[evaluation]",),
        "evaluate_trial",
    ),
    Mutation(
        "extinction is added to magnitudes",
        f"{PACKAGE}/methods/local_linear.py",
        'galaxies[f"model_mag_{b}"].to_numpy(np.float64) - galaxies',
        'galaxies[f"model_mag_{b}"].to_numpy(np.float64) + galaxies',
        ("tests/methods/test_local_linear.py",),
    ),
    Mutation(
        "test galaxies train the regression",
        f"{PACKAGE}/evaluation/evaluate.py",
        'train = (role.isin(["train", "validation"])',
        'train = (role.isin(["train", "validation", "test"])',
        ("tests/evaluation/test_evaluate.py",),
    ),
    Mutation(
        "an ensemble is its first member",
        f"{PACKAGE}/scores/pdfs.py",
        "    return mean / len(members)\n",
        "    return normalise(members[0])\n",
        ("tests/scores/test_pdfs.py", "tests/evaluation/test_evaluate.py"),
    ),
    Mutation(
        "CRPS integrates squares with a half",
        f"{PACKAGE}/scores/pdfs.py",
        "    return (a * a + a * b + b * b) / 3\n",
        "    return (a * a + b * b) / 2\n",
        ("tests/scores/test_pdfs.py",),
    ),
    Mutation(
        "PIT is that of the bin's lower edge",
        f"{PACKAGE}/scores/pdfs.py",
        "    return below + fraction * (cdf[rows, index + 1] - below)\n",
        "    return below\n",
        ("tests/scores/test_pdfs.py",),
    ),
    Mutation(
        "the bootstrap draws galaxies",
        f"{PACKAGE}/scores/metrics.py",
        "np.bincount(random.integers(count, size=count), minlength=count)[cells]",
        "np.bincount(random.integers(len(rows), size=len(rows)), minlength=len(rows))",
        ("tests/scores/test_metrics.py",),
    ),
    Mutation(
        "residuals of values are divided by 1 + true",
        f"{PACKAGE}/evaluation/kinds.py",
        '{"residual": predicted - true}',
        '{"residual": (predicted - true) / (1 + true)}',
        ("tests/evaluation/test_kinds.py",),
    ),
    Mutation(
        "ties count wholly in the area under the ROC curve",
        f"{PACKAGE}/scores/yes_no.py",
        "rankdata(probability)[yes]",
        'rankdata(probability, "max")[yes]',
        ("tests/scores/test_yes_no.py",),
    ),
    # report
    Mutation(
        "PIT bands are ten times too wide",
        f"{PACKAGE}/report/sections/pit.py",
        "    spread = 2 * np.sqrt(",
        "    spread = 20 * np.sqrt(",
        (f"{VERSIONS}[report]",),
        "report",
    ),
    Mutation(
        "error bars are ten times too wide",
        f"{PACKAGE}/report/sections/residuals.py",
        "1.2533 * of_mean",
        "12.533 * of_mean",
        (f"{VERSIONS}[report]",),
        "report",
    ),
    Mutation(
        "error bars are drawn ten times too wide",
        f"{PACKAGE}/report/sections/residuals.py",
        'right.errorbar(centre, part["sigma_mad"], part["sigma_mad_error"], **style)',
        'right.errorbar(centre, part["sigma_mad"], 10 * part["sigma_mad_error"], **style)',
        ("tests/report/sections/test_residuals.py",),
    ),
    Mutation(
        "the axes of the headline figure are swapped",
        f"{PACKAGE}/report/sections/redshifts.py",
        'count[phot, spec] = inside["galaxies"]',
        'count[spec, phot] = inside["galaxies"]',
        ("tests/report/sections/test_redshifts.py",),
    ),
]  # fmt: skip


def check(mutations: list[Mutation], root: Path = ROOT) -> list[str]:
    """What is wrong with the table: a sentence for each text that a file does not hold exactly once."""
    wrong = []
    for mutation in mutations:
        path = root / mutation.path
        count = path.read_text(encoding="utf-8").count(mutation.old) if path.is_file() else 0
        if count != 1:
            found = f"holds it {count} times" if path.is_file() else "does not exist"
            wrong.append(f"{mutation.name!r}: {mutation.path} {found}, the text {mutation.old!r}")
        for words in mutation.tests:
            file, *name = words.partition("[")[0].split("::")
            if not (root / file).is_file() or (name and f"def {name[0]}(" not in (root / file).read_text("utf-8")):
                wrong.append(f"{mutation.name!r}: there is no test {words}")
    return wrong


def copy_tree(target: Path) -> None:
    """Copy what git knows or would add of the working tree."""
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(words, cwd=ROOT, capture_output=True, check=True, text=True).stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


@contextlib.contextmanager
def mutated(mutation: Mutation, tree: Path) -> Iterator[None]:
    """The tree with a mutation, as it was afterwards; the old time of the file keeps what was compiled of it."""
    path = tree / mutation.path
    kept = path.with_name(f"{path.name}.kept")
    shutil.copy2(path, kept)
    path.write_text(path.read_text(encoding="utf-8").replace(mutation.old, mutation.new), encoding="utf-8")
    try:
        yield
    finally:
        kept.replace(path)


def run(words: list, tree: Path) -> subprocess.CompletedProcess:
    """Run a Python command in the copy, which finds the copy's package alone."""
    shared = os.environ.get("SDSS_PHOTOZ_DATA", str(ROOT.parent / "shared" / "data"))
    environment = {**os.environ, "PYTHONPATH": str(tree / "src"), "SDSS_PHOTOZ_DATA": shared, "NO_COLOR": "1"}
    words = [sys.executable, "-m", *map(str, words)]
    return subprocess.run(words, cwd=tree, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def snakemake(tree: Path, directory: Path, *words) -> subprocess.CompletedProcess:
    command = ["snakemake", "--snakefile", tree / "Snakefile", "--directory", directory, "--cores", "2"]
    return run([*command, "--configfile", tree / "tests" / "tiny.yaml", "--rerun-triggers", "mtime", *words], tree)


def pytest(tree: Path, tests, directory: Path) -> subprocess.CompletedProcess:
    return run(["pytest", "--numprocesses", "0", "-q", "-x", "--tiny-run", directory, *tests], tree)


def refuse(what: str, done: subprocess.CompletedProcess) -> None:
    """End where something other than a mutation is wrong."""
    print(done.stdout[-4000:])
    raise SystemExit(f"{what} (exit status {done.returncode})")


def noticed(mutation: Mutation, tree: Path, finished: Path) -> str | None:
    """Who noticed a mutation; None where nobody did."""
    directory = finished
    if mutation.rule:
        directory = tree / "mutated run"
        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(finished, directory)
    with mutated(mutation, tree):
        if mutation.rule:
            done = snakemake(tree, directory, "--forcerun", mutation.rule, "--until", mutation.rule)
            if done.returncode:
                return f"the run fails in {mutation.rule}"
        done = pytest(tree, mutation.tests, directory)
    if done.returncode not in (0, 1):
        refuse(f"{mutation.name}: its tests cannot be run", done)
    failed = [line.split()[1] for line in done.stdout.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    return failed[0] if done.returncode else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "words", nargs="*", metavar="WORD", help="only mutations with one of these words in their names"
    )
    parser.add_argument("--list", action="store_true", help="list the mutations and check the table, run nothing")
    arguments = parser.parse_args()
    if wrong := check(MUTATIONS):
        raise SystemExit("\n".join(["the table of mutations does not fit the tree:", *wrong]))
    chosen = [one for one in MUTATIONS if not arguments.words or any(word in one.name for word in arguments.words)]
    if arguments.list:
        print(*(f"{one.name}  ({one.path})" for one in chosen), sep="\n")
        return 0
    survivors = []
    with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
        tree, finished = Path(folder) / "tree", Path(folder) / "run"
        copy_tree(tree)
        if any("tests/workflow" in test for one in chosen for test in one.tests):
            print("the tiny run, without any mutation", flush=True)
            if (done := snakemake(tree, finished)).returncode:
                refuse("the tiny run fails without any mutation", done)
        print("the tests, without any mutation", flush=True)
        tests = list(dict.fromkeys(test for one in chosen for test in one.tests))
        if (done := pytest(tree, tests, finished)).returncode:
            refuse("tests fail without any mutation", done)
        for mutation in chosen:
            began = time.monotonic()
            by = noticed(mutation, tree, finished)
            print(f"{time.monotonic() - began:5.0f} s  {mutation.name}: {by or 'SURVIVES'}", flush=True)
            survivors += [] if by else [mutation.name]
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} mutations were noticed")
    if survivors:
        print("these survive:", *survivors, sep="\n  ")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
