"""Which size comes next."""

from distill.plan import Plan, Rung


def plan(sizes: tuple[int, ...] = (), doublings: int = 2, iterations: int = 10) -> Plan:
    return Plan(sizes=sizes, factor=0.5, iterations=iterations, doublings=doublings)


def test_searching_shrinks_while_it_holds_tries_longer_and_ends() -> None:
    search = plan()
    rung = search.first(100)
    assert rung == Rung(100, 10, True)
    rung = search.following(rung, holds=True)
    assert rung == Rung(50, 10, True)
    rung = search.following(rung, holds=False)
    assert rung == Rung(50, 20, True)
    rung = search.following(rung, holds=True)
    assert rung == Rung(25, 10, True)
    for keep in (25, 12):
        for iterations in (20, 40):
            rung = search.following(rung, holds=False)
            assert rung == Rung(keep, iterations, True)
        rung = search.following(rung, holds=False)
        assert rung == (Rung(12, 10, True) if keep == 25 else None), "it ends after two sizes that never held"


def test_a_size_that_holds_after_one_that_did_not_forgives_it() -> None:
    search = plan(doublings=0)
    rung = search.following(Rung(100, 10, True), holds=False)
    rung = search.following(rung, holds=True)
    rung = search.following(rung, holds=False)
    assert rung == Rung(12, 10, True)
    assert search.following(rung, holds=False) is None


def test_searching_ends_at_one_weight() -> None:
    assert plan().following(Rung(1, 10, True), holds=True) is None


def test_visiting_passes_through_sizes_on_the_way_and_judges_those_asked_for() -> None:
    visit = plan(sizes=(20, 60))
    rung, seen = visit.first(100), []
    while rung is not None:
        seen.append(rung)
        rung = visit.following(rung, holds=rung.keep > 20 or rung.iterations == 20)
    assert seen == [Rung(60, 10, True), Rung(30, 10, False), Rung(20, 10, True), Rung(20, 20, True)]


def test_visiting_goes_on_after_a_size_that_never_holds() -> None:
    visit = plan(sizes=(60, 40), doublings=1)
    rung, seen = visit.first(100), []
    while rung is not None:
        seen.append(rung)
        rung = visit.following(rung, holds=False)
    assert seen == [Rung(60, 10, True), Rung(60, 20, True), Rung(40, 10, True), Rung(40, 20, True)]


def test_a_size_larger_than_the_student_is_judged_as_it_is() -> None:
    assert plan(sizes=(200,)).first(100) == Rung(100, 10, True)


def test_no_fine_tuning_no_rungs() -> None:
    assert plan(iterations=0).first(100) is None
