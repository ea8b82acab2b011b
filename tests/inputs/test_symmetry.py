"""The symmetries of an image, beside those of torch."""

import torch

from sdss_photoz.inputs.symmetry import symmetry_table, transform


def test_symmetries_are_the_eight_flips_and_quarter_turns():
    image = torch.arange(64 * 64).reshape(64, 64)
    found = {tuple(image.flatten()[row].tolist()) for row in symmetry_table(64)}
    flips = [image, image.flip(0)]
    expected = {tuple(torch.rot90(flip, turns, (0, 1)).flatten().tolist()) for flip in flips for turns in range(4)}
    assert len(found) == 8
    assert found == expected


def test_a_transformed_cube_is_the_cube_under_that_symmetry():
    cubes = torch.randn(2, 64, 64, 5)
    for symmetry, row in enumerate(torch.from_numpy(symmetry_table(64))):
        assert torch.equal(transform(cubes, symmetry).reshape(2, -1, 5), cubes.reshape(2, -1, 5)[:, row])
