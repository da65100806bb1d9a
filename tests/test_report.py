"""The report: a pure function of the records, whole without a network or a script, honest where records are missing."""

import dataclasses
import json
import re
import shutil
from html.parser import HTMLParser

import pytest
import torch

import benchmarks.report as pages
from benchmarks.jobs import Job
from benchmarks.plots import figures, readme, style
from benchmarks.plots.svg import drawing, finished
from benchmarks.records import REFERENCE, Place, Record, Score, Store, score_id
from benchmarks.report import ledger, papers
from benchmarks.report.blocks import Gallery
from benchmarks.report.gallery import strip_png
from benchmarks.report.panels import Panels
from benchmarks.statistics import Interval
from benchmarks.tables.views import Point

PLACE = Place(device="cpu", hardware="a processor", threads=1, python="3.11", torch="2.13", platform="linux")
DDIM, HEUN, ANALYTIC = "song2020ddim.ddim", "karras2022edm.heun", "lou2024sedd.analytic"
EVIL = '<script>alert("&1")</script>\'"><img src=x onerror=y>'
VOID = {"meta", "img", "link", "br", "hr", "wbr", "input", "path", "use", "rect", "circle", "line"}
FINDINGS = (
    ledger.Finding(
        key="song2020ddim/no-noise-is-better", says="Without noise it is better. " + EVIL, outcome="inconclusive",
        why="[-0.02, 0.11] against > 0", locus="table 1", kind="ranking", grade="S", paper_number="6.84 against 18.36",
        scaled="CIFAR-10 to digits", transfer="weak", estimand="a difference", direction="above", margin=0.0,
        estimate=0.05, low=-0.02, high=0.11, level=0.975, n=900, method="t over 20 pairs",
    ),
    ledger.Finding(
        key="lipman2022fm/on-imagenet", says="FID 20.9.", outcome="out of reach here", why="no weights", grade="C"
    ),
)  # fmt: skip


def add(store, asked, *, score=None, **fields):
    given = dict(made_of={"method": "1"}, status="ok", place=PLACE, seconds=1.0, commit="c0ffee", dirty=False)
    id, kind = (asked.id, asked.kind) if score is None else (score_id(asked, score), "score")
    record = Record(id=id, kind=kind, job=asked, score=score, written="2026-01-01T00:00:00Z", **{**given, **fields})
    return store.append(record)


def scored(store, asked, metric, value, *, nfe, artefacts=None):
    sample = add(store, asked, values={"nfe": float(nfe), "vjps": 0.0}, artefacts=artefacts or {})
    found = Interval(value, 0.9 * value, 1.1 * value, 900, 0.95, "t on the jackknife over 20 shards", 20)
    add(store, asked, score=Score(metric=metric, samples=sample.samples_digest), values={metric: found})


def digits(method, steps):
    return Job(kind="sample", method=method, target="digits", process="ve-edm", model="digits-edm", grid="power(7)",
               steps=steps, n=900, shards=20, start="card", dtype="float32", net_dtype="float32")  # fmt: skip


def fill(folder, frechet=3.25):
    """A store with something of every section but two, which have nothing."""
    store = Store(folder)
    x = torch.linspace(-1, 1, 12 * 64).reshape(12, 1, 8, 8)
    for method in (DDIM, HEUN):
        for steps in (10, 20):
            artefacts = {"samples": store.save({"x": x * steps / 20})}
            scored(store, digits(method, steps), "frechet", frechet + 1 / steps, nfe=steps, artefacts=artefacts)
    add(store, digits(HEUN, 50), status="timeout", reason="no answer within 120 s " + EVIL)
    floor = Job(kind="floor", method="target", target="digits", n=900, shards=20)
    add(store, floor, score=Score(metric="frechet", samples="none"), values={"frechet": 0.75})
    for steps in (4, 16, 64):
        fields = dict(kind="sample", method=DDIM, target="g3", process="ve-edm", grid="power(7)", n=100, start="exact")
        scored(store, Job(**fields, steps=steps), "sliced_w1", 1 / steps, nfe=steps)
        fields = dict(
            kind="sample", method=ANALYTIC, target="joint-3x3", process="absorbing-loglinear", grid="t", n=100
        )
        scored(store, Job(**fields, steps=steps), "token_tv", 1 / steps, nfe=steps)
    ratio = Interval(1.25, 1.0, 2.5, 6, 0.95, "order statistics 1 of 6", 6)
    add(store, digits(DDIM, 20).model_copy(update={"kind": "timing"}), values={
        "nfe": 20.0, "batch": 16, "ratio": ratio, "seconds_per_sample": 0.01, "samples_per_second": 100.0})  # fmt: skip
    store.close()
    return folder


