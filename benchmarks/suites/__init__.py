"""Suites: TOML files that say which questions are asked, selecting methods by their traits; and the plan that follows.

    about = "one sentence"
    timeout_seconds = 120               # of one job; a select may have its own
    claims = ["E", "A"]                 # grades of the claims whose jobs are added, if any
    shelf = false                       # whether its report shows the committed records of the solver shelf as well

    [[select]]
    name = "work-precision"             # of the table that the cells are for
    kind = "sample"                     # or "timing", "likelihood", "overhead", "law"
    methods = { consumes = "mean" }     # traits of cards; or a list of ids, where the question is about these
    targets = ["g3"]
    paths = [["own", "own"], ["ve-edm", "power(7)"]]     # [process, grid]; "own": the card's, "trained": the model's
    models = ["exact"]                  # or traits of recipes, { task = "paths" }
    nfe = [5, 10]                       # the most steps within each budget; or steps = [..]
    adaptive = [{ rtol = 1e-3, atol = 1e-3 }]            # options of methods whose NFE is not the grid's
    aids = ["condition"]                # what methods are given: by default what makes the target a problem, no label
    each_paper = 2                      # of every paper only so many of these, in the order of its card; default all
    peers = false                       # true: other libraries' samplers with these traits as well; "only": only they
    laws = ["*"], shapes = ["64x2"]     # of the kinds "law" and "overhead", which have no targets
    n = 256, shards = 1, seed = 0, seeds = [..], dtype, net_dtype, start, options = [{ }], metrics = [..]

Traits: a scalar field must equal, or be among a list; a set-valued field must hold all that are listed, and be empty
for an empty list. A method that
does not fit a target (its aids, its kind of model, walking up) is not selected; one whose grid refuses is excluded, and
the plan says why.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from benchmarks.digests import digest
from benchmarks.jobs import Job, Option, UsageError, expected, job, options_of

FOLDER = Path(__file__).parent
MOST_STEPS = 10_000  # beyond which no budget is met by more steps


class Select(BaseModel):
    """One table's worth of cells."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: Literal["sample", "timing", "likelihood", "overhead", "law"] = "sample"
    methods: dict[str, Any] | list[str] = {}
    targets: list[str] = []
    each_paper: int | None = None
    peers: bool | Literal["only"] = False
    laws: list[str] = ["*"]
    shapes: list[str] = []
    paths: list[tuple[str, str]] = [("own", "own")]
    models: list[str] | dict[str, Any] = ["exact"]
    nfe: list[float] | None = None
    steps: list[int] | None = None
    aids: list[str] | None = None
    adaptive: list[dict[str, Option]] = []
    options: list[dict[str, Option]] = [{}]
    n: int = 256
    shards: int = 1
    seed: int = 0
    seeds: list[int] | None = None
    dtype: Literal["float64", "float32"] = "float64"
    net_dtype: Literal["float32", "bfloat16", "float16"] | None = None
    start: Literal["card", "exact", "shared"] = "card"
    metrics: list[str] = []
    timeout_seconds: float | None = None


