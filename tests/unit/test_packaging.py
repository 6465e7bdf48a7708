"""What the project is shipped with agrees with itself: locks, image, compose file, and what people are told to type."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from bot.cli import app
from bot.config import load

ROOT = Path(__file__).parents[2]
RUNTIME, TOOLS = ROOT / "requirements.lock", ROOT / "requirements-dev.lock"


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def project() -> dict[str, Any]:
    return tomllib.loads(read("pyproject.toml"))


def pins(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==([^ ;\\]+)", lock.read_text(encoding="utf-8"), re.M))


def names(requirements: list[Any]) -> set[str]:
    written = (re.match(r"[\w.-]+", each) for each in requirements if isinstance(each, str))
    return {re.sub(r"[-_.]+", "-", name[0]).lower() for name in written if name}


class TestLocks:
    @pytest.mark.parametrize("lock", [RUNTIME, TOOLS], ids=lambda lock: lock.name)
    def test_each_line_is_a_pin_or_a_hash_and_names_no_place(self, lock: Path) -> None:
        text = lock.read_text(encoding="utf-8")
        entry = r"[\w.-]+==[^ ;\\\n]+(?: ; [^\\\n]+)? \\\n(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+"
        assert re.fullmatch(rf"(?:{entry})+", text)
        assert "://" not in text

    def test_what_pyproject_asks_for_is_locked(self) -> None:
        groups = project()["dependency-groups"]
        needed = names(project()["project"]["dependencies"]) | names(groups["build"])
        assert needed <= pins(RUNTIME).keys()
        assert needed | names(groups["dev"]) <= pins(TOOLS).keys()

    def test_one_venv_can_hold_both(self) -> None:
        assert pins(RUNTIME).items() <= pins(TOOLS).items()

    def test_the_demo_brings_no_tools(self) -> None:
        assert pins(RUNTIME).keys().isdisjoint({"pytest", "mypy", "ruff", "uv", "hypothesis"})


class TestMakefile:
    def test_has_what_people_are_told_to_type(self) -> None:
        targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.M))
        assert targets >= {"demo", "run", "test", "check", "lab", "lint", "lock"}
        for page in ("CONTRIBUTING.md", "README.md"):
            # At the beginning of a line, or as code: "make git" is two things to install.
            assert set(re.findall(r"(?:^|`)make ([a-z-]+)", read(page), re.M)) <= targets

    def test_a_run_starts_without_neonizes_mark_of_a_machine(self) -> None:
        [recipe] = re.findall(r"^\t.*-m bot run$", read("Makefile"), re.M)
        assert "env NEONIZE_BOT_TAG=$${NEONIZE_BOT_TAG:-off} " in recipe

    def test_the_demo_needs_the_runtime_alone(self) -> None:
        assert re.search(r"^demo: \.venv/\.runtime(?: ##|$)", read("Makefile"), re.M)

    def test_ci_tests_last_so_that_their_summary_is_what_it_ends_with(self) -> None:
        assert read(".ci/run").rstrip().splitlines()[-1] == "make test all=1"


PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


class TestPages:
    @pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
    def test_each_link_leads_somewhere(self, page: Path) -> None:
        for name, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", prose(page)):
            target = (page.parent / name).resolve() if name else page
            assert target.is_file(), name
            assert not anchor or anchor in anchors(target), f"{name}#{anchor}"

    def test_each_page_is_led_to(self) -> None:
        led_to = {
            (page.parent / name).resolve()
            for page in PAGES
            for name in re.findall(r"\]\(([^)#:]+\.md)", prose(page))
        }
        assert set(ROOT.glob("docs/*.md")) <= led_to

    def test_every_command_of_the_terminal_is_in_a_table(self) -> None:
        rows = "".join(re.findall(r"^\| (`[^|]*)", read("README.md") + read("docs/commands.md"), re.M))
        told = {word for code in re.findall(r"`([a-z]+)", rows) for word in code.split()}
        assert {command.name for command in get_command(app).commands.values()} <= told  # type: ignore[attr-defined] # a group's

    def test_the_service_runs_as_make_run_does_and_stops_the_bot_before_its_database(self) -> None:
        [unit] = re.findall(r"^```ini\n(.*?)^```$", read("docs/operating.md"), re.M | re.S)
        assert {"Environment=NEONIZE_BOT_TAG=off", "KillMode=mixed", "Restart=on-failure"} <= set(
            unit.split()
        )
        [folder] = re.findall(r"^WorkingDirectory=(.*)$", unit, re.M)
        assert f"ExecStart={folder}/.venv/bin/sidestep run\n" in unit


def prose(page: Path) -> str:
    """Without its examples, in which a bracket is no link."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def anchors(page: Path) -> set[str]:
    """Of its headings, as the forges make them."""
    titles = re.findall(r"^#+ (.*)$", prose(page), re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


class TestImage:
    INSTRUCTIONS = re.findall(r"^([A-Z]+) ((?:.*\\\n)*.*)$", read("Dockerfile"), re.M)

    def told(self, instruction: str) -> list[str]:
        return [rest for name, rest in self.INSTRUCTIONS if name == instruction]

    def test_what_it_copies_exists_and_is_let_through(self) -> None:
        let_through = {line[1:] for line in read(".dockerignore").splitlines() if line.startswith("!")}
        copied = {
            source for rest in self.told("COPY") if "--from" not in rest for source in shlex.split(rest)[:-1]
        }
        assert copied == let_through
        assert [name for name in copied if not (ROOT / name).exists()] == []

    def test_nothing_secret_is_let_through(self) -> None:
        lines = read(".dockerignore").splitlines()
        assert "*" in lines
        assert not {"!.env", "!.git", "!."} & set(lines)

    def test_is_built_by_the_steps_that_ci_runs(self) -> None:
        assert [rest for rest in self.told("RUN") if rest.startswith(".ci/install")] == [
            ".ci/install locked /opt/sidestep",
            ".ci/install ours /opt/sidestep",
        ]
        assert read(".ci/image").count(".ci/install") == 2

    def test_both_stages_have_the_same_python_which_we_support(self) -> None:
        [base] = {rest.removesuffix(" AS build") for rest in self.told("FROM")}
        found = re.match(r"python:3\.(\d+)-", base)
        assert found
        assert int(found[1]) >= 11

    def test_runs_without_rights_and_is_asked_whether_it_lives(self) -> None:
        [user] = self.told("USER")
        assert int(user) > 0
        assert "/livez" in self.told("HEALTHCHECK")[0]
        assert [shlex.split(rest.strip("[]").replace(",", " ")) for rest in self.told("CMD")] == [["run"]]

    def test_starts_without_neonizes_mark_of_a_machine(self) -> None:
        assert re.search(r"NEONIZE_BOT_TAG=off\b", " ".join(self.told("ENV")))

    def test_has_the_programs_that_neonize_looks_for(self) -> None:
        assert {"ffmpeg", "libmagic1"} <= set(" ".join(self.told("RUN")).split())


class TestCompose:
    COMPOSE: dict[str, Any] = yaml.safe_load(read("compose.yaml"))

    def test_each_variable_is_in_the_example_of_a_dotenv(self) -> None:
        used = set(re.findall(r"\$\{(\w+)", read("compose.yaml")))
        assert used <= set(re.findall(r"^(\w+)=", read(".env.example"), re.M))

    def test_its_environment_is_a_valid_configuration(self, tmp_path: Path) -> None:
        environment = self.COMPOSE["services"]["sidestep"]["environment"]
        environ = {name: re.sub(r"\$\{\w+:[?-][^}]*\}", "x", value) for name, value in environment.items()}
        config = load(ROOT / "config.yaml", environ=environ, dotenv=tmp_path / ".env")
        assert config.http.token is not None
        assert config.database.url is not None
        assert config.database.url.get_secret_value() == "postgresql://sidestep:x@postgres:5432/sidestep"

    def test_only_this_machine_reaches_the_port_and_nobody_the_database(self) -> None:
        services = self.COMPOSE["services"]
        assert all(str(port).startswith("127.0.0.1:") for port in services["sidestep"]["ports"])
        assert "ports" not in services["postgres"]
        assert services["postgres"]["networks"] == ["inside"]
        assert self.COMPOSE["networks"]["inside"] == {"internal": True}

    def test_the_database_is_a_supported_one_and_outlives_its_container(self) -> None:
        postgres = self.COMPOSE["services"]["postgres"]
        assert postgres["image"].startswith("postgres:18")
        assert postgres["volumes"] == ["postgres:/var/lib/postgresql"]
        assert "postgres" in self.COMPOSE["volumes"]

    def test_no_password_is_written_down(self) -> None:
        for line in read("compose.yaml").splitlines():
            if re.search(r"PASSWORD|TOKEN|API_KEY", line) and not line.lstrip().startswith("#"):
                assert re.search(r"\$\{\w+:[?-]", line)