def build(store, out, **options):
    return pages.build(store, out, **{"current": None, "findings": FINDINGS, **options})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(store, reports folder, index.html) of a small store."""
    folder = tmp_path_factory.mktemp("report")
    store = fill(folder / "store")
    index = build(store, folder / "reports")
    return store, folder / "reports", index.read_text()


class Balance(HTMLParser):
    """Every element that is opened is closed, in order; ids are unique; what is said in text and in attributes."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.ids, self.links, self.text, self.tags = [], [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.ids += [value for name, value in attributes if name == "id"]
        self.links += [value for name, value in attributes if name in ("href", "src", "srcset", "action", "data")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing that is open"

    def handle_data(self, data):
        self.text.append(data)


def shown(text):
    """What a reader reads, with single blanks."""
    return " ".join("".join(Balance(text).text).split())


def every_page(folder):
    return {path.name: path.read_text() for path in sorted(folder.glob("*.html"))}


def test_equal_records_give_equal_bytes_whatever_the_order_of_their_lines(made, tmp_path):
    store, reports, _ = made
    copy = tmp_path / "store"
    shutil.copytree(store, copy)
    for path in copy.glob("records/*.jsonl"):
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(reversed(lines)))
    build(copy, tmp_path / "reports")
    digest = re.compile(r"inputs [0-9a-f]{16}")  # names the bytes of the files, order included
    found, expected = every_page(tmp_path / "reports"), every_page(reports)
    assert found.keys() == expected.keys()
    assert all(digest.sub("", found[name]) == digest.sub("", expected[name]) for name in found)


def test_made_again_from_the_same_store_it_is_the_same_byte_for_byte(made, tmp_path):
    store, reports, _ = made
    build(store, tmp_path / "again")
    assert every_page(tmp_path / "again") == every_page(reports)


def test_pages_are_well_formed_with_unique_ids_and_links_that_lead_somewhere(made):
    _, reports, _ = made
    pages_ = {name: Balance(text) for name, text in every_page(reports).items()}
    for name, page in pages_.items():
        assert len(page.ids) == len(set(page.ids)), f"{name}: ids occur twice"
        for link in page.links:
            if link.startswith("data:"):
                continue
            file, _, anchor = link.partition("#")
            assert (file or name) in pages_, f"{name}: {link}"
            assert not anchor or anchor in pages_[file or name].ids, f"{name}: {link}"


def test_a_legend_s_lines_are_drawn_once_and_used_wherever_a_method_is_named(made):
    _, reports, index = made
    used = re.findall(r'<svg viewBox="([^"]+)"><use href="#([^"]+)"/></svg>', index)
    assert used and {box for box, _ in used} == {figures.KEY_BOX}
    for id in {id for _, id in used}:
        (drawn,) = re.findall(rf'<svg id="{id}" viewBox="([^"]+)"', index)
        assert drawn == figures.KEY_BOX


def test_nothing_is_fetched_from_anywhere_and_no_script_runs(made):
    _, reports, _ = made
    for name, text in every_page(reports).items():
        page = Balance(text)
        assert not [link for link in page.links if re.match(r"(?i)\s*(\w+:)?//|javascript:|file:", link)], name
        assert not re.search(r"(?i)url\((?!#)|@import|https?://(?!www\.w3\.org/)", text), name
        tags = {tag for tag, _ in page.tags}
        assert not tags & {"script", "iframe", "object", "embed", "link", "form"}, name
        assert not [a for _, attributes in page.tags for a in attributes if a.startswith("on")], name


