"""Other loaders, each with the same spectra in its own format: written once, then streamed shuffled in batches."""

from __future__ import annotations

from benchmarks.peers import Peer

#: In one environment, because each of them brings torch.
LOADERS = ("mosaicml-streaming", "webdataset", "datasets", "zarr>=3", "torch", "numpy")
MDS = Peer("mosaicml-streaming", LOADERS, environment="loaders")
WEBDATASET = Peer("webdataset", LOADERS, environment="loaders")
ARROW = Peer("datasets", LOADERS, environment="loaders")
ZARR = Peer("zarr-map-style", LOADERS, environment="loaders")

#: ``path`` is a .npy file of (n, channels) float32, ``target`` a folder of the peer's own.
WRITE_MDS = """
import numpy as np, torch
try:
    import torchvision
except RuntimeError:  # no compiled operators on this machine; streaming imports torchvision and needs none of them
    missing = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        missing.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
from streaming import MDSWriter
spectra = np.load(path, mmap_mode="r")
if not Path(target).exists():
    with MDSWriter(out=target, columns={"spectrum": f"ndarray:float32:{spectra.shape[1]}"}, compression=None) as out:
        for row in spectra:
            out.write({"spectrum": np.array(row)})
from streaming import StreamingDataset
from torch.utils.data import DataLoader
data = StreamingDataset(local=target, shuffle=True, shuffle_algo="py1e", batch_size=256, predownload=2048)
start, seen = time.perf_counter(), 0
for batch in DataLoader(data, batch_size=256, num_workers=2):
    seen += len(batch["spectrum"])
report(time.perf_counter() - start)
"""

WRITE_WEBDATASET = """
import numpy as np, torch, webdataset as wds
spectra = np.load(path, mmap_mode="r")
if not Path(target).exists():
    Path(target).mkdir(parents=True)
    with wds.ShardWriter(target + "/%05d.tar", maxcount=8192, verbose=0) as out:
        for number, row in enumerate(spectra):
            out.write({"__key__": f"{number:08}", "npy": np.array(row)})
shards = sorted(map(str, Path(target).glob("*.tar")))
data = wds.WebDataset(shards, shardshuffle=len(shards), empty_check=False)
data = data.shuffle(5000).decode().to_tuple("npy").batched(256)
start, seen = time.perf_counter(), 0
for batch, in torch.utils.data.DataLoader(data, batch_size=None, num_workers=2):
    seen += len(batch)
report(time.perf_counter() - start)
"""

WRITE_ARROW = """
import numpy as np, torch, datasets
datasets.disable_progress_bars()
spectra = np.load(path, mmap_mode="r")
if not Path(target).exists():
    features = datasets.Features({"spectrum": datasets.Sequence(datasets.Value("float32"), length=spectra.shape[1])})
    import pyarrow as pa
    def tables():
        for start in range(0, len(spectra), 8192):
            block = np.ascontiguousarray(spectra[start:start + 8192])
            yield pa.FixedSizeListArray.from_arrays(pa.array(block.ravel()), spectra.shape[1])
    table = pa.table({"spectrum": pa.chunked_array(list(tables()))})
    datasets.Dataset(datasets.table.InMemoryTable(table)).save_to_disk(target)
data = datasets.load_from_disk(target).with_format("torch")
order = torch.randperm(len(data)).tolist()
start = time.perf_counter()
for first in range(0, len(order), 256):
    batch = data[order[first:first + 256]]["spectrum"]
report(time.perf_counter() - start)
"""

#: ``path`` is a study's slide group; one spectrum at a time, as a map-style dataset does it. A part is enough.
READ_ZARR = """
import numpy as np, torch, zarr
group = zarr.open_group(path, mode="r")
class Spectra(torch.utils.data.Dataset):
    def __init__(self):
        self.arrays = [group[name]["intensity"] for name in sorted(group.group_keys()) if not name.startswith("_")]
        self.places = [(n, y, x) for n, a in enumerate(self.arrays) for y, x in np.ndindex(a.shape[:2])]
    def __len__(self):
        return len(self.places)
    def __getitem__(self, number):
        n, y, x = self.places[number]
        return self.arrays[n][y, x]
data = Spectra()
part = torch.utils.data.Subset(data, torch.randperm(len(data))[:int(target)].tolist())
start = time.perf_counter()
for batch in torch.utils.data.DataLoader(part, batch_size=256):
    pass
report(time.perf_counter() - start)
"""
