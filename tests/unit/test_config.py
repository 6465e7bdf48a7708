"""What a person configures, and what they are told when it is wrong."""

from __future__ import annotations

import os
import re
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from bot.config import Config, ConfigError, load, warnings
from bot.config.models import Section
from storage.models import FOR_EVER

ROOT = Path(__file__).parents[2]
SHOP = """
tenants:
  - instance_name: shop
    owner: "+5511999990000"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder and an environment without anything of ours."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("SIDESTEP") or name.endswith(
            ("_API_KEY", "DATABASE_URL", "CONNECTION_STRING", "_ACCESS_KEY")
        ):
            monkeypatch.delenv(name)
    return tmp_path


def configured(folder: Path, yaml: str = SHOP, *, dotenv: str = "", **environ: str) -> Config:
    (folder / "config.yaml").write_text(yaml, encoding="utf-8")
    (folder / ".env").write_text(dotenv, encoding="utf-8")
    return load(environ=environ)


def refused(folder: Path, yaml: str = SHOP, *, dotenv: str = "", **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as refusal:
        configured(folder, yaml, dotenv=dotenv, **environ)
    assert str(refusal.value).splitlines() == [str(problem) for problem in refusal.value.problems]
    return str(refusal.value).splitlines()


class TestDefaults:
    def test_one_tenant_is_all_that_must_be_said(self, folder: Path) -> None:
        config = configured(folder)
        assert config.tenants[0].owner == "+5511999990000"
        assert config.tenants[0].auto_resume_after == timedelta(hours=2)
        assert config.database.url is None
        assert (config.http.host, config.http.port, config.http.token) == ("127.0.0.1", 8080, None)
        assert [warning.place for warning in warnings(config)] == ["tenants[0].owner"]  # it is the sample's

    def test_a_section_with_every_key_commented_out_has_its_defaults(self, folder: Path) -> None:
        assert configured(folder, SHOP + "pace:\n  # debounce: 1s\n") == configured(folder)

    def test_nothing_can_be_changed_afterwards(self, folder: Path) -> None:
        with pytest.raises(ValidationError):
            setattr(configured(folder).http, "port", 1)  # noqa: B010 - mypy would refuse the statement


class TestTheManual:
    """config.yaml as it is shipped."""

    def test_is_valid_and_answers_five_kinds_of_question(self, folder: Path) -> None:
        config = load(ROOT / "config.yaml", environ={})
        assert config.tenants[0].instance_name == "shop"
        assert len(config.flows.keywords) == 5
        assert [warning.place for warning in warnings(config)] == ["tenants[0].owner", "tenants[0].admins"]

    def test_names_every_key(self) -> None:
        manual = (ROOT / "config.yaml").read_text(encoding="utf-8")
        assert [name for name in keys(Config) if not re.search(rf"^[\s#-]*{name}:", manual, re.M)] == [
            # Secrets are told of as variables.
            "anthropic_api_key",
            "openai_api_key",
            "access_key_id",
            "secret_access_key",
        ]

    def test_shows_the_defaults(self, folder: Path) -> None:
        shipped, plain = load(ROOT / "config.yaml", environ={}), configured(folder)
        told = {"tenants", "flows"}
        assert shipped.model_dump(exclude=told) == plain.model_dump(exclude=told)
        assert f'Default: "{plain.flows.default}"' in (ROOT / "config.yaml").read_text(encoding="utf-8")
        assert shipped.flows.texts == plain.flows.texts

    def test_has_the_bots_own_words_in_a_second_language_too(self, folder: Path) -> None:
        manual = (ROOT / "config.yaml").read_text(encoding="utf-8")
        said = re.search(r"^    # person:.*?(?=\n\n)", manual, re.M | re.S)
        assert said is not None
        uncommented = re.sub(r"^    # ", "    ", said[0], flags=re.M)
        texts = configured(folder, f"{SHOP}flows:\n  texts:\n{uncommented}\n").flows.texts
        assert texts.model_fields_set == set(type(texts).model_fields)
        assert all(f"/{name}" in texts.help for name in ("help", "human", "stop", "start"))

    def test_the_example_of_a_dotenv_sets_nothing(self, folder: Path) -> None:
        assert configured(folder, dotenv=(ROOT / ".env.example").read_text(encoding="utf-8")) == configured(
            folder
        )


def keys(model: type[BaseModel]) -> list[str]:
    found = []
    for name, field in model.model_fields.items():
        found.append(name)
        inner = field.annotation
        for kind in (inner, *getattr(inner, "__args__", ())):
            if isinstance(kind, type) and issubclass(kind, Section):
                found += keys(kind)
    return found


class TestPrecedence:
    def test_the_environment_wins_over_dotenv_and_that_over_the_file(self, folder: Path) -> None:
        yaml = SHOP + "http: {port: 1}\nlog: {level: error}\npace: {typing: true, debounce: 1s}\n"
        dotenv = "SIDESTEP__HTTP__PORT=2\nSIDESTEP__LOG__LEVEL=debug\n"
        config = configured(
            folder, yaml, dotenv=dotenv, SIDESTEP__HTTP__PORT="3", SIDESTEP__PACE__TYPING="false"
        )
        assert config.http.port == 3
        assert config.log.level == "debug"
        assert config.pace.typing is False
        assert config.pace.debounce == timedelta(seconds=1)

    def test_a_list_is_json_and_one_item_of_it_can_be_named(self, folder: Path) -> None:
        config = configured(
            folder,
            SIDESTEP__TENANTS__0__ADMINS='["+5511999990001"]',
            SIDESTEP__TENANTS__0__OWNER="+5511999990002",
            SIDESTEP__TENANTS__0__SYSTEM_PROMPT="[be brief]",
        )
        assert config.tenants[0].owner == "+5511999990002"
        assert config.tenants[0].admins == ("+5511999990001",)
        assert config.tenants[0].system_prompt == "[be brief]"

    def test_variables_alone_are_enough(self, folder: Path) -> None:
        config = load(environ={"SIDESTEP__TENANTS": '[{"instance_name": "shop", "owner": "+5511999990000"}]'})
        assert config.tenants[0].instance_name == "shop"

    def test_an_empty_variable_counts_as_not_set(self, folder: Path) -> None:
        assert configured(folder, DATABASE_URL="", SIDESTEP__HTTP__PORT="") == configured(folder)

    def test_null_takes_a_value_back(self, folder: Path) -> None:
        assert configured(folder, SHOP + "ai: {model: x}\n", SIDESTEP__AI__MODEL="null").ai.model is None

    @pytest.mark.parametrize(
        ("environ", "user"),
        [
            ({"VAYYARI_WA_DB_CONNECTION_STRING": "postgresql://a@h/d"}, "a"),
            (
                {"DATABASE_URL": "postgres://b@h/d", "VAYYARI_WA_DB_CONNECTION_STRING": "postgresql://a@h/d"},
                "b",
            ),
            ({"SIDESTEP__DATABASE__URL": "postgres://c@h/d", "DATABASE_URL": "postgres://b@h/d"}, "c"),
        ],
    )
    def test_the_database_has_three_names(self, folder: Path, environ: dict[str, str], user: str) -> None:
        url = configured(folder, dotenv="DATABASE_URL=postgresql://dotenv@h/d", **environ).database.url
        assert url is not None
        assert f"//{user}@" in url.get_secret_value()

    def test_the_models_keys_come_from_their_own_variables(self, folder: Path) -> None:
        ai = configured(folder, ANTHROPIC_API_KEY="sk-a", dotenv="OPENAI_API_KEY='sk-o'").ai
        keys = [ai.api_key(provider) for provider in ("anthropic", "openai", "none")]
        assert [key and key.get_secret_value() for key in keys] == ["sk-a", "sk-o", None]

    def test_what_is_not_ours_in_dotenv_is_left_alone(self, folder: Path) -> None:
        assert configured(folder, dotenv="export OTHER=1\n\n# a comment\nPOSTGRES_PASSWORD=pa$$word\n")


class TestValues:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("90s", 90),
            ("1.5s", 1.5),
            ("30m", 1800),
            ("2h", 7200),
            ("1d", 86400),
            ("1h30m", 5400),
            ("2 H", 7200),
        ],
    )
    def test_durations_have_a_unit(self, folder: Path, text: str, seconds: float) -> None:
        yaml = SHOP + f"    auto_resume_after: {text}\n"
        assert configured(folder, yaml).tenants[0].auto_resume_after == timedelta(seconds=seconds)

    def test_never_is_a_duration_where_it_makes_sense(self, folder: Path) -> None:
        config = configured(folder, SHOP + "    auto_resume_after: never\nanswer: {max_age: Never}\n")
        assert config.tenants[0].auto_resume_after is None
        assert config.answer.max_age is None
        kept = configured(folder, SHOP + "    retention: never\nstore: {retention: 730d}\n")
        assert (kept.tenants[0].retention, kept.store.retention) == (FOR_EVER, timedelta(days=730))
        assert configured(folder, SHOP).tenants[0].retention is None
        assert "pace.debounce: should be a duration" in refused(folder, SHOP + "pace: {debounce: never}\n")[0]

    @pytest.mark.parametrize(
        "text", ["2", "0", "0s", "soon", "-2h", "2 weeks", "''", "[2h]", "99999999999d", "nan", "1e3s"]
    )
    def test_other_durations_are_refused(self, folder: Path, text: str) -> None:
        [line] = refused(folder, SHOP + f"    auto_resume_after: {text}\n")
        assert line.startswith("config.yaml:5: tenants[0].auto_resume_after: ")

    @pytest.mark.parametrize(
        "text", ['"+55 (11) 99999-0000"', "+5511999990000", "5511999990000", "005511999990000"]
    )
    def test_a_number_may_be_written_as_people_write_it(self, folder: Path, text: str) -> None:
        yaml = SHOP.replace('"+5511999990000"', text)
        assert configured(folder, yaml).tenants[0].owner == "+5511999990000"

    @pytest.mark.parametrize("text", ["12", "+999999999999999", "shop", "''", "~", "+55119999900001234567"])
    def test_an_impossible_number_is_refused_and_not_repeated(self, folder: Path, text: str) -> None:
        [line] = refused(folder, SHOP.replace('"+5511999990000"', text))
        assert line.startswith("config.yaml:4: tenants[0].owner: ")
        assert "999999999999" not in line

    @pytest.mark.parametrize("name", ["5511999990000", "shop-5511999990000", "a b", "''", "Ünal", "x" * 64])
    def test_a_name_that_logs_and_metrics_may_not_show_is_refused(self, folder: Path, name: str) -> None:
        [line] = refused(folder, SHOP.replace("shop", name))
        assert "tenants[0].instance_name" in line

    def test_a_single_word_may_stand_without_its_list_and_words_stay_words(self, folder: Path) -> None:
        rules = "{match: price, answer: a}, {match: [no, on, 24, 2024-01-01, 0890], answer: b}"
        config = configured(folder, SHOP + f"flows: {{keywords: [{rules}]}}\n")
        assert [rule.match for rule in config.flows.keywords] == [
            ("price",),
            ("no", "on", "24", "2024-01-01", "0890"),
        ]


class TestProblems:
    def test_all_are_told_at_once_each_with_its_place_and_line(self, folder: Path) -> None:
        yaml = """
