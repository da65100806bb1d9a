"""The sections that hold numbers: each answers one question from the records, or says what is missing and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.plots import figures
from benchmarks.report.blocks import Heading, Missing, Plots, Prose, Section, Shown
from benchmarks.report.gallery import gallery
from benchmarks.report.panels import Panels
from benchmarks.tables import kinds, views

if TYPE_CHECKING:
    import pandas as pd

BOUGHT = (
    "Each method stands at its largest metered NFE within the budget, printed where it is less; so under a larger "
    "budget too, until more was asked of it."
)
MARKED = "Best is bold, † marks what the interval of the difference does not tell from the best; noise floor unranked."


def precision(panels: Panels) -> Section:
    asks = (
        "How far does a sampler end from the exact answer for a given number of network evaluations, with a "
        "perfect denoiser? Deterministic samplers are held against the exact flow from the same start, all of them "
        "against exact samples."
    )
    blocks = panels.nothing("precision", "an analytic target")
    for key, rows in panels.groups("precision"):
        blocks.append(Heading(views.slug("precision", key["target"]), key["target"]))
        own = rows.grid == "own"
        shared = [
            (f"{k['process']}, grid {k['grid']}", part) for k, part in views.settled(rows[~own], ["process", "grid"])
        ]
        for title, part in [("each on its paper's path and grid", rows[own]), *shared]:
            if not part.empty:
                blocks += precision_group(panels, key["target"], title, part)
    return Section("work-precision", "Work and precision", asks, blocks)


def precision_group(panels: Panels, target: str, title: str, rows: pd.DataFrame) -> list[object]:
    id = views.slug(target, "own" if "own" in set(rows.grid) else title)
    metrics = sorted(set(rows.metric) - {""}, key=lambda m: ("exact_flow" not in panels.named[m].needs, m))
    chosen = [panels.named[value] for metric in metrics for value in views.values_of(rows, metric)]
    both = panels.with_floors(rows)
    table = views.long(
        both, chosen, id=id, title=f"{target}, {title}", settings=views.varied(rows),
        caption="Exact denoiser; same start states for all methods. Errors against the exact flow are over fixed "
        f"samples (seed {_seeds(rows)}, n = {_sizes(rows)}) and carry no interval. {panels.floor_said(both)}",
    )  # fmt: skip
    plots = panels.plots(
        rows,
        metrics,
        "nfe",
        id,
        guides=sorted({1, *declared_orders(panels, rows)}),
        table=panels.keep(table, True).table,
        always_log=True,
    )
    return [Heading(id + "-setting", title), panels.key(id, rows), plots] if plots else [panels.keep(table)]


def declared_orders(panels: Panels, rows: pd.DataFrame) -> set[int]:
    """Declared orders of the methods in these rows."""
    cards = {sampler.id: sampler for paper in panels.inputs.papers.values() for sampler in paper.samplers}
    found = (cards[method].order for method in set(rows.method) if method in cards)
    return {int(order) for order in found if order}


def quality(panels: Panels) -> Section:
    asks = (
        "Quality, diversity and cost of samples from small trained networks. Differences here are differences of "
        "samplers: network, start noise, reference and n are shared within a table."
    )
    blocks = panels.nothing("quality", "a trained network on images")
    for key, every in panels.groups("quality"):
        id, title = anchor(key), named(key)
        to_zero = every.grid.str.endswith("_to_zero")
        rows = every if to_zero.all() else every[~to_zero]  # grids that end at clean data have a table of their own
        blocks += [Heading(id, title), panels.key(id, rows)]
        metrics = sorted(set(rows.metric) - {""}, key=quality_order)
        both = panels.with_floors(rows)
        measures = [panels.named[m] for m in metrics]
        everything = [panels.named[v] for m in metrics for v in views.values_of(rows, m)]
        table = views.long(
            both, everything, id=id + "-all", title=f"{title}: every job", settings=views.varied(rows),
            caption=f"One row for each job, seed {_seeds(rows)}. {panels.floor_said(both)}",
        )  # fmt: skip
        plots = panels.plots(
            rows, metrics, "nfe", id, ticks=budget_ticks(panels, rows), table=panels.keep(table, True).table
        )
        blocks += [plots] if plots else []
        blocks += against_time(panels, key, rows, metrics[:1], id)
        caption = (
            f"{BOUGHT} Compare only at equal n, reference and features. {MARKED} {panels.floor_said(both)}"
        )
        for measure in measures[:1]:
            table = views.by_budget(
                both, measure, id=views.slug(id, measure.name), title=f"{measure.title}: {title}", caption=caption
            )
            blocks.append(panels.keep(table))
            if to_zero.any() and not to_zero.all():
                table = views.by_budget(
                    panels.with_floors(every[to_zero]), measure, id=views.slug(id, measure.name, "to-zero"),
                    title=f"{measure.title}: {title}, the last step to clean data",
                    caption=f"The same on a grid whose last interval ends at t = 0 instead of t_min. {caption}",
                )  # fmt: skip
                blocks.append(panels.keep(table))
        for budget in views.asked_of(rows):
            table = views.by_metric(
                both, measures, budget, id=f"{id}-nfe-{budget}", title=f"{title}: NFE up to {budget}", caption=caption
            )
            if any(row.kind == "" for row in table.rows):
                blocks.append(panels.keep(table))
    return Section("quality", "Quality, diversity and cost with trained networks", asks, blocks)


def quality_order(metric: str) -> tuple:
    first = ("frechet", "kid", "precision", "recall", "coverage", "density", "nearest_train")
    return (first.index(metric) if metric in first else len(first), metric)


def budget_ticks(panels: Panels, rows: pd.DataFrame) -> tuple[int, ...]:
    top = rows.nfe.max()
    return tuple(b for b in (2, *views.BUDGETS, 100, 200) if b <= max(top, 50) and b >= min(rows.nfe.min(), 5))


def against_time(
    panels: Panels, key: dict[str, Any], rows: pd.DataFrame, metrics: Sequence[str], id: str
) -> list[object]:
    """The first metrics again, against seconds computed from the timed cell of the same method and network."""
    timed = panels.frame[(panels.frame.kind == "timing") & (panels.frame.status == "ok")]
    for name in ("target", "model", "net_dtype"):
        timed = timed[timed[name] == key[name]]
    timed = timed[timed.value == "seconds_per_sample"]
    each = {row.series: row.estimate / row.nfe for row in timed.itertuples()}
    known = rows[rows.series.isin(set(each))].copy()
    if known.empty:
        return []
    known["per_sample"] = known.nfe * known.series.map(each)
    table = views.long(
        known, [panels.named[metric] for metric in metrics], id=id + "-time", title=f"{named(key)}: quality and time",
        caption="One row for each job of a method that was timed.",
    )  # fmt: skip
    plots = panels.plots(known, metrics, "per_sample", id + "-time", table=panels.keep(table, True).table)
    where = ", ".join(sorted({f"{row.device} ({row.hardware})" for row in timed.itertuples()}))
    said = f"Seconds are computed, not measured: those of the method's timed cell on {where}, scaled by NFE."
    return [plots, Prose(said)] if plots else []


def speed(panels: Panels) -> Section:
    asks = "How many samples per second, on which hardware, and how much of it is the sampler rather than the network?"
    rows = panels.frame[panels.frame.kind == "timing"]
    if rows.empty:
        return Section("speed", "Speed", asks, [Missing(f"No timing job in this store. {panels.why()}")])
    blocks: list[object] = []
    for key, part in views.settled(rows, ["target", "model", "device", "hardware"]):
        title = f"{key['target']}, network {key['model']}, {key['device']} ({key['hardware']})"
        id = views.slug("speed", key["target"], key["model"], key["device"])
        table = kinds.speeds(part, id, title)
        series = {
            row.labels[0]: [views.Point(0, c.value, c.low, c.high, None)]
            for row in table.rows if (c := row.cells[2]).status == "ok" and c.value is not None
        }  # fmt: skip
        blocks.append(Heading(id + "-heading", title))
        if series:
            figure = figures.dots(
                "plot-" + id,
                f"Samples per second, {title}",
                "samples per second at the timed NFE",
                series,
                panels.looks,
            )
            blocks.append(Plots(((figure, "Samples per second in the timed cell; bars carry the ratio's interval."),)))
        blocks.append(panels.keep(table))
    return Section("speed", "Speed", asks, blocks)


def stepped(
    panels: Panels, family: str, title: str, asks: str, what: str, *, x: str = "steps", note: str = ""
) -> Section:
    """A section of panels against x and one table of every job, for each target and model."""
    blocks = panels.nothing(family, what)
    for key, rows in panels.groups(family):
        several = (rows.groupby("series").process.nunique() > 1).any()
        for path, part in views.settled(rows, ["process"]) if several else [({}, rows)]:
            name = named(key) + "".join(f", path {process}" for process in path.values())
            blocks += stepped_group(panels, views.slug(family, anchor(key), *path.values()), name, part, x)
    return Section(family, title, asks, [Prose(note), *blocks] if note and panels.groups(family) else blocks)


def stepped_group(panels: Panels, id: str, name: str, rows: pd.DataFrame, x: str) -> list[object]:
    metrics, both = sorted(set(rows.metric) - {""}), panels.with_floors(rows)
    chosen = [panels.named[value] for metric in metrics for value in views.values_of(rows, metric)]
    table = views.long(
        both, chosen, id=id + "-all", title=name, settings=views.varied(rows),
        caption=f"One row for each job, seed {_seeds(rows)}. {panels.floor_said(both)}",
    )  # fmt: skip
    rows = rows.assign(cost=rows.nfe + 2 * rows.vjps)
    plots = panels.plots(rows, metrics, x, id, table=panels.keep(table, True).table)
    return [Heading(id, name), panels.key(id, rows), plots if plots else Shown(table)]


def tokens(panels: Panels) -> Section:
    asks = (
        "How many steps does a discrete sampler need until its samples follow the exact table of sequences, and "
        "what does a trained token network reach?"
    )
    section = stepped(panels, "tokens", "Tokens", asks, "token samples")
    rows = panels.frame[panels.frame.kind == "likelihood"]
    blocks = list(section.blocks)
    if rows.empty:
        blocks.append(Missing("No likelihood job in this store, so no bound per character."))
    else:
        blocks += [Heading("tokens-bounds", "Bounds and likelihoods"), panels.keep(kinds.likelihoods(rows))]
        blocks.append(Prose(
            "For absorbing noise the terminal KL divergence is infinite at any finite noise level (the prior puts no "
            "mass on unmasked letters); like the official code, the number omits that term, so there it is a bound "
            "only up to it."
        ))  # fmt: skip
    return Section(section.id, section.title, section.asks, blocks)


def control(panels: Panels) -> Section:
    asks = "Sampling from an unnormalised density: how far is the estimate of log Z off, and are all modes found?"
    return stepped(panels, "control", "Control", asks, "a learned control on a density")


def inverse(panels: Panels) -> Section:
    asks = (
        "Restoring a signal from a noisy measurement: how far is the mean of the answers from the exact posterior "
        "mean, do they explain the measurement no better than its noise allows, and are they as "
        "diverse as the posterior?"
    )
    note = "A residual of 1 in units of the noise is what the truth has; far below it the noise is fitted."
    return stepped(panels, "inverse", "Inverse problems", asks, "an inverse problem", x="cost", note=note)


def same_noise(panels: Panels) -> Section:
    asks = "What do the samples look like, method by method, from the same start noise?"
    blocks: list[object] = []
    for key, rows in panels.groups("quality"):
        shown, problems = gallery(panels.inputs, rows, key["target"])
        if shown:
            blocks.append(Heading(views.slug("gallery", anchor(key)), named(key)))
            blocks.append(shown)
        blocks += [Missing(problem) for problem in problems]
    return Section(
        "gallery", "Same noise, different samplers", asks, blocks or [Missing(f"No image samples. {panels.why()}")]
    )


def named(key: dict[str, Any]) -> str:
    """A group as its heading says it: target, network, and the network's dtype where it is not the usual one."""
    network = "" if key["model"] == "exact" else f", network {key['model']}"
    return (
        key["target"]
        + network
        + (f" in {key['net_dtype']}" if key.get("net_dtype") not in ("", None, "float32") else "")
    )


def anchor(key: dict[str, Any]) -> str:
    """The same as an id."""
    return views.slug(*(part for part in key.values() if part not in ("exact", "float32")))


def _seeds(rows: pd.DataFrame) -> str:
    return ", ".join(str(seed) for seed in sorted(set(rows.seed.dropna())))


def _sizes(rows: pd.DataFrame) -> str:
    return ", ".join(str(size) for size in sorted(set(rows["size"].dropna())))