def test_hostile_strings_of_records_and_claims_stay_text(made):
    _, _, index = made
    assert EVIL not in index
    text = "".join(Balance(index).text)
    assert text.count(EVIL) >= 2  # a reason and a claim


def test_index_is_small_and_grows_no_further_than_its_budget(made, tmp_path, monkeypatch):
    store, _, index = made
    assert len(index.encode()) <= pages.LARGEST == 3_000_000
    monkeypatch.setattr(pages, "LARGEST", 1000)
    with pytest.raises(pages.TooLarge, match="index.html: .* expected at most 1000"):
        build(store, tmp_path)


def test_every_svg_has_a_name_and_a_description_and_no_date(made):
    _, _, index = made
    svgs = re.findall(r"<svg.*?</svg>", index, flags=re.S)
    assert len(svgs) >= 5
    for svg in svgs:
        if re.fullmatch(r'<svg viewBox="[^"]+"><use href="#[^"]+"/></svg>', svg):
            continue  # a legend's line, hidden from readers of names beside its label
        ids = re.search(r'aria-labelledby="(\S+) (\S+)"', svg)
        assert re.search(rf'<title id="{ids[1]}">[^<]+</title>\s*<desc id="{ids[2]}">[^<]+</desc>', svg)
        assert "dc:date" not in svg and "Matplotlib" not in svg and "#a1b2" not in svg


def test_every_plot_has_its_numbers_beside_it(made):
    _, _, index = made
    followed = re.findall(r'<div class="plots.*?</div>\s*(<\S+)', index, flags=re.S)
    assert len(followed) == 5 and set(followed) == {"<details", "<figure"}
    assert "3.35 [3.02, 3.69]" in shown(index)


def test_a_changed_record_changes_its_cell_and_nothing_stale_is_kept(made, tmp_path):
    _, reports, index = made
    changed = build(fill(tmp_path / "store", frechet=4.0), tmp_path / "reports").read_text()
    assert "3.30 [2.97, 3.63]" in shown(index) and "3.30 [2.97, 3.63]" not in shown(changed)
    assert "4.05 [3.6" in shown(changed) and "4.05 [3.6" not in shown(index)


def test_failures_are_words_in_the_summary_the_table_and_on_the_paper_s_page(made):
    _, reports, index = made
    assert "11 of 12 ok: 10/11 sample, 1/1 timing" in shown(index)
    for name in ("index.html", "karras2022edm.html"):
        text = every_page(reports)[name]
        assert re.search(r'<span class="status"[^>]*>timeout</span>', text), name
        assert "no answer within 120 s" in text, name


def test_claims_show_verdict_interval_n_margin_paper_s_number_and_scaling(made):
    _, reports, index = made
    for text in (index, every_page(reports)["song2020ddim.html"]):
        for part in ("inconclusive", "grade S", "0.050 [-0.020, 0.110]", "claimed above 0", "n = 900", "97.5 %",
                     "6.84 against 18.36", "CIFAR-10 to digits", "transfer: weak"):  # fmt: skip
            assert part in text, part
    assert "1 inconclusive, 1 out of reach here, of 2 claims" in index


def test_claims_of_several_papers_are_folded_by_paper_under_their_verdicts(made):
    _, reports, index = made
    folds = re.findall(r'<details class="ledger" id="([^"]+)">\s*<summary>(.*?)</summary>', index)
    assert [id for id, _ in folds] == ["claims-ledger-lipman2022fm", "claims-ledger-song2020ddim"]
    said = [re.sub(r"<[^>]+>", "", summary) for _, summary in folds]
    assert said == ["lipman2022fm 1 out of reach here", "song2020ddim 1 inconclusive"]
    assert 'class="ledger"' not in every_page(reports)["song2020ddim.html"]


