"""Makes docs/features.md: stores of features, with the figures of docs/benchmarks/features/.

python tools/docs/features_page.py [--write]

Without --write the page is printed. tools/bench/benchmark_features.py measures the figures.
"""

import json
from pathlib import Path
from typing import Any

from ziggurat.engine.cli import Parser, run_tool
from ziggurat.engine.features.budget import Budget

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs/features.md"
RAY = ROOT / "docs/benchmarks/features/ray_cpu.json"
RESULTS = ROOT / "docs/benchmarks/features/features_cpu.json"
OURS = "ziggurat features, into a store"
BILLION = 10**9
MILLION = 1_200_000  # images of 224x224 pixels, of which van_b2's stages 1 to 3 have so many numbers each
EXAMPLE = Budget(MILLION, 3, MILLION * 4 * (128 * 28**2 + 320 * 14**2 + 512 * 7**2), MILLION * 4 * (128 + 320 + 512))
TEXT = """# Features

Made by `python tools/docs/features_page.py --write`. The figures come from
`docs/benchmarks/features/features_cpu.json` and `docs/benchmarks/features/ray_cpu.json`.

```
ziggurat features van_b2.in1k photographs                                  # a .npz file for each image
ziggurat features van_b2.in1k photographs --form store --pool mean --stages 2,3
ziggurat features van_b2.in1k 'shards/*.tar' more.parquet list.txt --form store --short-side 224 --save-dtype fp16
ziggurat launch 8 features van_b2.in1k photographs --form store --pool gem
ziggurat search cat.jpg --store work_dirs/features/van_b2.in1k --sheet found.png
```

The form `npz` is for some images that you want to look at: each has a file, and `--pca` adds a picture of its maps. The
form `store` is for any number of images: they lie in few large files with an index. It needs `pip install ".[store]"`.

## What goes in

| given | images |
|-|-|
| a file, a folder, `'photos/**/*.jpg'`, `list.txt`, `-` | as for [predictions](predictions.md#what-it-looks-at) |
| `train-0000.tar` | a tar shard in WebDataset's layout; an image is named `train-0000.tar/key.jpg` |
| `data.parquet` | bytes in a column such as `image`, as the Hugging Face hub has them; named `data.parquet/17` |
| a folder of `Dataset.save_to_disk` | the same in the `.arrow` files of Hugging Face's `datasets`; named `x.arrow/17` |
| `https://...` | with `--download FOLDER` |

A folder stands for the images, tar shards and tables below it.

## What comes out

| option | features |
|-|-|
| none | the map of each stage, (C, H, W) |
| `--pool mean`, `--pool gem` | a vector of each stage, (C,): the mean, or the generalised mean with power 3 |
| `--pool grid:4` | the means of 4 x 4 parts, (C, 4, 4) |
| `--stages 2,3` | only these stages, counted from 0 |
| `--dtype bf16`, `--save-dtype fp16` | the type to compute in, and the type to save in, which is the same by default |
| `--shard-size 10000`, `--shard-size 512MB` | when a shard is written; by default after 4096 images or 256 MB |

Maps and vectors are those of `backbones.FeatureExtractor`, rounded to the type. Pooling computes in float32. Images of
one size make a batch, so no image is padded. `--batch-size` is 32 by default, and less for large images. `--workers` is
the number of processes that read images.

The first line says what the features will take, dense and pooled, and how much is free. Features that do not fit are
refused before the first one is computed:

```text
{line}
```

An image that cannot be read gets a row with the reason, and so does one with a value that the type cannot hold. The
exit status is 0. The same command tries these images again.

## Stopped and started again

The same command goes on after Ctrl-C, a full disk or `kill -9`. A shard counts from the moment at which its index is on
the disk, and the index is written last. So no row is lost or there twice. What was computed since the last shard is
computed again. More images may be given: those that are in the store stay as they are. An image is known by its name,
so one whose content has changed keeps its features.

Another arch, other weights, stages, pooling, types or preprocessing are refused in one line that names the difference.
`--out` names another folder, and `--overwrite` removes the features that are there.

Several processes share the images without talking to each other: the remainder of a checksum of an image's name
decides. Each process writes shards of its own. A run can go on with another number of processes. The command `launch`
starts the processes, on one machine or several. With Slurm, `--launcher slurm` reads the variables of srun. A second
run on the same store is refused while the first one writes.

## Reading

```python
from backbones.store import FeatureStore
from torch.utils.data import DataLoader

store = FeatureStore("work_dirs/features/van_b2.in1k")
print(len(store), store.stages)  # 3 ['stage2', 'stage3']
item = store[0]  # a dict: name, size, and a tensor of each stage, read from the disk when it is used
vector = store[store.find("photographs/cat.png")]["stage3"]
loader = DataLoader(store, batch_size=2, num_workers=1)  # a store is a data set of PyTorch
for block in store.blocks():  # large pieces, for work on whole matrices
    similar = block.features["stage3"].float() @ vector.float()
print(store.search(vector, top=2)[0].image)  # photographs/cat.png
store.to_npy("vectors")  # stage2.npy, stage3.npy, images.json
store.verify()  # compares all shards with their SHA-256
print(store.unreadable)  # {}
```

`store.to_zarr("vectors.zarr")` writes the same arrays as a group of zarr 3, with `pip install ".[zarr]"`. Names that
differ by size, such as `stage3.224x320`, are those of the files.

A missing or shortened file is an error when the store is opened. The message says which index file to remove, so that
the command makes its images again.

## Searching

```
ziggurat search cat.jpg --store work_dirs/features/van_b2.in1k --top 10 --sheet found.png
ziggurat search 'queries/*.jpg' --store work_dirs/features/van_b2.in1k --metric euclidean --out found.csv
ziggurat search street.jpg --store work_dirs/maps --stage 2 --at 120 310
ziggurat search street.jpg --store work_dirs/maps --stage 2 --box 300 100 64 48 --out found.json
```

The query goes through the network that the store records: the same weights, stages, pooling, types and preprocessing.
Weights that have moved are named by `--weights`. Other weights are refused, since their features cannot be compared.
The result is a table, `--out` writes it as JSON or CSV, and `--sheet` draws the queries beside their neighbours. The
store has the names that the images had when they were extracted, so `--sheet` is run from the same folder. In Python
this is `store.search(vector, top=10, metric="euclidean")`, and `places=True` finds the best place of each image.

| store | compared | with `--at` or `--box` |
|-|-|-|
| `--pool mean`, `--pool gem` | the vectors | refused: there are no places |
| `--pool grid:4`, maps | the means over all places | the place, or the mean of the box, with each place of an image |

`--at ROW COLUMN` and `--box X Y W H` are in pixels of the query's file. The row and column of a result are those of the
best place of an image, in pixels as the network saw the image. They differ from the file's where `--short-side` was
given.

The search is exact: shards pass by in blocks of 32 MB, and images that float32 cannot tell apart are compared in
float64. Images with equal scores have the order of the store. `--index faiss` (`pip install ".[search]"`) makes an
index in the store's folder `faiss` at the first search, and again when the store has changed. Up to 50,000 images it
compares all of them, too. Above, it looks at a sixteenth of its lists, and may miss a neighbour. The scores are exact.

## With Ray

```
ziggurat features van_b2.in1k 's3_mount/*.tar' --form store --pool mean --engine ray
ziggurat features van_b2.in1k /shared/photographs --form store --out /shared/store --engine ray --ray-address auto
```

`--engine ray` (`pip install ".[ray]"`) starts Ray on this machine, or joins a cluster at `--ray-address`. Ray Data
hands parts of the images to actors, each of which holds the network, reads the images and writes shards.
`--ray-workers` is the number of actors, by default that of GPUs with `--device cuda`, else that of cores. On a cluster,
the images, the store and a file of weights lie on a disk that all machines see, and this package is installed on each
of them. Ray {ray} guards a cluster by a token: outside of it, set `RAY_AUTH_MODE=token`.

All that is said above about stopping holds. An actor that is killed is started again by Ray, and takes up its part
where the shards end. The first number in a shard's name is then that of the part.

This was run with Ray {ray} on one machine of two cores: {ray_images} photographs and a damaged one, 2 actors, shards
of 8 images. Actors were killed with `kill -9` {actor_kills} times, and the command {driver_kills} times, and given
again. Then the store was compared with that of the plain engine, with `--batch-size 1` in both:

| images | rows at the end | lost | twice | equal bit for bit | files left half-written |
|-:|-:|-:|-:|-:|-:|
| {ray_images} | {ray_rows} | {ray_lost} | {ray_double} | {ray_equal} | {ray_left} |

Batches of other sizes differ in the last bits of float32. Ray was also started as a cluster of this one machine, and
joined by `--ray-address auto` and by its address. A cluster of several machines was not tried, and neither was a GPU.

## The layout

```text
meta.json                            arch, SHA-256 of the weights, stages, pooling, types, normalisation, versions
shards/shard_000_00000.safetensors   the first number is that of the process, the second counts its shards
index/shard_000_00000.parquet        a row for each image of the shard of this name
```

Pooled features of a stage are one tensor, `stage3` (N, C). Maps are one tensor for each size of images:
`stage3.224x320` (N, C, H, W) holds those of images of 224 x 320 pixels. The metadata of an index file have the length
and the SHA-256 of its shard. The columns:

| column | |
|-|-|
| `image` | its name |
| `height`, `width` | of the image in pixels, as the network saw it |
| `shard`, `row` | the shard's name without suffix, and the image's row in the tensor of its size |
| `reason` | why an image has no features; null if it has |
| `stage3_height`, `stage3_width` | of a map; absent for pooled features |

Any program that reads Parquet can search the index, such as DuckDB: `select * from 'index/*.parquet'`.

## Killed again and again

A run over {images} photographs was killed with `kill -9` {kills} times, {first:.0f} to {last:.0f} seconds after each
start, and started again. Then its store was compared row by row with that of a run that nobody disturbed. Loading the
libraries took most of these seconds, so some runs were killed before their first shard.

| images | kills | rows at the end | lost | twice | other images | files left half-written | largest difference |
|-:|-:|-:|-:|-:|-:|-:|-:|
| {images} | {kills} | {rows} | {lost} | {double} | {foreign} | {files_left} | {difference} |

Rows in the store after each kill: {after}.

The difference is relative to the largest value of an image's vector. With several threads, batches of another size may
sum in another order.

## Rates

Images per second of {arch}, stages {stages}, pooled: the median of {repeats} passes. The ways took turns in one process
with {threads} and one worker. The machine had no other work.

Measured on: {machine}.

| images | way | images/s |
|:-|:-|-:|
{rates}

The store's rate includes reading the files, and writing shards that are flushed to the disk. The other ways write
nothing. A plain loader of PyTorch cannot join images of several sizes, so batches of 1 are all that it gives there.

These commands measured the figures and wrote the page:

```
python tools/bench/benchmark_features.py --out docs/benchmarks/features/features_cpu.json
python tools/bench/benchmark_ray.py --out docs/benchmarks/features/ray_cpu.json
python tools/docs/features_page.py --write
```

## A billion images, on paper

Nothing here was run at this size. At {rate:.0f} images/s for 224 x 224 pixels, a billion images take {days:,.0f} days
of one such process, so {machines:.0f} of them take a month. No process waits for another. So the rate grows with the
number of processes, as far as the disks go along.

| | bytes |
|:-|-:|
| the three stages pooled, fp16: {width} numbers | {pooled:.1f} TB |
| the three maps of 224 x 224 pixels, fp16: {numbers} numbers | {dense:.0f} TB |
| pooled, with `--shard-size 256MB` | {shards:.0f} files |

The limits that such a run meets first:

- Each process and each of its workers has the list of all images in memory, about 0.2 kB for each. Give each command a
  part of the images, such as 10 M, and a store of its own.
- Opening a store reads its index, and `find` keeps all names in memory. This too is for some 10 M images at a time.
- An exact search reads all features of its stage, and `--index faiss` keeps them in memory in float32. Here that of the
  last stage alone would take {index:.0f} GB for 10 M images. Search the stores of the parts, and join the results by
  their scores.
"""


