"""Metrics of a run: one JSON object a line, and a PNG plot of loss per exit against tokens."""

from __future__ import annotations

import json
from pathlib import Path

from sorted_tuning.jsonl import read_whole_lines


class MetricsFile:
    """Append-only JSONL. On resume, lines beyond the checkpoint are dropped: they will be written again."""

    def __init__(self, path: Path, tokens: int):
        self.path = path
        kept = [line for line in read_whole_lines(path) if line["tokens"] <= tokens]
        path.write_text("".join(json.dumps(line) + "\n" for line in kept), "utf-8")

    def write(self, record: dict) -> None:
        """Append one record; it holds `tokens` and either `loss` per exit (training) or `kl` and `agreement` (test)."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def has_scores(self, tokens: int) -> bool:
        """Whether the held-out documents were scored after this many tokens."""
        return any("kl" in line and line["tokens"] == tokens for line in read_whole_lines(self.path))


def plot(metrics: Path, png: Path) -> None:
    """Training loss per exit (smoothed) and held-out KL per exit (points), over tokens, both axes logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    records = read_whole_lines(metrics)
    figure, axes = plt.subplots(figsize=(9, 5.5))
    names = sorted({name for r in records for name in (r.get("loss") or r.get("kl") or {})}, key=_layer)
    for color, name in enumerate(names):
        train = [(r["tokens"], r["loss"][name]) for r in records if name in r.get("loss", {})]
        test = [(r["tokens"], r["kl"][name]) for r in records if name in r.get("kl", {})]
        if train:
            axes.plot(*zip(*_smoothed(train)), color=f"C{color}", lw=1, label=f"exit {name}")
        if test:
            axes.plot(*zip(*test), "o", color=f"C{color}", ms=4, label=None if train else f"exit {name}")
    axes.set(xlabel="tokens", ylabel="loss (line: training, points: held out)", xscale="log", yscale="log")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    figure.tight_layout()
    figure.savefig(png, dpi=110)
    plt.close(figure)


def _layer(name: str) -> int:
    return int(name.split("+")[0])


def _smoothed(points: list[tuple[int, float]], keep: float = 0.9) -> list[tuple[int, float]]:
    mean, out = points[0][1], []
    for x, y in points:
        mean = keep * mean + (1 - keep) * y
        out.append((x, mean))
    return out