def test_what_is_not_there_is_said(made):
    _, _, index = made
    text = shown(index)
    assert "No record in this store scores a learned control on a density." in text
    assert "No record in this store scores an inverse problem." in text
    assert "No likelihood job in this store" in text


def test_an_empty_store_gives_an_honest_page(tmp_path):
    index = build(tmp_path / "none", tmp_path / "reports", findings=()).read_text()
    page = Balance(index)
    assert "The store holds no records" in "".join(page.text)
    assert "<svg" not in index
    assert (tmp_path / "reports" / "song2020ddim.html").is_file()


def test_a_report_of_unchanged_inputs_is_not_made_again(made, monkeypatch, tmp_path):
    store, reports, _ = made
    out = tmp_path / "reports"
    shutil.copytree(reports, out)
    monkeypatch.setattr(pages, "_write", lambda *_: pytest.fail("it was made again"))
    build(store, out)
    with pytest.raises(pytest.fail.Exception, match="made again"):
        build(store, out, findings=FINDINGS[:1])
    with pytest.raises(pytest.fail.Exception, match="made again"):
        build(fill(tmp_path / "store", frechet=4.0), out)
    (out / "song2020ddim.html").write_text("tampered")
    with pytest.raises(pytest.fail.Exception, match="made again"):
        build(store, out)


def test_seconds_of_the_report_are_kept_so_that_the_page_stays_the_same(tmp_path):
    store = fill(tmp_path / "store")
    (store / "stages.json").write_text(json.dumps({"jobs": 12.5, "scores": 3.0}))
    first = build(store, tmp_path / "a").read_text()
    assert "jobs 12.5 s, scores 3.0 s, report " in first
    assert build(store, tmp_path / "b").read_text() == first


def test_tables_lie_beside_the_records_and_the_page_names_their_digest(made):
    store, _, index = made
    text = (store / "tables" / "digits-digits-edm-frechet.csv").read_text()
    digest = re.search(r"# digest ([0-9a-f]{64})", text)[1]
    assert f"<code>digits-digits-edm-frechet</code> · {digest[:12]}" in index
    assert {path.suffix for path in (store / "tables").iterdir()} == {".csv", ".md", ".tex"}


def test_the_gallery_shows_strips_of_the_records_images(made):
    _, _, index = made
    source, wide, high = strip_png(torch.linspace(-1, 1, 12 * 64).reshape(12, 1, 8, 8))
    assert source in index and (wide, high) == (12 * 9 - 1, 8)
    assert "nearest training image" in index and Gallery.kind == "gallery"


def test_text_and_lines_have_enough_contrast_in_both_themes():
    for theme in ("light", "dark"):
        page = style.PAGES[theme]
        for colour in (style.INKS[theme], style.QUIET[theme], *(style.LIGHT if theme == "light" else style.DARK)):
            assert style.contrast(colour, page) >= 4.5, (theme, colour)
    assert style.contrast("#000000", "#ffffff") == pytest.approx(21)


def test_a_method_looks_the_same_beside_any_others_and_no_two_look_alike():
    from reference_impls import catalogue

    ids = list(catalogue.samplers())
    every = style.looks(ids, ids)
    assert len({(look.colour, look.marker, str(look.dashes)) for look in every.values()}) == len(ids)
    for id in ids:
        assert style.looks(ids, [id])[id] == every[id]


def test_methods_of_one_paper_differ_in_dashes_before_their_marker_is_looked_at():
    """By fours, as there are four kinds of dashes; and all 36 looks of a colour are used before one is used again."""
    ids = [f"a.m{k:02d}" for k in range(len(style.MARKERS) * len(style.DASHES))]
    found = [style.looks(ids, ids)[id] for id in ids]
    for k in range(len(ids) - 3):
        assert len({str(look.dashes) for look in found[k : k + 4]}) == 4
    assert len({(look.marker, str(look.dashes)) for look in found}) == len(ids) == 36


def test_log_ticks_are_said_without_losing_small_ones():
    assert [figures.said(v) for v in (0.001, 1e-4, 5e-4, 20.0, 1e5)] == ["0.001", "10⁻⁴", "5·10⁻⁴", "20", "10⁵"]


