"""What the wheel holds: the library, and as sem/shipped the settings and schemas of configs/."""

from setuptools import find_namespace_packages, setup

# Folders of YAML, templates and pages count as packages: setuptools wants them named.
SETTINGS = [f"sem.shipped.{name}" for name in find_namespace_packages("configs")]

setup(
    packages=[
        *find_namespace_packages(include=["sem", "sem.*"]),
        "sem.shipped",
        *SETTINGS,
    ],
    package_dir={"sem.shipped": "configs"},
    # The ledger of snapshots that this machine cut.
    exclude_package_data={"": ["datasets.yaml"]},
)
