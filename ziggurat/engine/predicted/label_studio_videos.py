"""Predictions on videos for Label Studio: ``predictions.label-studio-videos.json``, a task each, and its interface.

Images and videos cannot share a project, since Label Studio asks each task for all data that the interface names. The
predictions know no tracks. So an object of a frame is a region of its own, with one key frame, and is gone after it.
The form is that of https://labelstud.io/tags/videorectangle and https://labelstud.io/tags/timelinelabels.
"""

import contextlib
import itertools
import json
from collections.abc import Iterable, Iterator
from typing import Any

from backbones.errors import UserError, shorten
from backbones.files import replaced_file
from ziggurat.engine.predicted.book import Book, Clip, Row, is_live
from ziggurat.engine.predicted.coco import write_list
from ziggurat.engine.predicted.label_studio_project import address, in_percent, write_interface
from ziggurat.engine.results import Instances, Scores
from ziggurat.engine.videos import open_video

FILE, INTERFACE = "predictions.label-studio-videos.json", "predictions.label-studio-videos.xml"
VIDEO = '  <Video name="video" value="$video" frameRate="$fps"/>\n'
BOXES = '  <VideoRectangle name="box" toName="video"/>\n'
RATE = 24  # frames per second, for a video of one frame that does not say; Label Studio's own


def write(book: Book, kind: type) -> list[str]:
    """Writes both files if there are videos; arguments and result as for ``ziggurat.engine.predicted.table.write``."""
    if not book.clips:
        return []
    if kind not in (Scores, Instances):
        return ["the frames of videos: Label Studio has no form for the areas in a frame"]
    live = [clip.first["image"] for clip in book.clips.values() if is_live(clip.first)]
    notes = [f"{shorten(live)}: a camera or a stream has no file that Label Studio could show"] if live else []
    if len(live) == len(book.clips):
        return notes
    uneven, has_masks = [], False
    with replaced_file(book.out / FILE) as beside, beside.open("w", encoding="utf-8") as stream:
        lead = "[\n"
        for clip, rows in book.videos():
            if is_live(clip.first):
                continue
            task = VideoTask(clip)
            data = json.dumps(dict(video=address(clip.first), fps=round(task.rate, 6)))
            stream.write(f'{lead}{{"data": {data}, "predictions": [{{"result": ')
            write_list(stream, task.ranges(rows) if kind is Scores else task.boxes(rows))
            stream.write("}]}")
            lead = ",\n"
            uneven += [clip.first["image"]] if task.is_uneven else []
            has_masks |= task.has_masks
        stream.write("]\n")
    shown, labels = (VIDEO, "TimelineLabels") if kind is Scores else (VIDEO + BOXES, "Labels")
    write_interface(book.out / INTERFACE, "video", shown, labels, book.classes)
    if has_masks:
        notes.append("the masks of objects in videos: Label Studio has none there, and has their boxes")
    if uneven:
        notes.append(
            f"the uneven times of the frames of {shorten(uneven)}: Label Studio counts frames at one rate; "
            "ffmpeg -i VIDEO -fps_mode cfr EVEN.mp4 writes an even video to predict on"
        )
    return notes


class VideoTask:
    """The results of a video.

    Attributes:
        rate: frames per second, by the file's header if the file is there.
        count: the number of frames, likewise.
        is_uneven: once all results are given, whether a frame comes more than a frame too early or too late.
        has_masks: once all results are given, whether there are masks, of which the results have the boxes.
    """

    def __init__(self, clip: Clip):
        self.clip, self.is_uneven, self.has_masks = clip, False, False
        rate = count = None
        with contextlib.suppress(UserError), contextlib.closing(open_video(clip.first["image"])) as video:
            rate, count = video.rate, video.count
        frames, seconds = (clip.last[key] - clip.first[key] for key in ("frame", "time"))
        self.rate = rate or (frames / seconds if frames and seconds > 0 else RATE)
        self.count = max(count or 0, clip.last["frame"] + 1)

    def followed(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Passes on the frames, and compares their times with an even rate."""
        for row in rows:
            frames, seconds = (row[key] - self.clip.first[key] for key in ("frame", "time"))
            self.is_uneven |= abs(seconds * self.rate - frames) > 1
            yield row

    def boxes(self, rows: Iterable[Row]) -> Iterator[dict[str, Any]]:
        """A region for each object. A key frame that is not ``enabled`` is shown, and nothing from there on."""
        whole = dict(framesCount=self.count, duration=round(self.count / self.rate, 3))
        number = itertools.count()
        for row in self.followed(rows):
            self.has_masks |= bool(row.get("masks"))
            place = dict(frame=row["frame"] + 1, time=row["time"], enabled=False)
            for box, name, score in zip(row["boxes"], row["categories"], row["scores"], strict=True):
                value = whole | dict(sequence=[place | in_percent(row, box)], labels=[name])
                names = dict(from_name="box", to_name="video", type="videorectangle")
                yield dict(id=f"r{next(number)}", **names, value=value, score=score)

    def ranges(self, rows: Iterable[Row]) -> Iterator[dict[str, Any]]:
        """A range of the timeline for successive frames of one best class."""
        known = (row for row in self.followed(rows) if row["categories"])
        for i, (name, group) in enumerate(itertools.groupby(known, key=lambda row: row["categories"][0])):
            frames = [row["frame"] + 1 for row in group]
            value = dict(ranges=[dict(start=frames[0], end=frames[-1])], timelinelabels=[name])
            yield dict(id=f"r{i}", from_name="label", to_name="video", type="timelinelabels", value=value)