def test_a_panel_with_one_point_shows_it_inside_its_axes():
    from matplotlib.figure import Figure

    plot = figures.Lines(id="p", title="t", x_title="x", y_title="y", series={DDIM: [Point(20, 0.5, 0.4, 0.6, 9)]},
                         band=(0.1, 0.2))  # fmt: skip
    with drawing("p"):
        axes = Figure().add_subplot()
        figures.draw(axes, plot, style.looks([DDIM], [DDIM]))
        assert axes.get_xlim()[0] < 20 < axes.get_xlim()[1] and axes.get_ylim()[0] < 0.1 < 0.6 < axes.get_ylim()[1]


def test_a_method_that_diverges_stands_at_the_upper_edge_and_flattens_nobody():
    """Nine series between 0 and 1, one that reaches 1e120: the axis ends at 100 times the median of the largest."""
    from matplotlib.figure import Figure

    names = [f"method{k}" for k in range(10)]
    series = {name: [Point(10, 1.0, 0.5, 2.0, 9), Point(20, 0.0, None, None, 9)] for name in names}
    series[names[3]] = [Point(10, 1e120, 1.0, 1e121, 9), Point(20, 5.0, 1.0, 1e9, 9)]
    plot = figures.Lines(id="p", title="t", x_title="x", y_title="y", series=series)
    assert plot.ceiling == 100.0 and plot.beyond == {names[3]: [Point(10, 1e120, 1.0, 1e121, 9)]}
    assert "1 values above 100 are marked at the upper edge" in plot.desc
    assert dataclasses.replace(plot, log_y=False).beyond == {}
    axes = Figure().add_axes((0, 0, 1, 1))
    figures.draw(axes, plot, style.looks(names, names))
    marks = [line for line in axes.lines if line.get_marker() == "^" and list(line.get_ydata()) == [0.985]]
    assert len(marks) == 1 and list(marks[0].get_xdata()) == [10] and axes.get_ylim()[1] < 1000


def test_an_error_s_panel_over_a_noise_floor_reaches_less_far_up(tmp_path):
    """Two methods near .2 and one at 8.8: a factor of 44, which over a floor is all that the panel would show."""
    store = Store(tmp_path / "store")
    for method, value in ((DDIM, 0.2), (HEUN, 0.21), ("karras2022edm.euler", 8.8)):
        for steps in (10, 20):
            asked = Job(kind="sample", method=method, target="g3", process="ve-edm", grid="power(7)", n=100,
                        start="exact", steps=steps)  # fmt: skip
            scored(store, asked, "sliced_w1", value, nfe=steps)
    without = build(store.folder, tmp_path / "a").read_text()
    floor = Job(kind="floor", method="target", target="g3", process="ve-edm", n=100)
    add(store, floor, score=Score(metric="sliced_w1", samples="none"), values={"sliced_w1": 0.1})
    store.close()
    said = "Triangles at the upper edge: values above 2.1e+00."
    assert said in build(store.folder, tmp_path / "b").read_text() and said not in without
    points = {"a": [Point(10, 0.2, None, None, 9)]}
    near = [Panels.grounded(None, points, band) for band in ((0.01, 0.1), (1e-9, 1e-8), None)]
    assert near == [True, False, False]


def test_ticks_are_no_denser_for_a_floor_far_below():
    """Values within a decade, their floor seven decades below: powers of ten."""
    from matplotlib.figure import Figure

    plot = figures.Lines(id="p", title="t", x_title="x", y_title="y", band=(1e-8, 2e-8),
                         series={DDIM: [Point(5, 0.5, None, None, 9), Point(10, 0.1, None, None, 9)]})  # fmt: skip
    axes = Figure().add_axes((0, 0, 1, 1))
    figures.draw(axes, plot, style.looks([DDIM], [DDIM]))
    low, high = axes.get_ylim()
    assert 2 <= sum(low <= tick <= high for tick in axes.get_yticks()) <= 9