class Suite(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    about: str
    timeout_seconds: float = 120.0
    claims: list[Literal["E", "A", "S", "C"]] = []
    shelf: bool = False
    select: list[Select] = []


@dataclass(frozen=True)
class Cell:
    """A job's place in a table. budget: the NFE that it was given, if any; a job may fill several cells.

    floor: whether its table has a row for the noise floor; claims compare methods and need none. claims: keys of those
    that it is run for.
    """

    job: Job
    table: str
    budget: float | None = None
    metrics: tuple[str, ...] = ()
    timeout_seconds: float = 120.0
    floor: bool = True
    claims: tuple[str, ...] = ()


@dataclass(frozen=True)
class Excluded:
    """A selected combination that cannot be asked, and why."""

    what: str
    table: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """All cells of a suite in order."""

    suite: str
    about: str
    cells: tuple[Cell, ...]
    excluded: tuple[Excluded, ...] = ()
    claims: tuple[str, ...] = field(default=())
    shelf: bool = False

    def jobs(self) -> list[Job]:
        """Each job once, in order of first appearance."""
        return list({cell.job.id: cell.job for cell in self.cells}.values())

    def metrics_of(self, *, floor: bool = False) -> dict[str, list[str]]:
        """job.id -> names of the metrics that its cells ask for, of those only that have a floor if `floor`."""
        found: dict[str, dict[str, None]] = {}
        for cell in self.cells:
            if floor and not cell.floor:
                continue
            found.setdefault(cell.job.id, {}).update(dict.fromkeys(cell.metrics))
        return {id: list(names) for id, names in found.items()}

    def limits(self) -> dict[str, float]:
        """job.id -> the largest limit in seconds among its cells."""
        found: dict[str, float] = {}
        for cell in self.cells:
            found[cell.job.id] = max(cell.timeout_seconds, found.get(cell.job.id, 0.0))
        return found

    def only(self, pattern: str) -> Plan:
        """The cells whose method, paper, target, model, table or claim matches (* and ?); UsageError if none does."""
        cells = tuple(cell for cell in self.cells if any(fnmatch(name, pattern) for name in names_of(cell)))
        if not cells:
            raise UsageError(
                f"only: {pattern!r} matches no method, paper, target, model, table or claim of {self.suite!r}; "
                f"`trilemma plan {self.suite}` lists them"
            )
        return replace(self, cells=cells)

    @property
    def digest(self) -> str:
        """sha256 of what is asked: jobs, tables, budgets, metrics."""
        return digest([[cell.job.id, cell.table, cell.budget, list(cell.metrics)] for cell in self.cells])


def names_of(cell: Cell) -> tuple[str, ...]:
    """What a cell can be chosen by."""
    asked_for = (name for key in cell.claims for name in (key, key.split("/", 1)[0]))
    return cell.job.method, cell.job.method.split(".", 1)[0], cell.job.target, cell.job.model, cell.table, *asked_for


def names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def named(name: str) -> Suite:
    """A suite by name, or by the path of a TOML file. Raises UsageError."""
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not path.is_file():
        raise expected("suite", name, names(), "or give the path of a .toml file")
    try:
        fields = tomllib.loads(path.read_text())
        if "name" in fields:
            raise UsageError(
                f"suite: {path.name}: name: {fields['name']!r}, a suite is called like its file; leave it out"
            )
        return Suite(name=path.stem, **fields)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"suite: {path} is no TOML ({error}); mend that line") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"suite: {path.name}: {where}: {first.get('input')!r}, {first['msg']}") from None


def matches(card: Any, traits: Mapping[str, Any]) -> bool:
    """Whether a card, recipe or other record of fields has these traits. Raises UsageError for a field it has not."""
    for name, wanted in traits.items():
        if not hasattr(card, name):
            raise UsageError(f"trait: {name!r} of {type(card).__name__} is not known; expected one of its fields")
        found = getattr(card, name)
        if isinstance(found, frozenset):
            good = frozenset(wanted) <= found if wanted else not found
        else:
            good = found in wanted if isinstance(wanted, list) else found == wanted
        if not good:
            return False
    return True


def chosen_methods(select: Select) -> list[Any]:
    """The cards that a select names or whose traits match, in the order of ids."""
    from benchmarks import peers, problems
    from reference_impls import catalogue

    if isinstance(select.methods, list):
        return [problems.method_of(select.kind, id) for id in select.methods]
    known = catalogue.likelihoods() if select.kind == "likelihood" else catalogue.samplers()
    if select.peers:
        known = {**({} if select.peers == "only" else known), **peers.samplers()}
    found = [card for card in known.values() if matches(card, select.methods)]
    if select.each_paper is not None:
        by_paper: dict[str, list[Any]] = {}
        for card in found:
            by_paper.setdefault(card.id.split(".", 1)[0], []).append(card)
        found = [card for cards in by_paper.values() for card in cards[: select.each_paper]]
    return sorted(found, key=lambda card: card.id)


