"""The config that a checkpoint carries. Its text is never run, and it loads no module or file of its own choice."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from backbones.errors import UserError, one_line
from backbones.weights import WEIGHTS, read_ahead, read_own_meta
from backbones.weights.fetch import locate
from backbones.weights.own import from_json, to_json, to_plain_data
from ziggurat.engine.registered import check_scope, check_type, names_only, only_registered
from ziggurat.engine.tasks import TASKS, task_for

LOADER = ("batch_size", "num_workers")  # kept of the test loader, beside its data set and collate_fn
DATASET = ("classes", "metainfo")  # kept of the data set, beside its type and preprocessing: plain texts, never built


def config_from(content: Any, source: str | Path) -> Config:
    """The part of a run's completed config that predicting needs.

    These are the model, the test preprocessing, test-time augmentation, the rule by which images are read, and the
    classes.

    Everything else is left out, e.g. training, hooks, evaluators.

    Args:
        content: ``config`` of ``backbones.weights.read_own_meta``.
        source: the checkpoint, for messages. ``filename`` of the result.

    Raises:
        UserError: there is no config, or a part is missing or of another kind, or it imports other modules, or has a
            ``type`` that is not registered, or names another file. A config in a file may do all this.
    """
    if not isinstance(content, Mapping):
        raise UserError(f"{source} carries no config; give the config of its training before the checkpoint")
    if content.get("test_dataloader") is None:
        raise UserError(f"{source} is of a run without test data; allowed: a checkpoint of a model that predicts")
    with naming(source):
        imports = dict(imports=imports_of(content.get("custom_imports")))
        cfg = Config(dict(custom_imports=imports), cfg_text=f"# {source}", filename=str(source))
        task_for(cfg)  # loads the task's package, which registers its types
        if content.get("default_scope") is not None:
            cfg.default_scope = check_scope(content["default_scope"], "default_scope")
        model = only_registered(part(content, "model"), "model")
        check_type(model.get("type"), "model.type")
        cfg.model = model
        if content.get("data_preprocessor") is not None:
            cfg.data_preprocessor = only_registered(part(content, "data_preprocessor"), "data_preprocessor")
        if content.get("reading") is not None:
            cfg.reading = only_registered(part(content, "reading"), "reading")
        for name in ("tta_model", "tta_pipeline"):
            if content.get(name):
                cfg[name] = only_registered(content[name], name)
        cfg.test_dataloader = testing_of(part(content, "test_dataloader"))
    return cfg


def carried_config(cfg: Config, source: str | Path) -> dict[str, Any]:
    """The part of a completed config that predicting needs, in JSON's types; ``read_config`` gives it back.

    Empty if :func:`config_from` would refuse it. Its file then needs the program that made it, to predict.
    """
    try:
        kept = config_from(to_plain_data(cfg.to_dict()), source)
    except UserError:
        return {}
    return json.loads(to_json(kept.to_dict()))


def read_config(content: Any, source: str | Path) -> Config:
    """The config of :func:`carried_config`; arguments and errors as for :func:`config_from`."""
    return config_from(from_json(json.dumps(content)) if content else None, source)


def carries_config(source: str | Path) -> bool:
    """Whether weights are a checkpoint with its config. The file is read once, since its content is kept.

    Args:
        source: a name of the weights table, which carries none; a URL; or a file.

    Raises:
        UserError: there is no such file or name, or the file cannot be read.
    """
    if str(source) in WEIGHTS:
        return False
    own = read_own_meta(read_ahead(locate(None, source))) or {}
    return isinstance(own.get("config"), Mapping)


def imports_of(custom_imports: Any) -> list[str]:
    """The modules that a config imports, all of them in the tasks' packages."""
    names = custom_imports.get("imports") if isinstance(custom_imports, Mapping) else custom_imports
    names = [names] if isinstance(names, str) else names or []
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise UserError(
            f"custom_imports is {custom_imports!r}; allowed: dict(imports=[TASK]), TASK: {', '.join(TASKS)}"
        )
    for name in names:
        if name.split(".")[0] not in TASKS:
            raise UserError(f"it imports {name}; give the config as a file, which may import it")
    return [name.split(".")[0] for name in names]


def testing_of(loader: Mapping[str, Any]) -> dict[str, Any]:
    """The test loader as far as predicting uses it."""
    dataset = part(loader, "dataset", "test_dataloader.")
    place = "test_dataloader.dataset"
    kept = {name: dataset[name] for name in DATASET if name in dataset}
    if not isinstance(kept.get("metainfo") or {}, Mapping):
        raise UserError(f"{place}.metainfo is {kept['metainfo']!r}; allowed: a dict")
    if dataset.get("reading") is not None:
        kept["reading"] = only_registered(part(dataset, "reading", f"{place}."), f"{place}.reading")
    if dataset.get("type") is not None:
        kept["type"] = check_type(dataset["type"], f"{place}.type")
    if "pipeline" in dataset:
        kept["pipeline"] = only_registered(steps_of(dataset["pipeline"], f"{place}.pipeline"), f"{place}.pipeline")
    elif "transform" in dataset:
        kept["transform"] = only_registered(part(dataset, "transform", f"{place}."), f"{place}.transform")
    else:
        raise UserError(f"{place} has neither pipeline nor transform, which predicting needs")
    tested = {name: only_registered(loader[name], f"test_dataloader.{name}") for name in LOADER if name in loader}
    if loader.get("collate_fn") is not None:
        collate = only_registered(part(loader, "collate_fn", "test_dataloader."), "test_dataloader.collate_fn")
        check_type(collate.get("type"), "test_dataloader.collate_fn.type")
        tested["collate_fn"] = collate
    return dict(tested, dataset=kept)


def steps_of(steps: Any, place: str) -> Any:
    """A pipeline that has steps, each with a ``type``."""
    if not isinstance(steps, list | tuple) or not steps:
        raise UserError(f"{place} is {steps!r}; allowed: a list of steps")
    for number, step in enumerate(steps):
        if not isinstance(step, Mapping):
            raise UserError(f"{place}[{number}] is {step!r}; allowed: a dict with type")
        check_type(step.get("type"), f"{place}[{number}].type")
    return steps


def part(parent: Mapping[str, Any], name: str, place: str = "") -> Mapping[str, Any]:
    """The dict ``parent[name]``; UserError if there is none."""
    found = parent.get(name)
    if not isinstance(found, Mapping):
        raise UserError(f"{place}{name} is {found!r}; allowed: a dict")
    return found


@contextlib.contextmanager
def building(source: str | Path) -> Iterator[None]:
    """A block in which the config of a checkpoint is built: only registered names, and every error on one line."""
    with naming(source), names_only():
        yield


@contextlib.contextmanager
def naming(source: str | Path) -> Iterator[None]:
    """Turns any error inside the block into a UserError that names the checkpoint, as its content can be anything."""
    try:
        yield
    except UserError as error:
        if str(source) in str(error):
            raise
        raise UserError(f"the config in {source}: {error}") from error
    except Exception as error:
        raise UserError(f"the config in {source} cannot be used: {one_line(error)}") from error
