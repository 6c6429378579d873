"""What the three tasks share around mmengine: configs, the runner, hooks, optimisers, the command line's errors."""