def chosen_models(select: Select) -> list[str]:
    from benchmarks import recipes

    if isinstance(select.models, list):
        return select.models
    return [name for name in recipes.names() if matches(recipes.named(name), select.models)]


def fits(card: Any, target: Any, model: str, aids: frozenset[str] | None = None) -> bool:
    """Whether a method of these traits can be meant on this target and model at all; other misfits have a reason.

    aids: exactly what it must need; by default what makes the target a problem.
    """
    from benchmarks import problems
    from reference_impls import catalogue

    needs = getattr(card, "needs", frozenset())
    if getattr(card, "walks", "down") != "down" or needs != (problems.needs_of(target) if aids is None else aids):
        return False
    if not problems.suits(needs, target) or not problems.takes_condition(card, target):
        return False
    if model == "exact":
        return card.consumes in problems.offered(target)
    recipe = problems.recipe_of(model)
    objective = catalogue.objectives().get(recipe.objective)
    if objective is None or recipe.data not in problems.laws_of(target):
        return False
    if "condition" in needs and not recipe.conditional:
        return False
    return objective.minimiser == card.consumes and objective.base == getattr(card, "base", None)


def path_of(card: Any, model: str, process: str, grid: str) -> tuple[str, str]:
    """Process and grid by name."""
    from benchmarks import problems

    if process == "own":
        return card.path, grid
    if process == "trained":
        recipe = problems.recipe_of(model)
        return recipe.process + (f"[{recipe.interval[0]},{recipe.interval[1]}]" if recipe.interval else ""), grid
    return process, grid


@cache
def most_steps(id: str, process: str, grid: str, budget: float) -> int:
    """The largest steps whose declared NFE is within the budget; 0 if one step is too much. Raises BadGrid."""
    from benchmarks import problems

    card = problems.method_of("sample", id)
    made = problems.process_of(process, None if "gaussian" in card.defined_on else 2)  # no grid asks for the alphabet

    def cost(steps: int) -> float:
        return card.nfe(problems.grid_of(grid, steps, card, made))

    if cost(1) > budget:
        return 0
    low, high = 1, 2
    while high <= MOST_STEPS and _within(cost, high, budget):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _within(cost, middle, budget) else (low, middle)
    return low


def _within(cost, steps: int, budget: float) -> bool:
    """A grid that refuses so many steps is beyond every budget."""
    try:
        return cost(steps) <= budget
    except ValueError:
        return False


Length = tuple[int | None, float | None, dict[str, Option]]  # steps, budget, options


def lengths(select: Select, card: Any, process: str, grid: str) -> Iterator[Length]:
    """Of the cells of one method on one path. Raises BadGrid."""
    if select.kind == "likelihood":
        yield None, None, {}
    elif card.nfe is None and select.adaptive:
        known = options_of(card.sample, card.needs)
        fitting = [options for options in select.adaptive if options.keys() <= known.keys()]
        yield from ((1, None, options) for options in fitting)
        if not fitting:  # it walks the grid, and what that costs is metered: the budgets are its steps
            yield from ((round(steps), None, {}) for steps in select.steps or select.nfe or ())
    elif select.nfe is not None and card.nfe is not None:
        for budget in select.nfe:
            steps = most_steps(card.id, process, grid, budget)
            if steps:
                yield steps, budget, {}
    elif card.nfe is not None:
        yield from ((steps, None, {}) for steps in select.steps or ())


def cells_of(select: Select, limit: float) -> Iterator[Cell | Excluded]:
    """Every cell of a select, and every combination that was refused."""
    from benchmarks import problems

    if select.kind in ("law", "overhead"):
        yield from _cells_of_methods(select, limit)
        return
    for target in select.targets:
        made = problems.target_of(target)
        for model in chosen_models(select):
            for card in chosen_methods(select):
                if not fits(card, made, model, None if select.aids is None else frozenset(select.aids)):
                    continue
                for path in select.paths:
                    yield from _cells_on(select, card, target, model, path_of(card, model, *path), limit)