tenants:
  - instance_name: shop
    owner: "+55 12"
    admins: ["+5511999990001", "+55 11 99999 0001"]
    llm_provider: claude
  - instance_name: shop
    owner: "+5511999990000"
flows:
  keywords:
    - {match: [price], answer: x}
    - {match: [], answer: ""}
    - match: [ok, "?!"]
pace: {debounce: 20s}
http: {host: 0.0.0.0, port: 99999}
database: {url: "mysql://u:hunter2@h/d"}
"""
        assert refused(folder, yaml, SIDESTEP__LOG__LEVEL="loud") == [
            "config.yaml:7: tenants[1].instance_name: is another tenant's name already",
            "config.yaml:4: tenants[0].owner: is not a possible phone number: check its country code and its length",
            "config.yaml:5: tenants[0].admins: names the same one twice: items 0 and 1",
            "config.yaml:6: tenants[0].llm_provider: should be 'none', 'anthropic' or 'openai'",
            "config.yaml:12: flows.keywords[1].match: should have at least one item",
            "config.yaml:12: flows.keywords[1].answer: should not be empty",
            "config.yaml:13: flows.keywords[2].match[1]: has no letter, digit or emoji to match",
            "config.yaml:13: flows.keywords[2].answer: is missing",
            "config.yaml:14: pace.max_debounce: should be at least as long as pace.debounce",
            "config.yaml:15: http.port: should be less than or equal to 65535",
            "config.yaml:15: http.token: is needed, since http.host lets other machines in",
            "SIDESTEP__LOG__LEVEL: log.level: should be 'debug', 'info', 'warning' or 'error'",
            "config.yaml:16: database.url: must look like postgresql://user:password@host:5432/database",
        ]

    @pytest.mark.parametrize(
        ("yaml", "told"),
        [
            ("htp: {port: 1}", "config.yaml:5: htp: is no key of the configuration (did you mean http?)"),
            (
                "http: {prot: 1}",
                "config.yaml:5: http.prot: is no key of the configuration (did you mean http.port?)",
            ),
            (
                "debounce: 1s",
                "config.yaml:5: debounce: is no key of the configuration (did you mean pace.debounce?)",
            ),
            (
                "log: {colour: red}",
                "config.yaml:5: log.colour: is no key of the configuration (known here: level, format)",
            ),
            ("http: 8080", "config.yaml:5: http: should be a section with keys of its own"),
            (
                "flows: {keywords: price}",
                "config.yaml:5: flows.keywords: should be a list (in a variable: as JSON)",
            ),
        ],
    )
    def test_an_unknown_key_is_answered_with_what_was_meant(self, folder: Path, yaml: str, told: str) -> None:
        assert refused(folder, SHOP + yaml + "\n") == [told]

    def test_a_variables_name_is_the_place_where_it_was_set(self, folder: Path) -> None:
        dotenv = "\n\n# mine\nSIDESTEP__HTTP__PORT=many\nnonsense here\n"
        told = refused(folder, dotenv=dotenv, SIDESTEP__HTTP__HOSTNAME="x", SIDESTEP__PACE__TYPING="maybe")
        assert told == [
            ".env:5: is not of the form NAME=value",
            "SIDESTEP__PACE__TYPING: pace.typing: should be true or false",
            ".env:4: SIDESTEP__HTTP__PORT: http.port: should be a whole number",
            "SIDESTEP__HTTP__HOSTNAME: http.hostname: is no key of the configuration (did you mean http.host?)",
        ]

    def test_a_key_given_twice_is_refused(self, folder: Path) -> None:
        assert refused(folder, SHOP + "http:\n  port: 1\n  port: 2\n") == [
            "config.yaml:7: http.port: is given twice"
        ]

    @pytest.mark.parametrize(
        ("yaml", "line"),
        [
            ("http: [1\n", 6),
            ("http:\n\tport: 1\n", 6),
            ('x: "\\q"\n', 5),
            ("x: &a 1\ny: *a\n", 6),
            ("x: !!python/object:os.system 1\n", 5),
            ("---\n---\n", 5),
        ],
    )
    def test_wrong_yaml_is_told_with_its_line_and_nothing_else(
        self, folder: Path, yaml: str, line: int
    ) -> None:
        [told] = refused(folder, SHOP + yaml)
        assert told.startswith(f"config.yaml:{line}: ")

    @pytest.mark.parametrize(
        ("yaml", "told"),
        [
            ("http: [1\nlog: {}\n", "a bracket [ is not closed"),
            ("http: {port: 1\nlog: x\n", "a brace { is not closed"),
            ("http: [", "is not closed"),
            ("http:\n\tport: 1\n", "a tab"),
            ('x: "secret', "a quote is not closed"),
            ("x: a: secret\n", "quote a text that has one"),
            ("http\nlog: {}\n", "a key has no colon"),
            ("http:\n    port: 1\n  host: secret\n", "the indent fits nothing above it"),
            ("x: 'It's secret'\n", "behind its closing quote"),
            ('x: "a "secret" b"\n', "behind its closing quote"),
            ("x: @secret\n", "has to be quoted"),
        ],
    )
    def test_wrong_yaml_is_told_in_words_for_people(self, folder: Path, yaml: str, told: str) -> None:
        [line] = refused(folder, SHOP + yaml)
        assert told in line
        assert "secret" not in line

    def test_a_wrong_database_url_is_named_by_its_place_once(self, folder: Path) -> None:
        [told] = refused(folder, DATABASE_URL="foo")
        assert (
            told == "DATABASE_URL: database.url: must look like postgresql://user:password@host:5432/database"
        )

    def test_an_empty_file_is_not_said_to_be_missing(self, folder: Path) -> None:
        [here] = refused(folder, "# nothing yet\n")
        assert here == "tenants: is missing (config.yaml says nothing)"
        (folder / "other.yaml").touch()
        with pytest.raises(ConfigError, match=r"^tenants: is missing \(other\.yaml says nothing\)$"):
            load(folder / "other.yaml", environ={})

    def test_what_is_left_of_the_sample_is_warned_of(self, folder: Path) -> None:
        sample = SHOP + '    admins: ["+5511999990001"]\n'
        assert [w.place for w in warnings(configured(folder, sample))] == [
            "tenants[0].owner",
            "tenants[0].admins",
        ]
        own = SHOP.replace("+5511999990000", "+5511999990002")
        assert not list(warnings(configured(folder, own)))

    def test_a_number_that_lacks_its_country_code_is_warned_of(self, folder: Path) -> None:
        yaml = SHOP.replace("+5511999990000", "11 98765-4321") + "    admins: ['612 345 678']\n"
        told = list(warnings(configured(folder, yaml + "    notify: {to: '+5511999990007'}\n")))
        assert [problem.place for problem in told] == ["tenants[0].owner", "tenants[0].admins[0]"]
        assert "+11987654321" in told[0].message

    def test_what_is_no_configuration_at_all(self, folder: Path) -> None:
        assert refused(folder, "just words") == ["config.yaml:1: should consist of sections, like `http:`"]
        assert refused(folder, "a: \x01") == ["config.yaml: holds a character that YAML forbids"]
        (folder / "config.yaml").write_bytes(b"\xff\xfe")
        with pytest.raises(ConfigError, match=r"^config\.yaml: is not UTF-8 text$"):
            load(environ={})

    def test_without_a_file_the_way_out_is_named(self, folder: Path) -> None:
        with pytest.raises(ConfigError) as refusal:
            load(environ={})
        [problem] = refusal.value.problems
        assert (
            str(problem)
            == "tenants: is missing (there is no config.yaml in this folder: name one with --config)"
        )
        with pytest.raises(ConfigError, match=r"there is no config\.yaml in this folder"):
            load(environ={"DATABASE_URL": "postgresql://db/shop"})
        with pytest.raises(ConfigError, match=r"^other\.yaml: there is no such file$"):
            load(Path("other.yaml"), environ={})

    def test_a_model_without_its_key_is_only_a_warning(self, folder: Path) -> None:
        yaml = SHOP.replace("+5511999990000", "+5511999990002") + "    llm_provider: openai\n"
        [problem] = warnings(configured(folder, yaml))
        assert problem.place == "tenants[0].llm_provider"
        assert "OPENAI_API_KEY" in problem.hint
        assert not list(warnings(configured(folder, yaml, OPENAI_API_KEY="sk-1")))
        assert not list(warnings(configured(folder, yaml + "ai: {base_url: 'http://127.0.0.1:11434/v1'}\n")))


class TestSecrets:
    URL = "postgresql://user:hunter2@db:5432/shop"

    def test_are_never_shown(self, folder: Path) -> None:
        proxy = "whatsapp: {proxy: 'http://me:hunter2@proxy:3128'}\n"
        token = {
            "SIDESTEP__HTTP__TOKEN": "hunter2",
            "ANTHROPIC_API_KEY": "hunter2",
            "OPENAI_API_KEY": "hunter2",
        }
        config = configured(folder, SHOP + proxy, DATABASE_URL=self.URL, **token)
        for shown in (repr(config), str(config), config.model_dump_json()):
            assert "hunter2" not in shown
        assert "5511999990000" not in repr(config)
        assert config.database.url is not None
        assert config.database.url.get_secret_value() == self.URL

    @pytest.mark.parametrize(
        "yaml",
        [
            "database: {url: 'hunter2'}",
            "database: {url: 'postgresql://u:hun#ter2@h/d', other: hunter2}",
            "database: {url: ['hunter2']}",
            "whatsapp: {proxy: 'ftp://u:hunter2@h'}",
            "whatsapp: {proxy: 'http://[hunter2'}",
            "ai: {api: hunter2, effort: hunter2, base_url: hunter2, anthropic_api_key: {a: hunter2}}",
            "http: {port: hunter2}",
            "database: {url: 'hunter2",
        ],
    )
    def test_are_in_no_error(self, folder: Path, yaml: str) -> None:
        (folder / "config.yaml").write_text(SHOP + yaml, encoding="utf-8")
        with pytest.raises(ConfigError) as refusal:
            load(environ={})
        shown = f"{refusal.value} {refusal.value!r}"
        assert "hunter2" not in shown
        assert "ter2@" not in shown
