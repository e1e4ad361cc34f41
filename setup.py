"""What the wheel holds: the library, and as sem/shipped the settings and schemas of configs/."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["sem", "sem.*"]), "sem.shipped"],
    package_dir={"sem.shipped": "configs"},
    # The ledger of snapshots that this machine cut.
    exclude_package_data={"sem.shipped": ["*/datasets.yaml"]},
)