def main() -> None:
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", action="store_true", help="replace docs/features.md")
    if parser.parse_args().write:
        PAGE.write_text(page())
    else:
        print(page(), end="")


def page() -> str:
    """The text with the measured figures."""
    found, ray = json.loads(RESULTS.read_text()), json.loads(RAY.read_text())
    kills, rows = found["kills"], found["rates"]
    (rate,) = (row["images_per_second"] for row in rows if row["way"] == OURS and row["images"] == "224x224 pixels")
    width, numbers = 64 + 160 + 256, 64 * 28**2 + 160 * 14**2 + 256 * 7**2  # of van_b0's stages 1, 2, 3
    figures: dict[str, Any] = {
        "images": kills["images"],
        "kills": kills["kills"],
        "first": min(kills["seconds_to_kill"]),
        "last": max(kills["seconds_to_kill"]),
        **{name: kills[name] for name in ("rows", "lost", "double", "foreign", "files_left")},
        "difference": f"{kills['largest_difference']:.1g}",
        "after": ", ".join(map(str, kills["rows_after_kill"])),
        "arch": found["arch"],
        "stages": ", ".join(map(str, found["stages"])),
        "threads": "one thread" if found["threads"] == 1 else f"{found['threads']} threads",
        "repeats": len(rows[0]["passes"]),
        "machine": ", ".join(
            f"{name} {value}" if name != "device" else value for name, value in found["machine"].items()
        ),
        "rates": "\n".join(f"| {row['images']} | {row['way']} | {row['images_per_second']:.1f} |" for row in rows),
        "ray": ray["machine"]["ray"],
        **{name: ray[name] for name in ("actor_kills", "driver_kills")},
        **{f"ray_{name}": ray[name] for name in ("images", "rows", "lost", "double", "equal")},
        "ray_left": ray["files_left"],
        "line": EXAMPLE.line("fp32", "mean", 57 * 10**9),
        "rate": rate,
        "days": BILLION / rate / 86400,
        "machines": BILLION / rate / 86400 / 30,
        "width": width,
        "numbers": f"{numbers:,}",
        "pooled": BILLION * width * 2 / 1e12,
        "dense": BILLION * numbers * 2 / 1e12,
        "index": 10**7 * 256 * 4 / 1e9,
        "shards": BILLION * width * 2 / 256e6,
    }
    return TEXT.replace("{}", "{{}}").format_map(figures)


if __name__ == "__main__":
    run_tool(main)
