"""A loss that is not finite stops a run, and leaves a file that shows the loss again."""

from pathlib import Path
from typing import Any

from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from backbones.errors import UserError
from backbones.weights import save_safely
from ziggurat.engine.checkpoints import to_plain_types
from ziggurat.engine.saving import copied
from ziggurat.engine.work_dir import FAILED


class Replayed(Exception):
    """Ends a run that only shows the loss of one step.

    Attributes:
        loss: the loss.
    """

    def __init__(self, loss: float):
        super().__init__(f"loss is {loss}")
        self.loss = loss


@HOOKS.register_module(force=True)
class NonFiniteHook(Hook):
    """Looks at each loss before the step that a bad loss would spoil.

    At the first loss that is not finite the run ends with a UserError. It names a file in the work dir: a checkpoint of
    the moment before the step, which also holds ``failed_step``, the batch and the loss. Earlier checkpoints stay.

    Args:
        replay: end the run at the first loss, of any value, with ``Replayed``.
    """

    def __init__(self, replay: bool = False):
        self.replay = replay
        self.batch: Any = None

    def before_train(self, runner: Any) -> None:
        update = runner.optim_wrapper.update_params

        def update_params(loss: Any, *args: Any, **kwargs: Any) -> None:
            if self.replay:
                raise Replayed(loss.item())
            if not loss.isfinite():
                self.stop(runner, loss.item())
            update(loss, *args, **kwargs)

        runner.optim_wrapper.update_params = update_params

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        self.batch = data_batch

    def stop(self, runner: Any, loss: float) -> None:
        content = runner.checkpoint_content(dict(epoch=runner.epoch, iter=runner.iter))
        content["failed_step"] = to_plain_types(dict(batch=self.batch, loss=loss, rank=get_rank()))
        path = Path(runner.work_dir) / f"{FAILED}iter_{runner.iter + 1}.pth"
        save_safely(copied(content), path)
        written = Path(runner.work_dir) / Path(runner.cfg.filename).name  # the run's config with its options
        config = written if written.is_file() else runner.cfg.filename
        raise UserError(
            f"the loss of iteration {runner.iter + 1} is {loss}; earlier checkpoints are kept; weights and batch: "
            f"{path}; python tools/train.py {config} --replay {path} shows the loss again"
        )
