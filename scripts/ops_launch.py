"""Train a prepared run on a rented GPU through SkyPilot; without --yes nothing is rented.

    python scripts/ops_launch.py --sem shop --cloud runpod --gpu RTX4090            the task only
    python scripts/ops_launch.py --sem shop --spot --max-cost 5 --max-hours 4 --yes

The price is shown first. SkyPilot refuses a machine that would exceed --max-cost within
--max-hours; a spot machine that is taken away is replaced and the run goes on from its last
checkpoint; at the end, or when anything fails, the machine is ended. Keys are not sent.

Reads   what `train.run --host` would send, see docs/hosts.md
Writes  models/SEM/cloud/RUN/{task.yaml,workdir/,came/}, models/SEM/adapters/RUN/
"""

from sem.core import console
from sem.core.project import Project
from sem.core.run import find


def main(argv: list[str] | None = None) -> None:
    parser = console.parser(__doc__, "sem", "run")
    words = "a cloud of SkyPilot (default: runpod)"
    parser.add_argument("--cloud", nargs="?", default="runpod", const="runpod", help=words)
    parser.add_argument("--gpu", default="RTX4090", help="by SkyPilot's name (default: RTX4090)")
    parser.add_argument("--count", type=int, default=1, help="GPUs of that machine (default: 1)")
    parser.add_argument("--spot", action="store_true", help="cheaper, and may be taken away")
    parser.add_argument("--max-cost", type=float, default=0.0, help="US dollars, for the run")
    parser.add_argument("--max-hours", type=float, default=6.0, help="of training (default: 6)")
    parser.add_argument("--price", action="store_true", help="also ask SkyPilot for the price")
    parser.add_argument("--yes", action="store_true", help="rent, train, fetch, end")
    args = parser.parse_args(argv)
    from sem.ops.cloud import cloud_launch, cloud_task

    project = Project.load(args.sem)
    run = find(project, args.run, finished=False)
    cost = (args.max_cost, args.max_hours)
    wanted = cloud_task.Wanted(args.cloud, args.gpu, args.count, args.spot, *cost)
    tools = cloud_launch.Tools.of(args.cloud)
    if args.yes:
        cloud_launch.refuse_cpu(run)
        cloud_launch.train(project, run, wanted, tools)
        return console.done(run.folder)
    path = cloud_launch.write(project, run, wanted)
    print(path.read_text("utf-8"))
    if args.price:
        cloud_launch.price(tools, path)
    else:
        console.note(f"nothing was rented; the price: `sky launch --dryrun {path}` or --price")
    console.done(path)


if __name__ == "__main__":
    console.run(main)
