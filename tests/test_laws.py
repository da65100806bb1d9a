"""Every law over every card it applies to; every law over the mutants it must reject; every specimen it must accept."""

import os
from contextlib import contextmanager

import pytest
from hypothesis import settings

from benchmarks.laws import laws, likelihoods, specimens, transforms
from reference_impls import catalogue

SUBJECTS = {
    "sampler": catalogue.samplers(),
    "objective": catalogue.objectives(),
    "likelihood": catalogue.likelihoods(),
    "transform": catalogue.transforms(),
}
CASES = [
    pytest.param(law, card, id=f"{id}-{law.name}")
    for law in laws().values()
    for id, card in SUBJECTS.get(law.subject, {}).items()
    if law.applies(card)
]
MUTANTS = [
    pytest.param(law, make, id=f"{law.name}-rejects-{name}")
    for law in laws().values()
    for name, make in law.mutants.items()
]
SPECIMENS = [
    pytest.param(law, card, id=f"{card.id}-{law.name}")
    for law in laws().values()
    for card in {
        "sampler": (specimens.HEALTHY, specimens.HEALTHY_NOISY),
        "objective": (specimens.OBJECTIVE,),
        "likelihood": (likelihoods.HEALTHY, likelihoods.HEALTHY_BOUND),
        "transform": (transforms.HEALTHY,),
    }.get(law.subject, ())
    if law.applies(card)
]


@contextmanager
def without_shrinking():
    """For failures that are expected: nobody reads their smallest counterexample."""
    settings.load_profile("mutants")
    try:
        yield
    finally:
        settings.load_profile(os.environ.get("TRILEMMA_HYPOTHESIS_PROFILE", "ci"))


@pytest.mark.parametrize(("law", "card"), CASES)
def test_law(law, card):
    if law.name not in card.known_failures:
        law.check(card)
        return
    with without_shrinking(), pytest.raises(AssertionError):  # strict: a law that holds again must leave the card
        law.check(card)


@pytest.mark.parametrize(("law", "make"), MUTANTS)
def test_mutant(law, make):
    mutant = make()
    if hasattr(mutant, "id"):
        assert law.applies(mutant), "the law would never look at this mutant"
    with without_shrinking(), pytest.raises(AssertionError):
        law.check(mutant)


@pytest.mark.parametrize(("law", "card"), SPECIMENS)
def test_healthy_specimen(law, card):
    law.check(card)


def test_every_law_has_a_mutant():
    assert [law.name for law in laws().values() if not law.mutants] == []


@pytest.mark.parametrize("noisy", [False, True])
def test_the_specimen_is_what_its_mutants_claim_to_be(noisy):
    """Without a defect the claimed reduction holds, so that the law rejects those mutants for their defect."""
    from benchmarks.laws import accuracy

    accuracy.reduces_as_declared(accuracy._reduces_to(noisy))