def test_zeros_stand_at_the_lower_edge_of_a_logarithmic_panel_and_are_named():
    from matplotlib.figure import Figure

    series = {DDIM: [Point(5, 0.0, None, None, 9), Point(9, 0.0, None, None, 9)],
              HEUN: [Point(5, 0.4, None, None, 9), Point(9, 0.0, None, None, 9)]}  # fmt: skip
    plot = figures.Lines(id="p", title="t", x_title="x", y_title="y", series=series)
    assert "3 values of 0 or less are marked at the lower edge." in plot.desc
    axes = Figure().add_axes((0, 0, 1, 1))
    figures.draw(axes, plot, style.looks([DDIM, HEUN], [DDIM, HEUN]))
    marks = [list(line.get_xdata()) for line in axes.lines if line.get_marker() == "v" and line.get_ydata()[0] < 0.05]
    assert marks == [[5, 9], [9]]
    said = Panels.said_of_zeros(None, plot)
    assert said == f"Triangles at the lower edge: 0 ({DDIM} throughout; {HEUN} at 9)."
    linear = dataclasses.replace(plot, log_y=False)
    assert linear.nought == {} and "lower edge" not in linear.desc and Panels.said_of_zeros(None, linear) == ""


@pytest.mark.parametrize("xs, ticks", [((8, 16), (5, 10, 20)), ((8, 13.37), ()), ((9.5, 10.5), ()), ((6, 40), ())])
def test_a_narrow_axis_has_two_labelled_ticks_at_least(xs, ticks):
    from matplotlib.figure import Figure

    series = {DDIM: [Point(x, 0.31 + 0.001 * x, None, None, 9) for x in xs]}
    plot = figures.Lines(id="p", title="t", x_title="x", y_title="y", series=series, ticks=ticks)
    axes = Figure().add_axes((0, 0, 1, 1))
    figures.draw(axes, plot, style.looks([DDIM], [DDIM]))
    for axis in (axes.xaxis, axes.yaxis):
        low, high = axis.get_view_interval()
        inside = [at for at in axis.get_majorticklocs() if low <= at <= high]
        labels = [axis.get_major_formatter()(at, 0) for at in inside]
        assert len(set(labels) - {""}) >= 2, labels


def test_numbers_in_the_text_of_a_plot_are_not_rounded():
    from matplotlib.figure import Figure

    with drawing("s"):
        figure = Figure(figsize=(1, 1))
        figure.text(0.5, 0.5, "0.0012345")
        assert "0.0012345" in finished(figure, "s", "t", "d")


def test_the_card_of_a_paper_is_parsed_without_losing_a_word():
    from importlib import import_module

    from reference_impls import catalogue

    for name in catalogue.modules().values():
        text = import_module(name).__doc__
        head, parts = papers.card_of(text)
        words = " ".join([head, *(f"{label} {said}" for label, said in parts)]).split()
        assert words == text.split()
        assert {"Path", "Cost"} <= {label for label, _ in parts}, name
        assert all(papers.flowing(said).split() == said.split() for _, said in parts), name


def test_a_card_s_lines_flow_unless_their_break_was_meant():
    """Of 20 characters: 'that' did not fit, 'A' would have; an indented line starts afresh, however full the last."""
    text = "words of a sentence\nthat goes on.\nA step of its own is\n  x = y\nThe end."
    assert papers.flowing(text, 20) == "words of a sentence that goes on.\nA step of its own is\n  x = y\nThe end."


def test_the_readme_s_plot_is_that_of_the_committed_records():
    """Byte for byte under the matplotlib that drew it; under another one, the same series and numbers."""
    if not list(REFERENCE.glob("records/*.jsonl")):
        assert not readme.FILE.exists(), f"{readme.FILE} shows records that are not committed"
        return
    committed, made = readme.FILE.read_text(), readme.plot(REFERENCE)
    described = re.compile(r"<desc.*?</desc>", re.S)
    assert described.search(committed)[0] == described.search(made)[0]
    assert readme.drawn_with(committed) != readme.drawn_with(made) or committed == made
