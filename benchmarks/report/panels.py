"""What all sections share: the frame of cells, groups of rows that belong together, their floors, panels and tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.plots import figures
from benchmarks.report.blocks import Key, Missing, Plots, Shown
from benchmarks.tables import views
from benchmarks.tables.table import Table

if TYPE_CHECKING:
    import pandas as pd

    from benchmarks.plots.style import Look
    from benchmarks.report.inputs import Inputs

FAMILIES = {  # what a metric must need for its target to stand in a section, tried in this order
    "tokens": {"tokens", "text", "token_table"},
    "inverse": {"posterior", "truth"},
    "control": {"log_weight", "modes"},
    "quality": {"features", "train"},
    "precision": {"exact_flow", "exact_samples", "mixture_1d"},
}
X_TITLES = {
    "nfe": "network evaluations per sample (NFE)",
    "steps": "steps",
    "per_sample": "seconds per sample (computed)",
    "cost": "cost per sample: NFE + 2 x backward passes",
}


class Panels:
    """One set of inputs, seen by groups; `tables` collects every table of the first page, to be written as files."""

    def __init__(self, inputs: Inputs, looks: dict[str, Look]):
        self.inputs, self.frame, self.looks, self.named = inputs, inputs.frame, looks, inputs.measures
        self.tables: list[Table] = []  # in the order of appearance, to be written as files

    def family(self, rows: pd.DataFrame) -> str:
        """The section to which the scores of one (target, model) belong; "" where nothing was scored."""
        needs = set().union(*(self.named[metric].needs for metric in set(rows.metric) if metric))
        found = next((name for name, of in FAMILIES.items() if needs & of), "")
        trained = set(rows.model) != {"exact"}
        if found == "quality" and not trained and needs & FAMILIES["precision"]:
            return "precision"
        return "quality" if found == "precision" and trained else found

    def groups(self, family: str) -> list[tuple[dict[str, Any], pd.DataFrame]]:
        """({target, model, net_dtype}, rows of its methods) of a section."""
        scored = self.inputs.tabled[self.inputs.tabled.kind.isin({"score", "sample"})]
        parts = views.settled(views.methods(scored), ["target", "model", "net_dtype"])
        return [(key, rows) for key, rows in parts if self.family(rows) == family]

    def floors(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Floors beside these rows: of the same target and n, and of the same process where the floor names one."""
        floor = views.floor_rows(self.frame)
        fits = floor.target.isin(set(rows.target)) & floor["size"].isin(set(rows["size"]))
        fits &= (floor.process == "") | floor.process.isin(set(rows.process))
        named = floor[fits & (floor.process != "")]
        exact = set(rows.start) == {"exact"}
        return named if exact and not named.empty else floor[fits & (floor.process == "")]

    def unscored(self) -> pd.DataFrame:
        """Failed samples of a (target, model) of which nothing was scored: they belong to no section."""
        failed = self.inputs.tabled[(self.inputs.tabled.kind == "sample") & (self.inputs.tabled.status != "ok")]
        placed = {(k["target"], k["model"]) for family in FAMILIES for k, _ in self.groups(family)}
        return failed[[(row.target, row.model) not in placed for row in failed.itertuples()]]

    def keep(self, table: Table, folded: bool = False) -> Shown:
        self.tables.append(table)
        return Shown(table, folded)

    def key(self, id: str, rows: pd.DataFrame) -> Key:
        return Key(id, tuple(sorted(set(rows.series))))

    def nothing(self, family: str, what: str) -> list[object]:
        return [] if self.groups(family) else [Missing(f"No record in this store scores {what}. {self.why()}")]

    def why(self) -> str:
        if self.frame.empty:
            return "The store holds no records: run a suite first (`trilemma run smoke`), then `trilemma report`."
        return "Either its suite was not run into this store, or all of its jobs failed: see the failed rows above."

    def plots(
        self, rows: pd.DataFrame, metrics: Sequence[str], x: str, id: str, *, ticks: Sequence[float] = (),
        guides: Sequence[int] = (), table: Table | None = None, always_log: bool = False,
    ) -> Plots | None:  # fmt: skip
        """One panel for each metric that has numbers. always_log: of errors, however far they reach; not of shares."""
        floors, made = self.floors(rows), []
        for metric in metrics:
            measure = self.named[metric]
            series = views.series(rows, metric, x)
            if not series:
                continue
            failed = views.failures(views.of_value(rows, metric, metric))
            failed = failed[failed[x].notna()]
            missing = {label: sorted(set(of[x].astype(float))) for label, of in failed.groupby("series")}
            band = self.band(floors, metric)
            title = measure.title + (f" [{measure.unit}]" if measure.unit else "")
            plot = figures.Lines(
                id=views.slug("plot", id, metric), title=f"{measure.title} against {x}, {id}", series=series,
                x_title=X_TITLES[x], y_title=title,
                log_y=always_log and measure.better == "lower" or self.log_scale(series, measure), ticks=ticks,
                band=band, reach=10.0 if always_log and self.grounded(series, band) else 100.0,
                ideal=measure.ideal if measure.ideal else None, ideal_title="ideal", missing=missing,
                guides=guides if "exact_flow" in measure.needs else (), apart=bool(ticks),
            )  # fmt: skip
            made.append((figures.lines(plot, self.looks), self.said_of(plot, measure)))
        return Plots(tuple(made), table) if made else None

    def grounded(self, series: dict[str, list[views.Point]], band: tuple[float, float] | None) -> bool:
        """Whether the least value stands near its floor, so that one outlier would be all that the panel shows."""
        extent = views.extent(series)
        return band is not None and extent is not None and band[1] > 0.1 * extent[0]

    def log_scale(self, series: dict[str, list[views.Point]], measure: views.Measure) -> bool:
        extent = views.extent(series)
        return measure.better == "lower" and measure.ideal == 0 and extent is not None and extent[1] > 4 * extent[0]

    def band(self, floors: pd.DataFrame, metric: str) -> tuple[float, float] | None:
        rows = floors[(floors.value == metric) & (floors.status == "ok")]
        if rows.empty:
            return None
        lows, highs = rows.low.fillna(rows.estimate), rows.high.fillna(rows.estimate)
        return float(lows.min()), float(highs.max())

    def said_of(self, plot: figures.Lines, measure: views.Measure) -> str:
        """The caption of a panel: only what its title and axes do not say."""
        better = {"lower": "Lower is better.", "higher": "Higher is better."}.get(measure.better, "")
        held = any(p.low is not None for points in plot.series.values() for p in points)
        ns = {p.n for points in plot.series.values() for p in points} - {None}
        count = f", n = {ns.pop()} samples per estimate" if len(ns) == 1 else ""
        bars = f"Bars: 95 % intervals{count}." if held else "No interval: exact, or over fixed samples."
        shifted = "Shifted sideways by up to 4 % so that bars stay apart." if plot.apart else ""
        crosses = "Crosses at the upper edge: failed jobs." if plot.missing else ""
        beyond = f"Triangles at the upper edge: values above {plot.ceiling:.1e}." if plot.beyond else ""
        return " ".join(part for part in (better, bars, shifted, crosses, beyond, self.said_of_zeros(plot)) if part)

    def said_of_zeros(self, plot: figures.Lines) -> str:
        """Which series stand at the lower edge of a logarithmic panel: all too easily they are the best, unseen."""
        if not plot.nought:
            return ""
        value = "0" if all(p.y == 0 for points in plot.nought.values() for p in points) else "0 or less"
        always = [label for label, points in plot.nought.items() if len(points) == len(plot.series[label])]
        at = {label: ", ".join(f"{p.x:g}" for p in points)
              for label, points in plot.nought.items() if label not in always}  # fmt: skip
        named = [*(f"{label} throughout" for label in always), *(f"{label} at {x}" for label, x in at.items())]
        more = f" and {len(named) - 6} more" if len(named) > 6 else ""
        return f"Triangles at the lower edge: {value} ({'; '.join(named[:6])}{more})."

    def with_floors(self, rows: pd.DataFrame) -> pd.DataFrame:
        import pandas as pd

        return pd.concat([rows, self.floors(rows)], ignore_index=True)

    def floor_said(self, rows: pd.DataFrame) -> str:
        if views.floor_rows(rows).empty:
            return "No noise floor in this store."
        return "Noise floor: what the metric says of the truth itself at the same n."
