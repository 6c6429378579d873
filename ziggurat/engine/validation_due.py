"""Whether a validation follows the step or the epoch that has just ended."""

import bisect
from typing import Any

from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop

# The entry of a checkpoint that says whether a resumed run begins with a validation: the interrupted run had not ended
# it. In the message hub.
VALIDATION_DUE = "validation_cut"


def note_validation(runner: Any, kind: type[EpochBasedTrainLoop] | type[IterBasedTrainLoop]) -> None:
    """Notes at the end of an epoch, or of a step, whether mmengine's loop of that kind validates next.

    So a checkpoint of this moment tells a resumed run that the validation is to be done.
    """
    loop = runner.train_loop
    if not isinstance(loop, kind):
        return
    by_epoch = kind is EpochBasedTrainLoop
    done, whole = (loop.epoch + 1, loop.max_epochs) if by_epoch else (loop.iter + 1, loop.max_iters)
    interval = loop.dynamic_intervals[bisect.bisect(loop.dynamic_milestones, done + 1) - 1]
    due = runner.val_loop is not None and done >= loop.val_begin and (done % interval == 0 or done == whole)
    runner.message_hub.update_info(VALIDATION_DUE, due)
