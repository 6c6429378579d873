"""The suite around the backbones: the engine, mmcv's operators, the command; installed, tools and configs."""
