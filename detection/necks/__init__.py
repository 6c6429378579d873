"""Necks that mmdet does not have."""

from detection.necks.horfpn import HorFPN

__all__ = ["HorFPN"]
