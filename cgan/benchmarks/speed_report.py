"""Tables of the speed of training and sampling: lists of lines and of tables, which rich prints."""

from rich import box
from rich.table import Table

from cgan.benchmarks.sizing import Plan

Parts = list[str | Table]  # what to print, one below the other


def table_of(header: list[str], rows: list[list[str]], title: str | None = None) -> Table:
    """Returns a table in Markdown, numbers on the right."""
    table = Table(title=title, box=box.MARKDOWN, title_justify="left")
    for number, name in enumerate(header):
        table.add_column(name, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*row)
    return table


def comparison_parts(report: dict, against: list[str]) -> Parts:
    """Returns the comparison of two configurations; against holds the settings of the second one."""
    names, how = ["as configured", f"with {' '.join(against)}"], list(map(manner, report["compiled"]))
    widths = [(count["generator"] / 1e6, count["discriminator"] / 1e6) for count in report["parameters"]]
    rows = [
        [name, runs, f"{rate:.1f}", f"{g:.2f}, {d:.2f}"]
        for name, runs, rate, (g, d) in zip(names, how, report["images_per_second"], widths, strict=True)
    ]
    first, second = report["counts"]
    counts = [[a, x, y] for (a, x), (_, y) in zip(count_rows(first), count_rows(second), strict=True)]
    if any(report["compiled"]):
        counts.append(["graphs by the first steps, by later ones, breaks", *map(graphs_text, report["graphs"])])
    return [
        f"{report['device']}, {report['threads']} threads, {report['precision']}, {report['resolution']} px",
        table_of(["a training step by a bare loop", "runs", "images/s", "G and D, millions"], rows),
        table_of(["counts of a step", *names], counts),
        f"the first is {report['ratio']:.2f} times as fast; each runs as its settings say, the first {how[0]} and the "
        f"second {how[1]}",
    ]


def manner(compiled: bool) -> str:
    """Returns how a step runs, in a word."""
    return "compiled" if compiled else "eager"


def graphs_text(graphs: dict[str, int] | None) -> str:
    """Returns the graphs of torch.compile as text; empty where nothing is compiled."""
    return "" if graphs is None else f"{graphs['first']}, {graphs['later']}, {graphs['breaks']}"


def count_rows(counts: dict[str, float]) -> list[list[str]]:
    """Returns a row for each count of a step: its name and its number."""
    names = {
        "operations": "operations dispatched",
        "outer_operations": "of these, not inside another one",
        "host_syncs": "times that the host waits for a value",
        "launches": "kernels launched",
    }
    rows = [[name, f"{counts[key]:,.0f}"] for key, name in names.items() if key in counts]
    busy = [["share of a step in which the GPU works", f"{counts['gpu_busy']:.0%}"]] if "gpu_busy" in counts else []
    return rows + busy


def speed_parts(report: dict) -> Parts:
    """Returns what was measured, and where the step's time goes."""
    header = ["size", "images/s (bare loop)", "GFLOP an image", "GFLOP/s", "memory, counted"]
    return [
        f"{report['device']}, {report['threads']} threads, {report['precision']}, {report['resolution']} px, batch "
        f"{report['batch_size']}, torch {report['versions']['torch']}, {report['date']}",
        table_of(["", "measured"], main_rows(report)),
        table_of(["counts of a step by Lightning", manner(report["step"]["compiled"])], counted_rows(report["step"])),
        table_of(["part of a step", "ms", "%", "GFLOP", "GFLOP/s"], split_rows(report["step"])),
        *(table_of(header, list(map(grown_row, rows)), f"by {what}") for what, rows in report.get("grow", {}).items()),
    ]


def counted_rows(step: dict) -> list[list[str]]:
    """Returns rows of the counts of a step, with its graphs where it is compiled."""
    graphs = ["graphs by the first steps, by later ones, breaks", graphs_text(step["graphs"])]
    return count_rows(step["counts"]) + ([graphs] if step["compiled"] else [])


