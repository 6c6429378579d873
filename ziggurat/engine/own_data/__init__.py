"""Annotations in the formats that people have, read into one form: the content of a COCO json.

``supervision`` was tried first. Its readers name no line of a flaw, turn YOLO's polygons into masks in memory, and
need av, matplotlib and scipy. So each format has a small parser here.

A reader is a module with two functions: ``find`` says which files of a folder are of the format, by split, and ``read``
reads them. ``found.READERS`` lists the readers.
"""

from ziggurat.engine.own_data.cache import FOLDER, OwnData, file_for, prepare
from ziggurat.engine.own_data.content import FlawedData
from ziggurat.engine.own_data.found import AUTO, READERS
from ziggurat.engine.own_data.options import OPTIONS, of_config

__all__ = ["AUTO", "FOLDER", "OPTIONS", "READERS", "FlawedData", "OwnData", "file_for", "of_config", "prepare"]
