"""The documentation knows every command, and every command explains itself."""

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from crosstune.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_stands_in_the_readme(name):
    assert f"crosstune {name}" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_and_option_has_help(name):
    command = COMMANDS[name]
    assert command.help
    without = [parameter.name for parameter in command.params if not getattr(parameter, "help", None)]
    assert without == []


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_help_can_be_shown(name):
    result = CliRunner().invoke(app, [name, "--help"])
    assert result.exit_code == 0, result.exception
    assert f"crosstune {name}" in result.stdout


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"serve", "mcp"}))  # they answer until they are stopped
def test_every_command_offers_json(name):
    assert any("--json" in parameter.opts for parameter in COMMANDS[name].params)


def test_the_readme_shows_the_two_commands_first():
    head = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:12]
    assert any("make demo" in line for line in head)
    assert any("make test" in line for line in head)


def test_no_paths_of_a_machine_in_documents():
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*.md")]:
        text = path.read_text(encoding="utf-8")
        assert "/work/" not in text, path.name
        assert "/root/" not in text, path.name