def main_rows(report: dict) -> list[list[str]]:
    """Returns rows of speeds, operations and memory."""
    step, memory, peak, sampling = (report[name] for name in ("step", "memory", "peak", "sampling"))
    millions = ", ".join(f"{name} {count / 1e6:.2f}" for name, count in report["parameters"].items())
    flops = ", ".join(f"{name} {count / 1e9:.1f}" for name, count in step["flops_of_players"].items() if count)
    rows = [
        ["training, images/s", f"{step['images_per_second']:.1f}"],
        ["the same by a bare loop", f"{step['images_per_second_bare']:.1f}"],
        ["Lightning overhead over a bare loop", f"{step['lightning_overhead']:+.1%}"],
    ]
    if "images_per_second_before_adversary" in step:
        rows.append(["bare, before the adversary joins", f"{step['images_per_second_before_adversary']:.1f}"])
    rates = ", ".join(f"{number:.1f} at batch {size}" for size, number in sampling["images_per_second"].items())
    return rows + [
        ["sampling, images/s", rates],
        ["sampling one image, ms", f"{1000 * sampling['latency']:.1f}"],
        ["a step, GFLOP", f"{step['flops'] / 1e9:.1f}: {flops}"],
        ["peak of products and of the generator's layers, GFLOP/s", peaks(peak, "matmul", "layers")],
        ["a step, GFLOP/s", f"{peaks(peak, 'step')}, of those {shares(peak, 'step')}"],
        ["the generator at batch 64, of those", shares(peak, "generator")],
        ["parameters, millions", millions],
        ["memory counted, and at most, MB", f"{memory['counted'] / 1e6:.0f}, {memory['peak'] / 1e6:.0f}"],
    ]


def peaks(peak: dict, *names: str) -> str:
    """Returns the GFLOP/s of some kinds of work, as text."""
    return ", ".join(f"{peak[f'{name}_flops_per_second'] / 1e9:.0f}" for name in names)


def shares(peak: dict, what: str) -> str:
    """Returns the shares that a kind of work reaches of the device's peaks in products and in layers."""
    return f"{peak[f'{what}_of_matmul']:.0%}, {peak[f'{what}_of_layers']:.0%}"


def split_rows(step: dict) -> list[list[str]]:
    """Returns the parts of a training step, a row each."""
    rows = []
    for name, seconds in step["split_seconds"].items():
        flops = step["flops_of_parts"][name] / 1e9
        counted = [f"{flops:.2f}", f"{flops / seconds:.0f}"] if flops else ["", ""]
        rows.append([name, f"{1000 * seconds:.1f}", f"{100 * step['split'][name]:.1f}", *counted])
    return rows


def grown_row(row: dict) -> list[str]:
    """Returns the row of one size of a configuration."""
    numbers = row["flops_per_image"] / 1e9, row["flops_per_second"] / 1e9
    flops = [f"{number:.2f}" for number in numbers]
    return [row["size"], f"{row['images_per_second_bare']:.2f}", *flops, f"{row['counted'] / 1e6:.0f} MB"]


def plan_parts(plan: Plan, device: str, num_gpus: int, teraflops: float | None) -> Parts:
    """Returns a row for each size: costs are counted, speeds predicted from one measured FLOP/s or from a stated one.

    device: what was measured. teraflops: what each of num_gpus GPUs sustains; without it nothing is said of GPUs.
    """
    here, rows = plan.flops_per_second / 1e9, []
    stated = f"; those of {num_gpus} GPUs if each sustained {teraflops:g} TFLOP/s" if teraflops else ""
    header = ["px", "width", "parameters, M", "GFLOP an image", "GB", "MB an image", "images/s here", "hours a million"]
    far = [] if teraflops is None else [f"images/s, {num_gpus} GPUs", "hours a million, GPUs"]
    for row in plan.rows:
        speeds = [row.images_per_second]
        if teraflops is not None:
            speeds.append(num_gpus * teraflops * 1e12 / row.flops_per_image)
        sizes = row.parameters / 1e6, row.flops_per_image / 1e9, row.memory / 1e9, row.memory_per_image / 1e6
        cells = [f"{number:.3g}" for number in sizes]
        cells += [f"{number:.3g}" for speed in speeds for number in (speed, 1e6 / speed / 3600)]
        rows.append([str(row.resolution), str(row.width), *cells])
    return [
        f"Counted: parameters, GFLOP, memory (float32, batch {plan.batch_size}). Measured: {here:.1f} GFLOP/s, by "
        f"steps of batch {plan.measured_batch} at the configured size on {device}. Predicted: all speeds{stated}.",
        table_of(header + far, rows),
    ]
