"""A worker that plays a scenario instead of computing: stand_in_worker.py SCENARIO run JOB.json.

A scenario is a list of steps, separated by commas; see the functions below. It needs numpy only.
"""

import gzip
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

START = time.monotonic()


def say(event, **fields):
    line = {"event": event, "time": round(time.monotonic() - START, 3), **fields}
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def write(data):
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


class Player:
    def __init__(self, job):
        self.job = job
        out = Path(job["out"])
        self.out = out.parent if job["command"] == "predict" else out
        self.folder = self.out.parent
        self.out.mkdir(parents=True, exist_ok=True)

    def started(self):
        say("started", pid=os.getpid(), version="0", command=self.job["command"])

    def progress(self):
        for step in range(1, 6):
            say("progress", stage="adapt", step=step, steps=5, loss=1 / step, seconds_left=5.0 - step)
            say("ranks", ranks={"enc1": 8 - step, "enc2": 8, "head": 4})

    def result(self, name="segmentation_1.seg.nrrd"):
        """The paint, repeated on all slices between the first and the last."""
        source = self.folder / "labels.seg.nrrd"
        if source.is_file():
            header, labels = read_labels(source)
        else:
            header, labels = blank_labels(self.folder / "image.nrrd")
        painted = labels.any(axis=(1, 2)).nonzero()[0]
        for index in range(painted[0], painted[-1]):
            if not labels[index].any():
                labels[index] = labels[index - 1]
        temporary = self.out / "temporary"
        temporary.write_bytes(header + b"\n\n" + gzip.compress(labels.tobytes(), 1))
        temporary.replace(self.out / name)

    def preview(self):
        self.result("preview.seg.nrrd")
        say("preview", file=str(self.out / "preview.seg.nrrd"))

    def brokenpreview(self):
        (self.out / "broken.seg.nrrd").write_bytes(b"NRRD0004\ntype: uint8\n\n")
        say("preview", file=str(self.out / "broken.seg.nrrd"))

    def organ(self):
        sure = {"expected_dice": 0.91, "expected_range": [0.85, 0.94], "is_doubtful": False}
        unsure = {"expected_dice": 0.31, "expected_range": [0.1, 0.6], "is_doubtful": True}
        say("organ", name="liver", held_out_dice=0.8, ml=12.5, **sure)
        say("organ", name="spleen", held_out_dice=None, ml=3.25, **unsure)

    def nextslice(self):
        say("next_slice", image=0, axis="axial", index=13, mm=[0, 0, 0], why="doubt")

    def warning(self):
        say("warning", message="few slices")

    def adapter(self):
        metadata = {"format": "1", "organs": json.dumps([{"name": "liver"}, {"name": "spleen"}])}
        metadata["base_model"] = "reglora-tiny"
        header = json.dumps({"__metadata__": metadata}).encode()
        (self.out / "adapter.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)

    def finished(self):
        say("finished", files={})

    def failed(self):
        say("failed", message="the paint is too thin", hint="paint more slices")
        sys.exit(2)

    def garbage(self):
        write(b'\xff\xfe\x00 not text\n{broken json\n[1, 2]\n{"event": "unheard"}\nplain words\n\n')
        write(b'{"event": "progress", "time": "soon", "step": "many"}\n')
        write(b'{"event": "organ"}\n{"event": "ranks", "ranks": 5}\n{"event": "preview"}\n')

    def torn(self):
        line = json.dumps({"event": "organ", "time": 1, "name": "kidney", "held_out_dice": 0.5}) + "\n"
        for position in range(0, len(line), 7):
            write(line[position : position + 7].encode())
            time.sleep(0.01)

    def huge(self):
        for _ in range(24):
            write(b"x" * 2**20)
        write(b"\n")

    def unended(self):
        write(b'{"event": "organ", "time": 2, "name": "unended"}')

    def crash(self):
        sys.stderr.write("Traceback: something went wrong inside\n")
        sys.stderr.flush()
        os._exit(-9 & 0xFF)

    def segfault(self):
        os.kill(os.getpid(), 11)

    def obey(self):
        """Wait for "cancel" or the end of the input, as the real worker does."""
        for line in sys.stdin:
            if line.strip() == "cancel":
                break
        say("cancelled", files={})
        sys.exit(3)

    def obeykeep(self):
        for line in sys.stdin:
            if line.strip() == "cancel":
                break
        self.result()
        say("cancelled", files={})
        sys.exit(3)

    def ignore(self):
        os.setsid()
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        (self.folder.parent / "child.pid").write_text(str(child.pid))
        time.sleep(60)

    def nap(self):
        time.sleep(0.4)


def read_labels(path):
    import numpy as np

    header, _, packed = path.read_bytes().partition(b"\n\n")
    sizes = [int(size) for size in re.search(rb"sizes: ([\d ]+)", header)[1].split()]
    return header, np.frombuffer(gzip.decompress(packed), np.uint16).reshape(sizes[::-1]).copy()


def blank_labels(image):
    """Two boxes called liver and spleen on the image's grid."""
    import numpy as np

    header = image.read_bytes().partition(b"\n\n")[0]
    sizes = [int(size) for size in re.search(rb"sizes: ([\d ]+)", header)[1].split()]
    header = re.sub(rb"type: \w+", b"type: uint16", header).replace(b"encoding: raw", b"encoding: gzip")
    for number, name in enumerate((b"liver", b"spleen")):
        header += b"\nSegment%d_ID:=S%d\nSegment%d_Name:=%s" % (number, number, number, name)
        header += b"\nSegment%d_LabelValue:=%d\nSegment%d_Layer:=0" % (number, number + 1, number)
        header += b"\nSegment%d_Color:=0.8 0.%d 0.3" % (number, number + 2)
    labels = np.zeros(sizes[::-1], np.uint16)
    labels[2:-2, 2:8, 2:8], labels[2:-2, 10:14, 2:8] = 1, 2
    return header, labels


if __name__ == "__main__":
    scenario, run, job_file = sys.argv[1:]
    assert run == "run"
    if "unstarted" in scenario:
        sys.exit(7)
    player = Player(json.loads(Path(job_file).read_text(encoding="utf-8")))
    for step in scenario.split(","):
        getattr(player, step)()
