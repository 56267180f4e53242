"""Files with the published schemas of RoboCasa and LIBERO, and one to spoil."""

import h5py
import pytest
from tests.datasets.hdf5 import recorded, write_libero, write_robocasa


@pytest.fixture(scope="module")
def robocasa(tmp_path_factory):
    return write_robocasa(tmp_path_factory.mktemp("casa") / "demo_gentex_im256_randcams.hdf5", recorded())


@pytest.fixture(scope="module")
def libero(tmp_path_factory):
    folder = tmp_path_factory.mktemp("libero_90")
    return write_libero(folder / "KITCHEN_SCENE7_open_the_microwave_demo.hdf5", recorded())


@pytest.fixture
def spoilt(robocasa, tmp_path):
    """A copy of RoboCasa's file, open for writing; whoever reads it closes it first."""
    file = tmp_path / "spoilt.hdf5"
    file.write_bytes(robocasa.read_bytes())
    with h5py.File(file, "r+") as root:
        yield root
