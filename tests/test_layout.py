"""The layout of ARCHITECTURE as a test: imports point downwards, papers stand alone, nothing generic names a paper."""

import ast
import re
from pathlib import Path

import pytest

from reference_impls import catalogue

ROOT = Path(__file__).resolve().parent.parent
CORE = sorted((ROOT / "reference_impls/core").glob("*.py"))
BELOW = {"core", "targets", "nets"}
FAMILIES = sorted(
    p for p in (ROOT / "reference_impls").iterdir() if p.is_dir() and p.name not in {*BELOW, "__pycache__"}
)
PAPERS = [file for family in FAMILIES for file in sorted(family.glob("*.py")) if file.name != "__init__.py"]
STDLIB = {
    "__future__",
    "collections",
    "dataclasses",
    "functools",
    "itertools",
    "math",
    "re",
    "typing",
    "types",
    "zlib",
    "contextlib",
    "contextvars",
}


def imports(file: Path, top_level: bool = False) -> set[str]:
    """Every module that a file imports, names of `from a import b` as a.b; top_level: at import time only."""
    tree = ast.parse(file.read_text())
    nodes = tree.body if top_level else ast.walk(tree)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import; write the absolute one"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def ids(files):
    return [str(file.relative_to(ROOT)) for file in files]


@pytest.mark.parametrize("file", CORE, ids=ids(CORE))
def test_core_imports_torch_and_itself(file):
    for name in imports(file):
        assert name.split(".")[0] in {"torch", *STDLIB} or name.startswith("reference_impls.core"), name


@pytest.mark.parametrize("file", PAPERS, ids=ids(PAPERS))
def test_a_paper_imports_core_and_torch(file):
    for name in imports(file):
        assert name.split(".")[0] in {"torch", *STDLIB} or name.startswith("reference_impls.core"), name


@pytest.mark.parametrize("file", PAPERS, ids=ids(PAPERS))
def test_a_paper_is_its_key(file):
    paper = catalogue.papers()[file.stem.replace("_", "-")]
    cards = [*paper.samplers, *paper.objectives, *paper.likelihoods, *paper.transforms]
    assert all(card.id.startswith(f"{paper.key}.") for card in cards)
    text = ast.get_docstring(ast.parse(file.read_text()))
    assert text.startswith(f"{paper.key} - ") and f"arXiv:{paper.arxiv}" in text and paper.code in text
    for paragraph in ("Path", "Loss", "Step", "Cost", "Exact when", "Differs"):
        assert re.search(rf"^{paragraph}\b", text, re.M), f"the card has no paragraph {paragraph!r}"
    assert (ROOT / f"tests/test_{file.stem}.py").is_file(), "a paper has a test file of its own"


@pytest.mark.parametrize("file", PAPERS + CORE, ids=ids(PAPERS + CORE))
def test_budgets(file):
    """Code lines without docstrings, comments, blank lines and the PAPER card: a paper 250, core 200; a function 45."""
    source = file.read_text()
    tree = ast.parse(source)
    skipped = set()
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and ast.get_docstring(node, clean=False) is not None
        ):
            skipped |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "PAPER":
            skipped |= set(range(node.lineno, node.end_lineno + 1))
    lines = source.splitlines()
    code = [
        i for i, line in enumerate(lines, 1) if i not in skipped and line.strip() and not line.strip().startswith("#")
    ]
    assert len(code) <= (200 if file in CORE else 250), f"{len(code)} lines of code"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            length = len([i for i in code if node.lineno <= i <= node.end_lineno])
            assert length <= 45, f"{node.name}: {length} lines of code"


RANDOM = re.compile(
    r"torch\.(randn|rand|randint|randperm|normal|bernoulli|multinomial|manual_seed)|np\.random|random\.seed"
)


@pytest.mark.parametrize(
    "file", sorted((ROOT / "reference_impls").rglob("*.py")), ids=lambda f: str(f.relative_to(ROOT))
)
def test_noise_comes_from_draws(file):
    for line in file.read_text().splitlines():  # a net's first weights may come from a generator of their own
        assert not RANDOM.search(line) or "generator=" in line, line


GENERIC = [
    *CORE,
    ROOT / "reference_impls/catalogue.py",
    *(ROOT / "reference_impls/nets").glob("*.py"),
    *(ROOT / "reference_impls/targets").glob("*.py"),
    *(
        file
        for file in (ROOT / "benchmarks").rglob("*.py")
        if file.parent.name not in {"claims", "peers"} or file.name == "__init__.py"
    ),
]


@pytest.mark.parametrize("file", sorted(GENERIC), ids=lambda f: str(f.relative_to(ROOT)))
def test_nothing_generic_names_a_paper(file):
    """In code and strings; comments and docstrings may cite."""
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and ast.get_docstring(node, clean=False) is not None
        ):
            node.body[0].value.value = ""
    code = ast.unparse(tree)
    assert [key for key in catalogue.papers() if key in code or key.replace("-", "_") in code] == []


BARE = [
    *CORE, *PAPERS, ROOT / "reference_impls/catalogue.py", ROOT / "tests/conftest.py",
    *(ROOT / "reference_impls/targets").glob("*.py"), *(ROOT / "benchmarks/laws").glob("*.py"),
]  # fmt: skip


@pytest.mark.parametrize("file", sorted(BARE), ids=lambda f: str(f.relative_to(ROOT)))
def test_laws_run_on_a_bare_machine(file):
    """What laws need imports torch, hypothesis and pytest alone at import time."""
    heavy = {
        "numpy",
        "scipy",
        "sklearn",
        "pandas",
        "matplotlib",
        "seaborn",
        "pydantic",
        "typer",
        "rich",
        "torchvision",
        "safetensors",
    }
    assert not {name.split(".")[0] for name in imports(file, top_level=True)} & heavy
