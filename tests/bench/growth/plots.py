"""The pictures: sizes on logarithmic axes, both servers in each, units at the axes."""

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

from tests.bench.growth.rows import (
    DATA,
    OURS,
    VLLM,
    AdaptersRow,
    StallsRow,
    StartRow,
    StreamsRow,
    read_rows,
)

FOLDER = Path(__file__).parent / "plots"
LABELS = {OURS: "Slipstream", VLLM: "vLLM Python"}
COLOURS = {OURS: "#0b6e99", VLLM: "#d9822b"}
TARGET_STALL_MS = 20.0
MANY_STREAMS = 64
"""Fewer fit into what the heap has free."""

PIXELS_PER_INCH = 100

mpl.use("Agg")
mpl.rcParams.update({"font.size": 9, "axes.grid": True, "grid.alpha": 0.3, "lines.markersize": 4})


def plot_streams() -> None:
    rows = read_rows(StreamsRow, DATA / "streams.csv")
    figure, (cpu, memory) = panels(
        "Streams open at once, 4,000 tokens/s in all (of one alone 1,000)"
    )
    for server, points in by_server(rows).items():
        sizes = [row.streams for row in points]
        costs = [row.token_us for row in points]
        line(cpu, server, sizes, costs)
        lows, highs = [row.least_token_us for row in points], [row.most_token_us for row in points]
        cpu.fill_between(sizes, lows, highs, color=COLOURS[server], alpha=0.2, linewidth=0)
        many = [row for row in points if row.streams >= MANY_STREAMS]
        line(memory, server, [row.streams for row in many], [row.stream_kib for row in many])
    label(cpu, "streams", "frontend CPU a token, µs", sizes)
    label(memory, "streams", "frontend memory a stream, KiB", [row.streams for row in many])
    save(figure, "streams")


def plot_prompts() -> None:
    plot_stalls("prompts", "characters of the prompt", "Prompts, one at a time")


def plot_messages() -> None:
    plot_stalls("messages", "messages of the chat", "Chats of many messages, one at a time")


def plot_stalls(part: str, size: str, title: str) -> None:
    rows = read_rows(StallsRow, DATA / f"{part}.csv")
    figure, (replies, stalls) = panels(title)
    for server, every in by_server(rows).items():
        points = [row for row in every if row.size]
        sizes = [row.size for row in points]
        line(replies, server, sizes, [row.reply_ms for row in points])
        medians = [row.stall_ms for row in points]
        line(stalls, server, sizes, medians)
        worst = [row.worst_stall_ms for row in points]
        stalls.fill_between(sizes, medians, worst, color=COLOURS[server], alpha=0.2, linewidth=0)
        for idle in (row for row in every if not row.size):
            idle_label = f"{LABELS[server]}, idle"
            style = {"linestyle": ":", "linewidth": 1, "label": idle_label}
            stalls.axhline(idle.stall_ms, color=COLOURS[server], **style)
    stalls.axhline(TARGET_STALL_MS, color="black", linestyle="--", linewidth=1, label="target")
    replies.set_yscale("log")
    replies.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    replies.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    label(replies, size, "time of a reply of 1 token, ms", sizes)
    label(stalls, size, "longest stall of the loop, ms", sizes)
    save(figure, part)


def plot_adapters() -> None:
    rows = read_rows(AdaptersRow, DATA / "adapters.csv")
    figure, axes = panels("Requests that go round LoRA adapters", 3)
    rate, cost, load = axes
    for server, points in by_server(rows).items():
        sizes = [row.adapters for row in points]
        line(rate, server, sizes, [row.requests_per_second for row in points])
        line(cost, server, sizes, [row.request_us / 1e3 for row in points])
        loads = [(row.adapters, row.load_ms) for row in points if row.load_ms is not None]
        line(load, server, [size for size, _ in loads], [each for _, each in loads])
    label(rate, "adapters", "requests/s", sizes)
    label(cost, "adapters", "frontend CPU a request, ms", sizes)
    label(load, "adapters", "time to load one more, ms", sizes)
    save(figure, "adapters")


def plot_start() -> None:
    rows = read_rows(StartRow, DATA / "start.csv")
    figure, (axes,) = panels("From the start of the process to the first reply", 1)
    for place, (server, points) in enumerate(by_server(rows).items()):
        seconds = [row.seconds for row in points]
        axes.barh(place, statistics.median(seconds), color=COLOURS[server], alpha=0.5)
        axes.plot(seconds, [place] * len(seconds), "o", color=COLOURS[server])
    axes.set_yticks(range(len(LABELS)), [LABELS[server] for server in by_server(rows)])
    axes.set_xlabel("seconds (bar: median)")
    axes.grid(axis="y", visible=False)
    save(figure, "start")


PLOTS: dict[str, Callable[[], None]] = {
    "streams": plot_streams,
    "prompts": plot_prompts,
    "messages": plot_messages,
    "adapters": plot_adapters,
    "start": plot_start,
}


def panels(title: str, number: int = 2) -> tuple[Figure, Sequence[Axes]]:
    height = 3.2 if number > 1 else 1.8
    width = 8.4 if number < 3 else 10.2
    figure, axes = plt.subplots(1, number, figsize=(width, height), squeeze=False)
    figure.suptitle(title, fontsize=10, y=0.99)
    return figure, list(axes[0])


def by_server(rows: Sequence[Any]) -> dict[str, list[Any]]:
    """In the order of their sizes."""
    return {server: [row for row in rows if row.server == server] for server in LABELS}


def line(axes: Axes, server: str, sizes: Sequence[float], values: Sequence[float]) -> None:
    axes.plot(sizes, values, "o-", color=COLOURS[server], label=LABELS[server])


def label(axes: Axes, size: str, value: str, sizes: Sequence[int]) -> None:
    """The ticks are the sizes that were measured."""
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{each:,}" for each in sizes], rotation=30)
    axes.minorticks_off()
    axes.set_xlabel(size)
    axes.set_ylabel(value)
    if axes.get_yscale() == "linear":
        axes.set_ylim(bottom=0)


def add_legend(figure: Figure) -> None:
    """One for all panels, below the title."""
    found = [axes.get_legend_handles_labels() for axes in figure.axes]
    lines = {text: line for each in found for line, text in zip(*each, strict=True)}
    if lines:
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, 0.95), "ncols": len(lines)}
        figure.legend(lines.values(), lines.keys(), frameon=False, fontsize=8, **place)
    figure.tight_layout(rect=(0, 0, 1, 0.96 if lines else 1))


def save(figure: Figure, name: str) -> None:
    """Without the date and the version of what drew it: the same data is the same file."""
    FOLDER.mkdir(exist_ok=True)
    add_legend(figure)
    path = FOLDER / f"{name}.png"
    figure.savefig(path, dpi=PIXELS_PER_INCH, metadata={"Software": None})
    plt.close(figure)
    print(path)