def _cells_of_methods(select: Select, limit: float) -> Iterator[Cell | Excluded]:
    """Cells that ask about a method alone: its laws, or its overhead on each shape."""
    from benchmarks import referee

    for card in chosen_methods(select):
        if select.kind == "law":
            asked = [{"law": law.name} for law in referee.asked(card) if any(fnmatch(law.name, p) for p in select.laws)]
        else:
            asked = [{"shape": shape, "dtype": select.dtype} for shape in select.shapes]
        for fields in asked:
            try:
                made = job(kind=select.kind, method=card.id, n=1, **fields)
            except UsageError as error:
                yield Excluded(f"{card.id} {' '.join(fields.values())}", select.name, str(error))
                continue
            yield Cell(made, select.name, None, (), select.timeout_seconds or limit, floor=False)


def _cells_on(
    select: Select, card: Any, target: str, model: str, path: tuple[str, str], limit: float
) -> Iterator[Cell | Excluded]:
    process, grid = path
    what = f"{card.id} on {target} {process} {grid}"
    try:
        found = list(lengths(select, card, process, grid))
    except ValueError as error:
        yield Excluded(what, select.name, str(error))
        return
    known = options_of(getattr(card, "sample", None) or card.log_prob, getattr(card, "needs", frozenset()))
    variants = [options for options in select.options if options.keys() <= known.keys()]
    for (steps, budget, options), more, seed in product(found, variants, select.seeds or [select.seed]):
        fields = dict(
            kind=select.kind, method=card.id, options={**options, **more}, target=target, process=process, model=model,
            n=select.n, shards=select.shards, seed=seed, dtype=select.dtype,
            net_dtype=None if model == "exact" else select.net_dtype or "float32",
        )  # fmt: skip
        if select.kind != "likelihood":
            fields |= dict(grid=grid, steps=steps, start=select.start)
        try:
            asked = job(**fields)
        except UsageError as error:
            yield Excluded(what, select.name, str(error))
            continue
        yield Cell(asked, select.name, budget, tuple(select.metrics), select.timeout_seconds or limit)


def plan(suite: Suite, *, net_dtype: str | None = None) -> Plan:
    """All cells of a suite. net_dtype: replaces that of every network, for example bfloat16."""
    from benchmarks import metrics

    cells: dict[tuple, Cell] = {}
    excluded: dict[Excluded, None] = {}
    for select in suite.select:
        for name in select.metrics:
            if name != "all":
                _known_metric(name, metrics.metrics())
        if net_dtype and net_dtype != "float32":
            select = select.model_copy(update={"net_dtype": net_dtype})
        for found in cells_of(select, suite.timeout_seconds):
            if isinstance(found, Cell):
                cells.setdefault((found.job.id, found.table, found.budget), found)
            else:
                excluded[found] = None
    whole = (*cells.values(), *_of_claims(suite))
    return Plan(suite.name, suite.about, whole, tuple(excluded), tuple(suite.claims), suite.shelf)


def _known_metric(name: str, known: Iterable[str]) -> None:
    if name not in known:
        raise expected("metric", name, known, "`trilemma list metrics` shows what each one is")


def _of_claims(suite: Suite) -> Iterator[Cell]:
    """The jobs that claims of the suite's grades are judged by; each is a cell of the table "claims"."""
    if not suite.claims:
        return
    from benchmarks import claims

    shared: dict[str, tuple[Job, list[claims.Claim]]] = {}  # claims of one paper often compare with the same jobs
    for claim in claims.claims().values():
        if claim.evidence in suite.claims:
            for each in claim.jobs():
                shared.setdefault(each.id, (each, []))[1].append(claim)
    for each, by in shared.values():
        metrics = tuple(dict.fromkeys(name for claim in by for name in claim.metrics))
        keys = tuple(dict.fromkeys(claim.key for claim in by))
        yield Cell(each, "claims", None, metrics, suite.timeout_seconds, floor=False, claims=keys)
