"""Rewrite one prompt with a trained adapter, with the flags of the older script.

    python src/inference.py --adapter_path ./checkpoints/lora_model/final_adapter --prompt "..."

Without --adapter_path it is the model that `fab optimizer.rewrite` takes. There is no fallback:
without a trained adapter nothing is written.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from sem.core import console, projects


def main() -> None:
    parser = console.make_argument_parser(__doc__)
    parser.add_argument("--adapter_path", type=Path, help="a folder with adapter_config.json")
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--max_length", type=int, default=512, help="tokens (default: 512)")
    args = parser.parse_args()
    console.print_note("src/inference.py is `fab optimizer.rewrite`")
    from sem.optimizer.model.rewriter import Decoding, TorchRewriter, find_optimizer

    root = projects.project_tree()
    if args.adapter_path is None:
        network = TorchRewriter.load(find_optimizer(root), root)
    else:
        network = TorchRewriter.of_adapter(args.adapter_path, root)
    print(network.rewrite([args.prompt], Decoding(max_tokens=args.max_length))[0].text)


if __name__ == "__main__":
    console.run_main(main)
