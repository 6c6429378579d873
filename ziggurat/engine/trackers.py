"""Which trackers a run has beside its JSON lines: TensorBoard, W&B, MLflow."""

from importlib.util import find_spec
from typing import Any

from mmengine.config import Config, ConfigDict

from backbones.errors import UserError, unknown
from ziggurat.engine.console import say_note
from ziggurat.engine.disk_faults import JsonLines
from ziggurat.engine.tracker_backends import MLflow, TensorBoard, Tracker, WeightsAndBiases

JSON_LINES = ("LocalVisBackend", JsonLines.__name__)
# Name of mmengine's backend, as configs have it -> ours. mmengine's fail with the present releases of W&B and MLflow.
TRACKERS: dict[str, type[Tracker]] = {
    "TensorboardVisBackend": TensorBoard,
    "WandbVisBackend": WeightsAndBiases,
    "MLflowVisBackend": MLflow,
}
# mmengine's other backends that need a package.
OTHERS = {"ClearML": "clearml", "Neptune": "neptune", "DVCLive": "dvclive", "Aim": "aim"}
OWN_NAMES = {tracker.__name__: tracker for tracker in TRACKERS.values()}
CHOICES = {tracker.package: tracker for tracker in TRACKERS.values()}  # the words of ``track``


def use_trackers(cfg: Config) -> None:
    """Settles the backends of a run's visualizer, in place: JSON lines always, and the trackers that were asked for.

    Trackers are those in ``visualizer.vis_backends`` and those that ``track`` names, one word or a list. A test, which
    is a config without training data, has none. TensorBoard is left out with a note where it is not installed.

    Raises:
        UserError: ``track`` names another tracker, or the package of a tracker other than TensorBoard is not
            installed.
    """
    visualizer = cfg.get("visualizer") or ConfigDict(type="Visualizer")
    given = visualizer.get("vis_backends") or []
    given = [ConfigDict(backend) for backend in ([given] if isinstance(given, dict) else given)]
    words = cfg.get("track") or []
    for word in [words] if isinstance(words, str) else words:
        if word not in CHOICES:
            raise unknown("tracker", word, list(CHOICES))
        if not any(tracker_of(backend) is CHOICES[word] for backend in given):
            given.append(ConfigDict(type=CHOICES[word].__name__))
    trains = cfg.get("train_dataloader") is not None
    kept = []
    for backend in given:
        tracker, other = tracker_of(backend), name_of(backend).removesuffix("VisBackend")
        if name_of(backend) in JSON_LINES:
            kept.append(ConfigDict(backend, type=JsonLines.__name__))
        elif tracker is None and other not in OTHERS:
            kept.append(backend)
        elif trains and tracker is None:
            need(other, OTHERS[other])
            kept.append(backend)
        elif trains and has_package(tracker):
            kept.append(ConfigDict(backend, type=tracker.__name__))
    if not any(name_of(backend) == JsonLines.__name__ for backend in kept):
        kept.insert(0, ConfigDict(type=JsonLines.__name__))
    cfg.visualizer = ConfigDict(visualizer, vis_backends=kept)


def tracker_of(backend: dict[str, Any]) -> type[Tracker] | None:
    """Our class for a backend of a config; None for a backend of another kind."""
    return (TRACKERS | OWN_NAMES).get(name_of(backend))


def name_of(backend: dict[str, Any]) -> str:
    kind = backend.get("type")
    return kind.split(".")[-1] if isinstance(kind, str) else getattr(kind, "__name__", "")


def has_package(tracker: type[Tracker]) -> bool:
    """Whether a tracker's package is there. A note says where the package of an optional one is not."""
    if not tracker.optional:
        need(tracker.title, tracker.package)
    elif not is_installed(tracker.package):
        advice = f"pip install {tracker.package}"
        say_note(f"no {tracker.title} files, since it is not installed ({advice}); the run goes on without them")
        return False
    return True


def need(title: str, package: str) -> None:
    """Raises UserError where a package is not installed."""
    if not is_installed(package):
        raise UserError(f"{title} is not installed; pip install {package}, or leave it out")


def is_installed(package: str) -> bool:
    spec = find_spec(package)
    return spec is not None and spec.origin is not None  # a folder of that name, without code, has no origin
