import io

from rich.console import Console

from crosstune.cli.progress import bars


def drawn(*tasks, quiet=False):
    """What is on the screen after tasks of (label, total, done)."""
    screen = io.StringIO()
    with bars(quiet, Console(file=screen, width=100)) as progress:
        for label, total, done in tasks:
            with progress(label, total) as advance:
                advance(done)
    return screen.getvalue()


def test_a_bar_shows_label_count_and_time_left():
    line = drawn(("Scoring pairs", 20, 20))
    assert "Scoring pairs" in line
    assert "20/20" in line
    assert "left" in line


def test_nothing_to_do_draws_nothing():
    assert "Embedding" not in drawn(("Embedding", 0, 0), ("Scoring", 1, 1))


def test_quiet_draws_nothing():
    assert drawn(("Scoring", 3, 3), quiet=True) == ""
