"""The tree of a fit as a netCDF file."""

import pytest
import xarray

import probae as pa

ROWS, D = 25, 5


@pytest.mark.parametrize("name", ["sampler", "point fit"])
def test_a_tree_comes_back_from_a_file(name, tmp_path, run, exact, frame, normal):
    x = frame.mask(normal(ROWS, D, seed=12).numpy() > 1)
    tree = pa.to_datatree(run if name == "sampler" else exact, x, draws=5)
    path = pa.save(tree, tmp_path / "run.nc")
    again = xarray.open_datatree(path, engine="h5netcdf").load()
    assert again.identical(tree)
    assert again["observed_data"]["obs"].values.tolist() == list(frame.index)
    assert [file.name for file in tmp_path.iterdir()] == ["run.nc"]


def test_a_failure_while_writing_leaves_the_old_file(run, tmp_path, frame):
    path = pa.save(pa.to_datatree(run, frame, draws=2, groups=["observed_data"]), tmp_path / "run.nc")
    before = path.read_bytes()
    tree = pa.to_datatree(run, frame, groups=["log_likelihood"])
    tree["log_likelihood"].attrs["x"] = object()  # nothing netCDF can hold
    with pytest.raises(TypeError):
        pa.save(tree, path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["run.nc"]
    with pytest.raises(pa.FileError, match="could not be written"):
        pa.save(pa.to_datatree(run, frame, groups=["observed_data"]), tmp_path / "nowhere" / "run.nc")
