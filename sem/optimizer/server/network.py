"""What is served: a trained optimizer, its calibration and its name. Never a bare base model."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sem.core.errors import SemError
from sem.optimizer.model import confidence, rewriter
from sem.optimizer.model.confidence import Calibration
from sem.optimizer.model.fast_rewriter import Engine, FastRewriter

log = logging.getLogger("sem.serve")


@dataclass(frozen=True)
class Network:
    """A loaded optimizer."""

    name: str  # of the run
    base: str  # its base model's id
    rewriter: FastRewriter
    calibration: Calibration


def load_served_network(root: Path, name: str | None, engine: Engine) -> Network:
    """Return the optimizer `name` of the tree `root`.

    Raise SemError when its adapter changes nothing.
    """
    folder = rewriter.find_optimizer(root, name)
    if not is_trained(folder / "adapter"):
        raise SemError(f"{folder}: the adapter is zero everywhere", rewriter.TRAIN)
    base = rewriter.base_model_of(folder)["base_model_id"]
    fast_rewriter = FastRewriter.load(folder, root, engine)
    return Network(folder.name, base, fast_rewriter, confidence.load_calibration(folder))


def is_trained(adapter: Path) -> bool:
    """Return whether `adapter` changes its base model: some LoRA B is not zero."""
    from safetensors import safe_open

    with safe_open(adapter / "adapter_model.safetensors", framework="pt") as tensors:
        named = [key for key in tensors.keys() if ".lora_B." in key]  # noqa: SIM118
        return any(bool(tensors.get_tensor(key).any()) for key in named)


BEING_LOADED = "it is being loaded: try again"


class Loading(threading.Thread):
    """Loads in the background, again and again until there is something to load."""

    def __init__(
        self, load: Callable[[], Network], ready: Callable[[Network], None], retry_s: float
    ) -> None:
        super().__init__(name="loading", daemon=True)
        self._load, self._ready, self._retry_s = load, ready, retry_s
        self._ended = threading.Event()
        self.fault = "loading"
        self.cure = BEING_LOADED

    def run(self) -> None:
        while not self._ended.is_set():
            network = self._attempt()
            if network is not None:
                self.fault = ""
                self._ready(network)
                return
            self._ended.wait(self._retry_s)

    def end(self) -> None:
        """Look no further."""
        self._ended.set()

    def _attempt(self) -> Network | None:
        try:
            return self._load()
        except SemError as error:
            if self.fault != error.message:
                log.warning("not_loaded", extra={"facts": {"why": error.message}})
            self.fault, self.cure = error.message, error.hint
        except Exception as error:
            if self.fault != repr(error):
                log.exception("not_loaded")
            self.fault, self.cure = repr(error), "see the log of the service"
        return None
